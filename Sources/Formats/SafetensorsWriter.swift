import Tensors

/// Writes a safetensors file tensor by tensor, without holding more than one tensor's bytes.
public enum SafetensorsWriter {
  /// One tensor to write. `write` is called once, in file order, and hands its bytes to the sink in one or more
  /// pieces; their total must be the size that dtype and shape imply.
  public struct Item {
    public let name: String
    public let dtype: DType
    public let shape: [Int]
    public let write: (_ sink: (UnsafeRawBufferPointer) throws -> Void) throws -> Void

    public init(
      name: String, dtype: DType, shape: [Int],
      write: @escaping (_ sink: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) {
      self.name = name
      self.dtype = dtype
      self.shape = shape
      self.write = write
    }

    public init(name: String, dtype: DType, shape: [Int], bytes: [UInt8]) {
      self.init(name: name, dtype: dtype, shape: shape) { sink in try bytes.withUnsafeBytes { try sink($0) } }
    }
  }

  /// Data order is that of the safetensors library: element size descending, then name, so that every tensor is
  /// aligned. The header is padded with spaces to 8 bytes. Throws `FormatError`, or what an item throws.
  public static func write(
    path: String, _ items: [Item], metadata: [(String, String)] = [("format", "pt")]
  ) throws {
    var ordered: [(item: Item, size: Int)] = []
    var seen: Set<UTF8Key> = [UTF8Key("__metadata__")]
    for item in items {
      guard seen.insert(UTF8Key(item.name)).inserted else {
        throw FormatError.duplicate(path: path, name: item.name)
      }
      var size = item.dtype.byteCount
      for extent in item.shape {
        let (product, overflow) = size.multipliedReportingOverflow(by: extent)
        guard extent >= 0, !overflow else {
          throw FormatError.badField(
            path: path, field: "shape of \(item.name)", value: "\(item.shape)", expected: "sizes of at least 0")
        }
        size = product
      }
      ordered.append((item, size))
    }
    ordered.sort {
      $0.item.dtype.byteCount != $1.item.dtype.byteCount
        ? $0.item.dtype.byteCount > $1.item.dtype.byteCount
        : $0.item.name.utf8.lexicographicallyPrecedes($1.item.name.utf8)
    }
    var header = JSONObject()
    if !metadata.isEmpty {
      header["__metadata__"] = .object(JSONObject(metadata.map { ($0.0, .string($0.1)) }))
    }
    var offset = 0
    for (item, size) in ordered {
      header[item.name] = [
        "dtype": .string(SafetensorsType(item.dtype).rawValue),
        "shape": .array(item.shape.map { .int($0) }),
        "data_offsets": [.int(offset), .int(offset + size)],
      ]
      offset += size
    }
    var text = Array(JSON.object(header).text().utf8)
    text.append(contentsOf: repeatElement(0x20, count: (8 - text.count % 8) % 8))
    let file = try AtomicFile(path: path)
    try file.append(withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) })
    try file.append(text)
    for (item, size) in ordered {
      let start = file.byteCount
      try item.write { try file.append($0) }
      guard file.byteCount - start == size else {
        throw FormatError.badField(
          path: path, field: "bytes given for \(item.name)", value: "\(file.byteCount - start)",
          expected: "\(size)")
      }
    }
    try file.commit()
  }
}
