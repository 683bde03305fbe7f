import Tensors

/// A metadata value. Integers of all widths are widened; f32 stays apart so that it can be printed shortest.
package enum GGUFValue: Sendable, Equatable {
  case unsigned(UInt64)
  case signed(Int64)
  case float32(Float)
  case float64(Double)
  case bool(Bool)
  case string(String)
  case array([GGUFValue])

  package var int: Int? {
    switch self {
    case .unsigned(let value): Int(exactly: value)
    case .signed(let value): Int(value)
    default: nil
    }
  }
  /// An f32 becomes the double with the same shortest decimal digits (1e-05, not 9.999999747e-06), which is what
  /// the config that the file was made from said.
  package var double: Double? {
    switch self {
    case .float32(let value): Double("\(value)")
    case .float64(let value): value
    default: int.map { Double($0) }
    }
  }
  package var string: String? { if case .string(let value) = self { value } else { nil } }
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var array: [GGUFValue]? { if case .array(let value) = self { value } else { nil } }
}

extension GGUFValue {
  /// The value as JSON, for errors and comparisons; long lists are cut.
  package var json: JSON {
    switch self {
    case .unsigned, .signed: int.map { .int($0) } ?? .number(.infinity)
    case .float32, .float64: .number(double ?? .nan)
    case .bool(let value): .bool(value)
    case .string(let text): .string(text)
    case .array(let values): .array(values.prefix(8).map(\.json))
    }
  }
}

