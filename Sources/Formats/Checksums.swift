/// The SHA-256 of every file of a folder, in a list that lies beside them. It is what `sha256sum` writes, so that
/// `sha256sum -c SHA256SUMS` checks it too.
package enum Checksums {
  package static let listName = "SHA256SUMS"

  /// Writes the list of the files that are there now.
  package static func write(_ folder: String) throws(FormatError) {
    try AtomicFile.write("\(folder)/\(listName)", try lines(folder).map { $0.line + "\n" }.joined())
  }

  /// Reads every file of the folder and compares it with the list.
  /// - Throws: `FormatError.missingFile` without a list; `.checksum` for a file or a list that is not what it was;
  ///   `.unlisted` for a file that was not there when the list was written.
  package static func verify(_ folder: String) throws(FormatError) {
    let list = "\(folder)/\(listName)"
    guard FileSystem.exists(list) else { throw .missingFile(path: folder, looked: [listName]) }
    let stored = try MappedFile(path: list).withBytes { String(decoding: $0, as: UTF8.self) }
    let found = try lines(folder)
    if stored == found.map({ $0.line + "\n" }).joined() { return }
    var listed: [String: String] = [:]
    for line in stored.split(separator: "\n").map(String.init) {
      guard let name = name(line), listed.updateValue(line, forKey: name) == nil else {
        throw .checksum(path: list, list: listName)
      }
    }
    for (name, line) in found {
      let path = "\(folder)/\(name)"
      guard let was = listed.removeValue(forKey: name) else { throw .unlisted(path: path, list: listName) }
      guard was == line else { throw .checksum(path: path, list: listName) }
    }
    guard let missing = listed.keys.min() else { throw .checksum(path: list, list: listName) }
    throw .missingFile(path: folder, looked: [missing])
  }

  /// The name on a well-formed line: 64 digits, two blanks, a name.
  private static func name(_ line: String) -> String? {
    let parts = line.split(separator: "  ", maxSplits: 1)
    guard parts.count == 2, parts[0].utf8.count == 64, parts[0].utf8.allSatisfy({ isDigit($0) }) else { return nil }
    return String(parts[1])
  }

  private static func isDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
  }

  private static func lines(_ folder: String) throws(FormatError) -> [(name: String, line: String)] {
    var found: [(name: String, line: String)] = []
    for name in try files(folder, below: "") where name != listName {
      found.append((name, "\(try hash("\(folder)/\(name)"))  \(name)"))
    }
    return found
  }

  /// The hash of a file, of which a MiB at a time is in the memory of this process: checkpoints are written while a
  /// limit on memory holds.
  private static func hash(_ path: String) throws(FormatError) -> String {
    let file = try MappedFile(path: path)
    var hash = SHA256()
    for start in stride(from: 0, to: file.byteCount, by: 1 << 20) {
      let piece = start..<min(start + 1 << 20, file.byteCount)
      file.withBytes { hash.update(UnsafeRawBufferPointer(rebasing: $0[piece])) }
      file.advise(.dontNeed, piece)
    }
    return hash.finish()
  }

  private static func files(_ folder: String, below prefix: String) throws(FormatError) -> [String] {
    var found: [String] = []
    for name in try FileSystem.list(prefix.isEmpty ? folder : "\(folder)/\(prefix)") {
      let path = prefix.isEmpty ? name : "\(prefix)/\(name)"
      if FileSystem.isDirectory("\(folder)/\(path)") {
        found += try files(folder, below: path)
      } else {
        found.append(path)
      }
    }
    return found
  }
}
