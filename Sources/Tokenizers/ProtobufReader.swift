/// Walks over the fields of a protobuf message (protobuf.dev/programming-guides/encoding); every length is checked.
struct ProtobufReader {
  enum Payload {
    case varint(UInt64)
    case fixed32(UInt32)
    case fixed64(UInt64)
    case bytes(UnsafeRawBufferPointer)
  }
  struct Field {
    let number: UInt64
    let offset: Int
    let payload: Payload
  }

  private let data: UnsafeRawBufferPointer
  private let file: String
  /// Offset of `data` in the file, for messages.
  private let origin: Int
  private var at = 0

  init(_ data: UnsafeRawBufferPointer, file: String, origin: Int = 0) {
    self.data = data
    self.file = file
    self.origin = origin
  }

  private func fail(_ problem: String) -> TokenizerError {
    .badProtobuf(file: file, offset: origin + at, problem: problem)
  }

  private mutating func varint() throws(TokenizerError) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 64, by: 7) {
      guard at < data.count else { throw fail("number cut off") }
      let byte = data[at]
      at += 1
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
    }
    throw fail("number of more than 64 bits")
  }

  private mutating func fixed<T: FixedWidthInteger>(_: T.Type) throws(TokenizerError) -> T {
    let size = MemoryLayout<T>.size
    guard data.count - at >= size else { throw fail("field cut off") }
    defer { at += size }
    return T(littleEndian: data.loadUnaligned(fromByteOffset: at, as: T.self))
  }

  /// The next field; nil at the end of the message.
  mutating func next() throws(TokenizerError) -> Field? {
    guard at < data.count else { return nil }
    let tag = try varint()
    let offset = origin + at
    let number = tag >> 3
    guard number > 0 else { throw fail("field number 0") }
    switch tag & 7 {
    case 0: return Field(number: number, offset: offset, payload: .varint(try varint()))
    case 1: return Field(number: number, offset: offset, payload: .fixed64(try fixed(UInt64.self)))
    case 2:
      let count = try varint()
      guard count <= UInt64(data.count - at) else { throw fail("field of \(count) bytes cut off") }
      let start = at
      at += Int(count)
      let bytes = UnsafeRawBufferPointer(rebasing: data[start..<at])
      return Field(number: number, offset: origin + start, payload: .bytes(bytes))
    case 5: return Field(number: number, offset: offset, payload: .fixed32(try fixed(UInt32.self)))
    default: throw fail("wire type \(tag & 7)")
    }
  }

  private func mistyped(_ field: Field) -> TokenizerError {
    .badProtobuf(file: file, offset: field.offset, problem: "field \(field.number) has another type")
  }

  func varint(_ field: Field) throws(TokenizerError) -> UInt64 {
    guard case .varint(let value) = field.payload else { throw mistyped(field) }
    return value
  }

  func float(_ field: Field) throws(TokenizerError) -> Float {
    guard case .fixed32(let bits) = field.payload else { throw mistyped(field) }
    return Float(bitPattern: bits)
  }

  func bytes(_ field: Field) throws(TokenizerError) -> UnsafeRawBufferPointer {
    guard case .bytes(let bytes) = field.payload else { throw mistyped(field) }
    return bytes
  }

  func string(_ field: Field) throws(TokenizerError) -> String {
    let raw = try bytes(field)
    guard let text = String(validating: raw, as: UTF8.self) else {
      throw .badProtobuf(file: file, offset: field.offset, problem: "text is not UTF-8")
    }
    return text
  }

  func message(_ field: Field) throws(TokenizerError) -> ProtobufReader {
    ProtobufReader(try bytes(field), file: file, origin: field.offset)
  }
}
