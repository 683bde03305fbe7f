import Tensors

/// Writes a GGUF file of version 3 tensor by tensor, without holding more than what one tensor hands over.
package enum GGUFWriter {
  /// One tensor to write. `write` is called once, in file order, and hands its bytes to the sink in one or more pieces;
  /// their total must be the size that type and shape imply.
  package struct Item {
    package let name: String
    /// Row-major, slowest first: the reverse of the file's order.
    package let shape: [Int]
    package let type: GGMLType
    package let write: (_ sink: (UnsafeRawBufferPointer) throws -> Void) throws -> Void

    package init(
      name: String, shape: [Int], type: GGMLType,
      write: @escaping (_ sink: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) {
      self.name = name
      self.shape = shape
      self.type = type
      self.write = write
    }

    package var byteCount: Int { shape.reduce(1, *) / type.blockSize * type.blockBytes }
  }

  static let alignment = 32

  /// Writes metadata and items in their order.
  /// - Parameters:
  ///   - path: of the file, which appears whole or not at all.
  ///   - metadata: keys and values in the order of the file.
  ///   - head: tensors that describe the model as metadata does; they come first.
  ///   - items: the other tensors in the order of the file.
  ///   - begun: gets the path under which the file lies until it is complete, when metadata, `head` and
  ///     the table of tensors can be read.
  ///   - written: gets the same when all tensors can be read. When one of both throws, an older file at `path` stays.
  /// - Throws: `FormatError.badField` for a row that is no whole number of blocks, and for another size than declared;
  ///   `.system`; what an item, `begun` or `written` throws.
  package static func write(
    path: String, _ metadata: [(String, GGUFValue)], head: [Item] = [], _ items: [Item],
    begun: (String) throws -> Void = { _ in },
    written: (String) throws -> Void = { _ in }
  ) throws {
    let file = try AtomicFile(path: path)
    var header = GGUFBuffer()
    header.integer(0x4655_4747 as UInt32)
    header.integer(3 as UInt32)
    header.integer(UInt64(head.count + items.count))
    header.integer(UInt64(metadata.count))
    for (key, value) in metadata {
      header.string(key)
      header.typed(value)
    }
    var offset = 0
    for item in head + items {
      guard (item.shape.last ?? 1) % item.type.blockSize == 0 else {
        throw FormatError.badField(
          path: path, field: "row length of \(item.name)", value: "\(item.shape.last ?? 1)",
          expected: "a multiple of \(item.type.blockSize) for \(item.type.name)")
      }
      header.string(item.name)
      header.integer(UInt32(item.shape.count))
      for extent in item.shape.reversed() { header.integer(UInt64(extent)) }
      header.integer(item.type.rawValue)
      header.integer(UInt64(offset))
      offset += aligned(item.byteCount)
    }
    try file.append(header.bytes)
    try pad(file)
    try file.reserve(file.byteCount + offset)
    for item in head { try write(item, to: file) }
    try begun(file.temporary)
    for item in items { try write(item, to: file) }
    try written(file.temporary)
    try file.commit()
  }

  private static func write(_ item: Item, to file: AtomicFile) throws {
    let start = file.byteCount
    try item.write { try file.append($0) }
    guard file.byteCount - start == item.byteCount else {
      throw FormatError.badField(
        path: file.path, field: "bytes given for \(item.name)", value: "\(file.byteCount - start)",
        expected: "\(item.byteCount)")
    }
    try pad(file)
  }

  private static func aligned(_ count: Int) -> Int { (count + alignment - 1) / alignment * alignment }

  private static func pad(_ file: AtomicFile) throws {
    try file.append([UInt8](repeating: 0, count: aligned(file.byteCount) - file.byteCount))
  }
}

/// The bytes of a header. Integers take 32 bits where they fit, as llama.cpp expects those of its keys.
private struct GGUFBuffer {
  var bytes: [UInt8] = []

  mutating func integer<T: FixedWidthInteger>(_ value: T) {
    withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
  }

  mutating func string(_ text: String) {
    integer(UInt64(text.utf8.count))
    bytes += text.utf8
  }

  mutating func typed(_ value: GGUFValue) {
    integer(Self.type(value))
    plain(value, Self.type(value))
  }

  private static func type(_ value: GGUFValue) -> UInt32 {
    switch value {
    case .unsigned(let number): number <= UInt32.max ? 4 : 10
    case .signed(let number): Int32(exactly: number) == nil ? 11 : 5
    case .float32: 6
    case .bool: 7
    case .string: 8
    case .array: 9
    case .float64: 12
    }
  }

  private mutating func plain(_ value: GGUFValue, _ type: UInt32) {
    switch value {
    case .unsigned(let number): type == 4 ? integer(UInt32(number)) : integer(number)
    case .signed(let number): type == 5 ? integer(Int32(number)) : integer(number)
    case .float32(let number): integer(number.bitPattern)
    case .float64(let number): integer(number.bitPattern)
    case .bool(let flag): bytes.append(flag ? 1 : 0)
    case .string(let text): string(text)
    case .array(let values):
      // All of one type, the widest of them; an empty list is one of texts.
      let element = values.map(Self.type).max() ?? 8
      integer(element)
      integer(UInt64(values.count))
      for value in values { plain(value, element) }
    }
  }
}