/// A GGUF file of version 2 or 3 (little-endian): metadata and tensor table validated on opening, data mapped.
package final class GGUFFile: Sendable {
  package struct Tensor: Sendable {
    package let name: String
    /// Row-major, slowest first (`[out, in]`): the reverse of the file's order.
    package let shape: [Int]
    /// nil for a type that cannot be read; using such a tensor is an error, its presence is not.
    package let type: GGMLType?
    package let typeNumber: UInt32
    /// From the start of the file.
    package let byteOffset: Int
    /// 0 where the type is unknown.
    package let byteCount: Int

    package var rowLength: Int { shape.last ?? 1 }
    package var rowCount: Int { shape.dropLast().reduce(1, *) }
  }

  package let version: UInt32
  package let metadata: [String: GGUFValue]
  package let tensors: [Tensor]
  package let alignment: Int
  package let file: MappedFile
  private let index: [UTF8Key: Int]

  package var path: String { file.path }

  package init(path: String) throws(FormatError) {
    let file = try MappedFile(path: path)
    self.file = file
    var reader = GGUFReader(file: file)
    guard file.byteCount >= 24, try reader.integer(UInt32.self) == 0x4655_4747 else {
      throw .notThisFormat(path: path, expected: "GGUF")
    }
    version = try reader.integer(UInt32.self)
    guard version == 2 || version == 3 else {
      throw .badField(path: path, field: "GGUF version", value: "\(version)", expected: "2 or 3, little-endian")
    }
    // A tensor record takes at least 24 bytes, a metadata record at least 13.
    let tensorCount = try reader.count(of: "tensors", minimumBytes: 24)
    let metadataCount = try reader.count(of: "metadata entries", minimumBytes: 13)
    var metadata: [String: GGUFValue] = [:]
    for _ in 0..<metadataCount {
      let key = try reader.string()
      let type = try reader.integer(UInt32.self)
      guard metadata.updateValue(try reader.value(type: type, key: key, depth: 0), forKey: key) == nil else {
        throw .duplicate(path: path, name: key)
      }
    }
    self.metadata = metadata
    let alignment = metadata["general.alignment"]?.int ?? 32
    guard alignment > 0, alignment <= 1 << 20, alignment & (alignment - 1) == 0 else {
      throw .badField(
        path: path, field: "general.alignment", value: "\(alignment)", expected: "a power of two up to 2^20")
    }
    self.alignment = alignment
    var raw: [(name: String, dims: [Int], type: UInt32, offset: UInt64)] = []
    for _ in 0..<tensorCount { raw.append(try reader.tensorRecord()) }
    let dataStart = (reader.at + alignment - 1) / alignment * alignment
    guard tensorCount == 0 || dataStart <= file.byteCount else {
      throw .outOfBounds(
        path: path, what: "tensor data", offset: UInt64(dataStart), count: 0, size: UInt64(file.byteCount))
    }
    var tensors: [Tensor] = []
    var index: [UTF8Key: Int] = [:]
    for record in raw {
      guard index.updateValue(tensors.count, forKey: UTF8Key(record.name)) == nil else {
        throw .duplicate(path: path, name: record.name)
      }
      tensors.append(try GGUFFile.tensor(record, dataStart: dataStart, alignment: alignment, file: file))
    }
    self.tensors = tensors
    self.index = index
  }

  private static func tensor(
    _ record: (name: String, dims: [Int], type: UInt32, offset: UInt64), dataStart: Int, alignment: Int,
    file: MappedFile
  ) throws(FormatError) -> Tensor {
    let path = file.path
    let available = UInt64(file.byteCount - dataStart)
    var elements = 1
    for extent in record.dims {
      // Zero counts as one here, so that products of the other sizes cannot overflow elsewhere.
      let (product, overflow) = elements.multipliedReportingOverflow(by: max(extent, 1))
      guard !overflow, product <= Int.max / 8 else {
        throw .badField(
          path: path, field: "shape of \(record.name)", value: "\(record.dims)", expected: "a size below 2^60")
      }
      elements = product
    }
    if record.dims.contains(0) {
      guard record.dims.allSatisfy({ $0 <= emptyExtentLimit }) else {
        throw .badField(
          path: path, field: "shape of \(record.name)", value: "\(record.dims)",
          expected: "sizes up to 2^31 beside a size of 0")
      }
      elements = 0
    }
    guard record.offset % UInt64(alignment) == 0 else {
      throw .badField(
        path: path, field: "offset of \(record.name)", value: "\(record.offset)",
        expected: "a multiple of \(alignment)")
    }
    let type = GGMLType(rawValue: record.type)
    var size = 0
    if let type {
      guard (record.dims.first ?? 1) % type.blockSize == 0 else {
        throw .badField(
          path: path, field: "row length of \(record.name)", value: "\(record.dims.first ?? 1)",
          expected: "a multiple of \(type.blockSize) for \(type.name)")
      }
      size = elements / type.blockSize * type.blockBytes
    }
    guard record.offset <= available, UInt64(size) <= available - record.offset else {
      throw .outOfBounds(
        path: path, what: "tensor \(record.name)", offset: record.offset, count: UInt64(size), size: available)
    }
    return Tensor(
      name: record.name, shape: record.dims.reversed(), type: type, typeNumber: record.type,
      byteOffset: dataStart + Int(record.offset), byteCount: size)
  }

  package func tensor(_ name: String) throws(FormatError) -> Tensor {
    guard let at = index[UTF8Key(name)] else { throw .missingTensor(path: path, tensor: name) }
    return tensors[at]
  }

  package func contains(_ name: String) -> Bool { index[UTF8Key(name)] != nil }

  /// The stored bytes; valid while this object lives.
  package func bytes(of name: String) throws(FormatError) -> UnsafeRawBufferPointer {
    let tensor = try tensor(name)
    _ = try readableType(tensor)
    return UnsafeRawBufferPointer(rebasing: file.bytes[tensor.byteOffset..<tensor.byteOffset + tensor.byteCount])
  }

  func readableType(_ tensor: Tensor) throws(FormatError) -> GGMLType {
    guard let type = tensor.type else {
      throw .unsupportedType(
        path: path, tensor: tensor.name, type: GGMLType.name(of: tensor.typeNumber), supported: GGMLType.supported)
    }
    return type
  }

  /// Decodes rows to f32: `rows.count * rowLength` values. All dimensions but the last count as rows.
  package func dequantize(
    _ name: String, rows: Range<Int>, into out: UnsafeMutablePointer<Float>
  ) throws(FormatError) {
    let tensor = try tensor(name)
    let type = try readableType(tensor)
    guard rows.lowerBound >= 0, rows.upperBound <= tensor.rowCount else {
      throw .rows(path: path, tensor: name, rows: rows, available: tensor.rowCount)
    }
    guard tensor.byteCount > 0, !rows.isEmpty, let base = file.bytes.baseAddress else { return }
    let blocksPerRow = tensor.rowLength / type.blockSize
    BlockDecoder.run(
      type, base + tensor.byteOffset + rows.lowerBound * blocksPerRow * type.blockBytes,
      blocks: rows.count * blocksPerRow, into: out)
  }

  /// llama.cpp stores the rows of `attn_q` and `attn_k` of architecture `llama` reordered, pairing the two halves
  /// of each head for its rotary embedding (`LlamaModel.permute` in convert_hf_to_gguf.py). Returns for each row of
  /// the Hugging Face tensor the row of the GGUF tensor: row `h * d + s * d/2 + i` comes from `h * d + 2 * i + s`.
  /// `headCount` is the number of query heads for `attn_q`, of key-value heads for `attn_k`.
  package static func unpermuteRows(rowCount: Int, headCount: Int) -> ((Int) -> Int)? {
    guard headCount > 0, rowCount % (2 * headCount) == 0 else { return nil }
    let width = rowCount / headCount, half = width / 2
    return { row in
      let within = row % width
      return row - within + 2 * (within % half) + within / half
    }
  }
}

