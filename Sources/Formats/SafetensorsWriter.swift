import Tensors

/// Writes a safetensors file tensor by tensor, without holding more than one tensor's bytes.
package enum SafetensorsWriter {
  /// One tensor to write. `write` is called once, in file order, and hands its bytes to the sink in one or more
  /// pieces; their total must be the size that dtype and shape imply.
  package struct Item {
    package let name: String
    package let dtype: DType
    package let shape: [Int]
    package let write: (_ sink: (UnsafeRawBufferPointer) throws -> Void) throws -> Void

    package init(
      name: String, dtype: DType, shape: [Int],
      write: @escaping (_ sink: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) {
      self.name = name
      self.dtype = dtype
      self.shape = shape
      self.write = write
    }

    package init(name: String, dtype: DType, shape: [Int], bytes: [UInt8]) {
      self.init(name: name, dtype: dtype, shape: shape) { sink in try bytes.withUnsafeBytes { try sink($0) } }
    }
  }

  /// The items in the order in which `write` writes them.
  package static func inFileOrder(_ items: [Item]) -> [Item] {
    items.sorted { SafetensorsLayout.comesFirst(($0.dtype, $0.name), ($1.dtype, $1.name)) }
  }

  /// Writes the items in the order of `SafetensorsLayout`. Throws `FormatError`, or what an item throws.
  package static func write(
    path: String, _ items: [Item], metadata: [(String, String)] = [("format", "pt")]
  ) throws {
    let layout = try SafetensorsLayout(
      path: path, items.map { .init(name: $0.name, dtype: $0.dtype, shape: $0.shape) }, metadata: metadata)
    let file = try AtomicFile(path: path)
    try file.append(layout.header)
    for index in layout.order {
      let (item, size) = (items[index], layout.extents[index].count)
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

/// Where each tensor of a safetensors file lies, from names, types and shapes alone.
///
/// Data order is that of the safetensors library: element size descending, then name, so that every tensor is
/// aligned. The header is padded with spaces to 8 bytes.
struct SafetensorsLayout {
  struct Declaration {
    let name: String
    let dtype: DType
    let shape: [Int]
  }

  /// Length and JSON text, as they stand at the start of the file.
  let header: [UInt8]
  /// Numbers of the declarations in the order of the data.
  let order: [Int]
  /// Byte range of each declaration from the start of the file, in the order they were given.
  let extents: [Range<Int>]

  /// Whether the data of `a` lies before that of `b`.
  static func comesFirst(_ a: (dtype: DType, name: String), _ b: (dtype: DType, name: String)) -> Bool {
    a.dtype.byteCount != b.dtype.byteCount
      ? a.dtype.byteCount > b.dtype.byteCount : a.name.utf8.lexicographicallyPrecedes(b.name.utf8)
  }

  /// - Throws: `duplicate`, `badField` for a shape whose size overflows.
  init(
    path: String, _ declarations: [Declaration], metadata: [(String, String)] = [("format", "pt")]
  ) throws(FormatError) {
    var seen: Set<UTF8Key> = [UTF8Key("__metadata__")]
    var sizes: [Int] = []
    for item in declarations {
      guard seen.insert(UTF8Key(item.name)).inserted else { throw .duplicate(path: path, name: item.name) }
      var size = item.dtype.byteCount
      for extent in item.shape {
        let (product, overflow) = size.multipliedReportingOverflow(by: extent)
        guard extent >= 0, !overflow else {
          throw .badField(
            path: path, field: "shape of \(item.name)", value: "\(item.shape)", expected: "sizes of at least 0")
        }
        size = product
      }
      sizes.append(size)
    }
    order = declarations.indices.sorted {
      let (a, b) = (declarations[$0], declarations[$1])
      return Self.comesFirst((a.dtype, a.name), (b.dtype, b.name))
    }
    var members = JSONObject()
    if !metadata.isEmpty {
      members["__metadata__"] = .object(JSONObject(metadata.map { ($0.0, .string($0.1)) }))
    }
    var offset = 0
    var extents = [Range<Int>](repeating: 0..<0, count: declarations.count)
    for index in order {
      extents[index] = offset..<offset + sizes[index]
      offset += sizes[index]
      members[declarations[index].name] = [
        "dtype": .string(SafetensorsType(declarations[index].dtype).rawValue),
        "shape": .array(declarations[index].shape.map { .int($0) }),
        "data_offsets": [.int(extents[index].lowerBound), .int(extents[index].upperBound)],
      ]
    }
    var text = Array(JSON.object(members).text().utf8)
    text.append(contentsOf: repeatElement(0x20, count: (8 - text.count % 8) % 8))
    header = withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text
    let dataStart = header.count
    self.extents = extents.map { $0.lowerBound + dataStart..<$0.upperBound + dataStart }
  }
}
