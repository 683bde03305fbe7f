import Foundation
import Testing

@testable import Formats

/// A tensor without elements is bounded by no bytes, so its sizes are bounded by themselves.
@Suite struct EmptyShapeTests {
  private func open(_ shape: String) throws -> SafetensorsFile {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let header = Array(#"{"t":{"dtype":"F32","shape":\#(shape),"data_offsets":[0,0]}}"#.utf8)
    let length = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) }
    try Data(length + header).write(to: URL(fileURLWithPath: path))
    return try SafetensorsFile(path: path)
  }

  /// No tensor of the engine has more, and an error about the tensor would not name the file.
  @Test func moreThanEightDimensionsAreRefused() throws {
    #expect(try open("[0, 1, 1, 1, 1, 1, 1, 1]").entries[0].shape.count == 8)
    let error = #expect(throws: FormatError.self) { try open("[0, 1, 1, 1, 1, 1, 1, 1, 1]") }
    #expect(error?.description.contains("shape of t is [0, 1, 1, 1, 1, 1, 1, 1, 1], expected at most 8") ?? false)
  }

  @Test func hugeSizesAreRefused() throws {
    #expect(try open("[0, 7]").entries[0].byteCount == 0)
    for shape in ["[2305843009213693951, 0]", "[0, 4294967296]", "[0, 2147483649]", "[0, 2147483648, 65536]"] {
      let error = #expect(throws: FormatError.self) { try open(shape) }
      #expect(error?.description.contains("shape of t") ?? false)
    }
  }
}
