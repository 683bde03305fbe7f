import Tensors

/// Element types that a safetensors header may name (safetensors 0.7). Only some can be read as numbers here.
package enum SafetensorsType: String, Sendable, CaseIterable {
  case bool = "BOOL", u8 = "U8", i8 = "I8", f8e5m2 = "F8_E5M2", f8e4m3 = "F8_E4M3", f8e8m0 = "F8_E8M0"
  case i16 = "I16", u16 = "U16", f16 = "F16", bf16 = "BF16", i32 = "I32", u32 = "U32", f32 = "F32"
  case f64 = "F64", i64 = "I64", u64 = "U64", c64 = "C64"

  package var byteCount: Int {
    switch self {
    case .bool, .u8, .i8, .f8e5m2, .f8e4m3, .f8e8m0: 1
    case .i16, .u16, .f16, .bf16: 2
    case .i32, .u32, .f32: 4
    case .f64, .i64, .u64, .c64: 8
    }
  }

  /// The engine's type, nil where it has none.
  package var dtype: DType? {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    case .i64: .i64
    case .i32: .i32
    case .u8: .u8
    default: nil
    }
  }

  package init(_ dtype: DType) {
    switch dtype {
    case .f32: self = .f32
    case .f16: self = .f16
    case .bf16: self = .bf16
    case .i64: self = .i64
    case .i32: self = .i32
    case .u8: self = .u8
    }
  }
}

/// Largest size of a shape without elements, which no number of bytes bounds.
let emptyExtentLimit = 1 << 31

