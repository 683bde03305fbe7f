import Foundation

/// Writes GGUF files of f32 tensors.
enum GGUFBytes {
  enum Value {
    case integer(UInt32)
    case float(Float)
    case text(String)
    case bools([Bool])
    case texts([String])
  }

  /// A file; tensors are names, sizes from the fastest to the slowest, values.
  static func make(_ metadata: [String: Value], _ tensors: [(String, [UInt64], [Float])]) -> Data {
    var head = Array("GGUF".utf8) + bytes(UInt32(3)) + bytes(UInt64(tensors.count)) + bytes(UInt64(metadata.count))
    for (key, value) in metadata {
      head += text(key)
      switch value {
      case .integer(let v): head += bytes(UInt32(4)) + bytes(v)
      case .float(let v): head += bytes(UInt32(6)) + bytes(v.bitPattern)
      case .text(let v): head += bytes(UInt32(8)) + text(v)
      case .texts(let v): head += bytes(UInt32(9)) + bytes(UInt32(8)) + bytes(UInt64(v.count)) + v.flatMap { text($0) }
      case .bools(let v):
        head += bytes(UInt32(9)) + bytes(UInt32(7)) + bytes(UInt64(v.count)) + v.map { $0 ? 1 : 0 }
      }
    }
    var data: [UInt8] = []
    for (name, sizes, values) in tensors {
      head += text(name) + bytes(UInt32(sizes.count)) + sizes.flatMap { bytes($0) }
      head += bytes(UInt32(0)) + bytes(UInt64(data.count))
      data += values.flatMap { bytes($0.bitPattern) }
      data += [UInt8](repeating: 0, count: (32 - data.count % 32) % 32)
    }
    return Data(head + [UInt8](repeating: 0, count: (32 - head.count % 32) % 32) + data)
  }

  private static func bytes<T: FixedWidthInteger>(_ v: T) -> [UInt8] {
    withUnsafeBytes(of: v.littleEndian) { Array($0) }
  }

  private static func text(_ s: String) -> [UInt8] { bytes(UInt64(s.utf8.count)) + Array(s.utf8) }
}

/// Runs `body` with a fresh folder that is removed afterwards.
func withFolder<R>(_ body: (URL) throws -> R) throws -> R {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder)
}