/// A bounds-checked cursor over the header.
struct GGUFReader {
  let file: MappedFile
  private(set) var at = 0

  init(file: MappedFile) { self.file = file }

  private mutating func take(_ count: UInt64, _ what: String) throws(FormatError) -> UnsafeRawBufferPointer {
    let part = try file.slice(UInt64(at), count, what: what)
    at += Int(count)
    return part
  }

  mutating func integer<T: FixedWidthInteger>(_ type: T.Type) throws(FormatError) -> T {
    T(littleEndian: try take(UInt64(MemoryLayout<T>.size), "header field").loadUnaligned(as: T.self))
  }

  mutating func string() throws(FormatError) -> String {
    let length = try integer(UInt64.self)
    return String(decoding: try take(length, "header string"), as: UTF8.self)
  }

  /// A count, refused where the rest of the file could not hold that many items.
  mutating func count(of what: String, minimumBytes: Int) throws(FormatError) -> Int {
    let count = try integer(UInt64.self)
    let rest = file.byteCount - at
    guard count <= UInt64(rest / minimumBytes) else {
      throw .badField(
        path: file.path, field: "number of \(what)", value: "\(count)",
        expected: "at most \(rest / minimumBytes) in the \(rest) bytes left")
    }
    return Int(count)
  }

  mutating func value(type: UInt32, key: String, depth: Int) throws(FormatError) -> GGUFValue {
    switch type {
    case 0: return .unsigned(UInt64(try integer(UInt8.self)))
    case 1: return .signed(Int64(try integer(Int8.self)))
    case 2: return .unsigned(UInt64(try integer(UInt16.self)))
    case 3: return .signed(Int64(try integer(Int16.self)))
    case 4: return .unsigned(UInt64(try integer(UInt32.self)))
    case 5: return .signed(Int64(try integer(Int32.self)))
    case 6: return .float32(Float(bitPattern: try integer(UInt32.self)))
    case 7: return .bool(try integer(UInt8.self) != 0)
    case 8: return .string(try string())
    case 9 where depth < 4:
      let element = try integer(UInt32.self)
      let sizes: [UInt32: Int] = [0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 8: 8, 9: 12, 10: 8, 11: 8, 12: 8]
      let count = try count(of: "elements of \(key)", minimumBytes: sizes[element] ?? 1)
      var values: [GGUFValue] = []
      values.reserveCapacity(count)
      for _ in 0..<count { values.append(try value(type: element, key: key, depth: depth + 1)) }
      return .array(values)
    case 10: return .unsigned(try integer(UInt64.self))
    case 11: return .signed(try integer(Int64.self))
    case 12: return .float64(Double(bitPattern: try integer(UInt64.self)))
    default:
      throw .badField(path: file.path, field: "type of \(key)", value: "\(type)", expected: "a value type 0...12")
    }
  }

  mutating func tensorRecord() throws(FormatError) -> (name: String, dims: [Int], type: UInt32, offset: UInt64) {
    let name = try string()
    let rank = try integer(UInt32.self)
    guard rank <= 4 else {
      throw .badField(path: file.path, field: "rank of \(name)", value: "\(rank)", expected: "at most 4")
    }
    var dims: [Int] = []
    for _ in 0..<rank {
      let extent = try integer(UInt64.self)
      guard let size = Int(exactly: extent) else {
        throw .badField(path: file.path, field: "shape of \(name)", value: "\(extent)", expected: "a 63-bit size")
      }
      dims.append(size)
    }
    return (name, dims, try integer(UInt32.self), try integer(UInt64.self))
  }
}
