/// A record of a data file: a JSON object and where it begins.
package struct Record {
  /// The fields.
  package let value: JSON
  /// The line of its first byte, counted from 1.
  package let line: Int
}

/// Data sets as lists of JSON objects. The kind is taken from the file's ending and, for `.json`, its content. Nothing
/// is lost on the way: a key that occurs twice and an integer beyond 64 bits are errors.
package enum Records {
  /// - `.json`: an array of objects, or JSON lines
  /// - `.jsonl`, `.ndjson`: one object a line, empty lines skipped
  /// - `.csv`, `.tsv`: RFC 4180 with a header row; all values are strings
  /// - `.txt`: one record `{"text": whole file}`
  /// - Throws: `FormatError.json` and `.record` with the line, `.system`, `.unsupportedFile`.
  package static func read(path: String) throws(FormatError) -> [Record] {
    try MappedFile(path: path).withBytes { bytes throws(FormatError) in try records(bytes, path: path) }
  }

  /// What the names of such files end in.
  package static let endings = ["json", "jsonl", "ndjson", "csv", "tsv", "txt"]

  private static func records(_ file: UnsafeRawBufferPointer, path: String) throws(FormatError) -> [Record] {
    var bytes = file
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes = UnsafeRawBufferPointer(rebasing: bytes[3...]) }
    if bytes.starts(with: [0xFF, 0xFE]) || bytes.starts(with: [0xFE, 0xFF]) {
      throw .record(path: path, line: 1, problem: "UTF-16 text; save it as UTF-8")
    }
    let kind = path.split(separator: "/").last?.split(separator: ".").last?.lowercased() ?? ""
    switch kind {
    case "json":
      let first = bytes.first { $0 != 0x20 && $0 != 0x0A && $0 != 0x0D && $0 != 0x09 }
      return first == UInt8(ascii: "[") ? try array(bytes, path: path) : try object(bytes, path: path)
    case "jsonl", "ndjson": return try lines(bytes, path: path)
    case "csv": return try table(bytes, separator: UInt8(ascii: ","), path: path)
    case "tsv": return try table(bytes, separator: 0x09, path: path)
    case "txt": return [Record(value: ["text": .string(try text(bytes, path: path))], line: 1)]
    default:
      throw .unsupportedFile(path: path, ending: kind, supported: endings)
    }
  }

  private static func text(_ bytes: UnsafeRawBufferPointer, path: String) throws(FormatError) -> String {
    if let text = String(validating: bytes, as: UTF8.self) { return text }
    // No character of UTF-8 holds the byte of a line's end, so each line is valid by itself or not.
    let lines = bytes.split(separator: 0x0A, omittingEmptySubsequences: false)
    let bad = lines.firstIndex { String(validating: $0, as: UTF8.self) == nil } ?? 0
    throw .record(path: path, line: bad + 1, problem: "not valid UTF-8")
  }

  private static func array(_ bytes: UnsafeRawBufferPointer, path: String) throws(FormatError) -> [Record] {
    var parser = JSONParser(bytes, losesNothing: true)
    let elements: [(value: JSON, offset: Int)]
    do throws(JSONProblem) { elements = try parser.elements() } catch { throw parser.located(error, path: path) }
    var (line, counted) = (1, 0)
    return try elements.map { element throws(FormatError) in
      for byte in bytes[counted..<element.offset] where byte == 0x0A { line += 1 }
      counted = element.offset
      guard element.value.object != nil else { throw .record(path: path, line: line, problem: "not a JSON object") }
      return Record(value: element.value, line: line)
    }
  }

  private static func parse(_ bytes: UnsafeRawBufferPointer, path: String) throws(FormatError) -> JSON {
    var parser = JSONParser(bytes, losesNothing: true)
    do throws(JSONProblem) { return try parser.document() } catch { throw parser.located(error, path: path) }
  }

  /// A `.json` file that does not start with `[`: JSON lines, or one object over several lines, which is one record.
  private static func object(_ bytes: UnsafeRawBufferPointer, path: String) throws(FormatError) -> [Record] {
    do throws(FormatError) { return try lines(bytes, path: path) } catch let linesError {
      do throws(FormatError) {
        let value = try parse(bytes, path: path)
        guard value.object != nil else { throw linesError }
        return [Record(value: value, line: 1)]
      } catch let wholeError {
        // The reading that came further is the one that was meant.
        guard case .json(_, _, let end, _) = linesError, case .json(_, _, let wholeEnd, _) = wholeError else {
          throw linesError
        }
        throw wholeEnd > end ? wholeError : linesError
      }
    }
  }

  private static func lines(_ bytes: UnsafeRawBufferPointer, path: String) throws(FormatError) -> [Record] {
    var records: [Record] = []
    var number = 0
    for part in bytes.split(separator: 0x0A, omittingEmptySubsequences: false) {
      number += 1
      if part.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) { continue }
      do throws(FormatError) {
        let value = try parse(UnsafeRawBufferPointer(rebasing: part), path: path)
        guard value.object != nil else { throw .record(path: path, line: number, problem: "not a JSON object") }
        records.append(Record(value: value, line: number))
      } catch {
        guard case .json(_, _, let offset, let problem) = error else { throw error }
        throw .json(path: path, line: number, offset: part.startIndex + offset, problem: problem)
      }
    }
    return records
  }

  private static func table(
    _ bytes: UnsafeRawBufferPointer, separator: UInt8, path: String
  ) throws(FormatError) -> [Record] {
    var header: [String]?
    var records: [Record] = []
    var at = 0
    var line = 1
    while at < bytes.count {
      let start = line
      guard let row = try row(bytes, &at, &line, separator: separator, path: path) else { continue }
      guard let names = header else {
        var seen: Set<UTF8Key> = []
        for name in row where !seen.insert(UTF8Key(name)).inserted {
          throw .record(path: path, line: start, problem: "column \(name) occurs twice in the header")
        }
        header = row
        continue
      }
      guard row.count == names.count else {
        throw .record(
          path: path, line: start, problem: "\(row.count) fields, but the header has \(names.count) columns")
      }
      records.append(
        Record(value: .object(JSONObject(zip(names, row).map { ($0, .string($1)) })), line: start))
    }
    return records
  }

  /// Reads one row; nil for an empty line. `line` counts line ends inside quotes as well.
  private static func row(
    _ bytes: UnsafeRawBufferPointer, _ at: inout Int, _ line: inout Int, separator: UInt8, path: String
  ) throws(FormatError) -> [String]? {
    let quote = UInt8(ascii: "\"")
    let start = line
    var fields: [String] = []
    var field: [UInt8] = []
    var wasQuoted = false
    func finish() throws(FormatError) {
      guard let text = String(validating: field, as: UTF8.self) else {
        throw .record(path: path, line: start, problem: "not valid UTF-8")
      }
      fields.append(text)
      field.removeAll(keepingCapacity: true)
      wasQuoted = false
    }
    while at < bytes.count {
      let c = bytes[at]
      at += 1
      if c == quote && field.isEmpty && !wasQuoted {
        wasQuoted = true
        var closed = false
        while at < bytes.count {
          let inner = bytes[at]
          at += 1
          if inner == quote {
            if at < bytes.count, bytes[at] == quote {
              at += 1
            } else {
              closed = true
              break
            }
          }
          if inner == 0x0A { line += 1 }
          field.append(inner)
        }
        guard closed else { throw .record(path: path, line: start, problem: "a quoted field is not closed") }
      } else if c == separator {
        try finish()
      } else if c == 0x0A || (c == 0x0D && (at == bytes.count || bytes[at] == 0x0A)) {
        if c == 0x0D, at < bytes.count { at += 1 }
        line += 1
        if fields.isEmpty && field.isEmpty && !wasQuoted { return nil }
        try finish()
        return fields
      } else {
        guard !wasQuoted else {
          throw .record(path: path, line: line, problem: "text after a closing quote; double quotes inside a field")
        }
        field.append(c)
      }
    }
    try finish()
    return fields
  }
}