/// One safetensors file, header completely validated on opening, data mapped.
package final class SafetensorsFile: Sendable {
  package struct Entry: Sendable {
    package let name: String
    package let type: SafetensorsType
    package let shape: [Int]
    /// From the start of the file. Not necessarily aligned to the element size.
    package let byteOffset: Int
    package let byteCount: Int
  }

  /// In the order of the data, which they fill without gaps.
  package let entries: [Entry]
  /// The `__metadata__` member.
  package let metadata: [String: String]
  package let file: MappedFile
  private let index: [UTF8Key: Int]

  package var path: String { file.path }
  /// The reference implementation's limit.
  static let headerLimit: UInt64 = 100_000_000

  package init(path: String) throws(FormatError) {
    let file = try MappedFile(path: path)
    self.file = file
    guard file.byteCount >= 8 else { throw .notThisFormat(path: path, expected: "safetensors") }
    let length = UInt64(littleEndian: file.bytes.loadUnaligned(as: UInt64.self))
    guard length <= SafetensorsFile.headerLimit else {
      throw .badField(
        path: path, field: "header length", value: "\(length)", expected: "at most \(SafetensorsFile.headerLimit)")
    }
    let header = try JSON.parse(try file.slice(8, length, what: "header"), path: path)
    guard case .object(let members) = header else { throw .notThisFormat(path: path, expected: "safetensors") }
    if let name = members.repeatedKey { throw .duplicate(path: path, name: name) }
    let dataStart = 8 + Int(length)
    var metadata: [String: String] = [:]
    var entries: [Entry] = []
    entries.reserveCapacity(members.count)
    for (name, value) in members {
      if name == "__metadata__" {
        // mlx writes null where there is none.
        if value.isNull { continue }
        guard let strings = value.object else {
          throw .badField(path: path, field: name, value: value.text(), expected: "an object of strings")
        }
        for (key, item) in strings {
          guard let text = item.string else {
            throw .badField(path: path, field: "\(name).\(key)", value: item.text(), expected: "a string")
          }
          metadata[key] = text
        }
      } else {
        entries.append(try SafetensorsFile.entry(name, value, dataStart: dataStart, file: file))
      }
    }
    entries.sort { ($0.byteOffset, $0.byteCount, $0.name) < ($1.byteOffset, $1.byteCount, $1.name) }
    try SafetensorsFile.checkCover(entries, dataStart: dataStart, file: file)
    self.entries = entries
    self.metadata = metadata
    index = Dictionary(uniqueKeysWithValues: entries.enumerated().map { (UTF8Key($1.name), $0) })
  }

  /// The tensors must lie one behind the other from the first byte of the data to the last of the file, as the
  /// safetensors library asks (`Metadata::validate`): other bytes are of a damaged file.
  private static func checkCover(_ entries: [Entry], dataStart: Int, file: MappedFile) throws(FormatError) {
    var end = dataStart
    for entry in entries {
      guard entry.byteOffset == end else {
        throw .badField(
          path: file.path, field: "data_offsets of \(entry.name)", value: "[\(entry.byteOffset - dataStart), …]",
          expected: "\(end - dataStart) as its begin, where the tensors before it end")
      }
      end += entry.byteCount
    }
    guard end == file.byteCount else {
      throw .badField(
        path: file.path, field: "bytes behind the last tensor", value: "\(file.byteCount - end)",
        expected: "0: the header describes the whole file; fetch or write it again")
    }
  }

  private static func entry(
    _ name: String, _ value: JSON, dataStart: Int, file: MappedFile
  ) throws(FormatError) -> Entry {
    let path = file.path
    guard let typeName = value["dtype"]?.string, let type = SafetensorsType(rawValue: typeName) else {
      throw .badField(
        path: path, field: "dtype of \(name)", value: value["dtype"]?.text() ?? "absent",
        expected: "one of " + SafetensorsType.allCases.map(\.rawValue).joined(separator: " "))
    }
    guard let shape = value["shape"]?.array?.map({ $0.int ?? -1 }), shape.allSatisfy({ $0 >= 0 }) else {
      throw .badField(
        path: path, field: "shape of \(name)", value: value["shape"]?.text() ?? "absent",
        expected: "a list of sizes")
    }
    guard shape.count <= Shape.maximumRank else {
      throw .badField(
        path: path, field: "shape of \(name)", value: "\(shape)", expected: "at most \(Shape.maximumRank) dimensions")
    }
    guard let offsets = value["data_offsets"]?.array, offsets.count == 2, let begin = offsets[0].int,
      let end = offsets[1].int, begin >= 0, begin <= end
    else {
      throw .badField(
        path: path, field: "data_offsets of \(name)", value: value["data_offsets"]?.text() ?? "absent",
        expected: "[begin, end]")
    }
    var size = type.byteCount
    for extent in shape {
      // Zero counts as one here, so that products of the other sizes cannot overflow elsewhere.
      let (product, overflow) = size.multipliedReportingOverflow(by: max(extent, 1))
      guard !overflow else {
        throw .badField(path: path, field: "shape of \(name)", value: "\(shape)", expected: "a size below 2^63")
      }
      size = product
    }
    if shape.contains(0) {
      guard shape.allSatisfy({ $0 <= emptyExtentLimit }), size / type.byteCount <= Shape.maximumElementCount else {
        throw .badField(
          path: path, field: "shape of \(name)", value: "\(shape)",
          expected: "sizes up to 2^31, and a product up to 2^46, beside a size of 0")
      }
      size = 0
    }
    guard size == end - begin else {
      throw .badField(
        path: path, field: "data_offsets of \(name)", value: "[\(begin), \(end)]",
        expected: "\(size) bytes for \(typeName) \(shape)")
    }
    let available = file.byteCount - dataStart
    guard end <= available else {
      throw .outOfBounds(
        path: path, what: "tensor \(name)", offset: UInt64(begin), count: UInt64(size), size: UInt64(available))
    }
    return Entry(name: name, type: type, shape: shape, byteOffset: dataStart + begin, byteCount: size)
  }

  package func entry(_ name: String) -> Entry? { index[UTF8Key(name)].map { entries[$0] } }

  /// The tensor's bytes, row-major, little-endian; valid while this object lives.
  package func bytes(of name: String) throws(FormatError) -> UnsafeRawBufferPointer {
    guard let entry = entry(name) else { throw .missingTensor(path: path, tensor: name) }
    return bytes(of: entry)
  }

  func bytes(of entry: Entry) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: file.bytes[entry.byteOffset..<entry.byteOffset + entry.byteCount])
  }
}
