import Foundation
import Tensors
import Testing

@Suite struct BlockEncoderTests {
  /// In the order of the fixture, which ggml made (Tests/Fixtures/formats/make_encoded.py).
  private static let order: [GGMLType] = [.q8_0, .q4_0, .q5_0, .q5_1, .q4_K, .q5_K, .q6_K, .f16, .bf16]

  private func values() throws -> [Float] {
    try Data(contentsOf: URL(fileURLWithPath: Fixture.path("encoded.f32"))).withUnsafeBytes {
      Array($0.bindMemory(to: Float.self))
    }
  }

  private func encoded(_ type: GGMLType, _ values: [Float]) -> [UInt8] {
    let blocks = values.count / type.blockSize
    var bytes = [UInt8](repeating: 0xAA, count: blocks * type.blockBytes)
    bytes.withUnsafeMutableBytes { BlockEncoder.run(type, values, blocks: blocks, into: $0.baseAddress!) }
    return bytes
  }

  @Test func bytesAreThoseOfGGML() throws {
    let values = try values()
    let expected = [UInt8](try Data(contentsOf: URL(fileURLWithPath: Fixture.path("encoded.blocks"))))
    var at = 0
    for type in Self.order {
      let bytes = encoded(type, values)
      let wrong = zip(bytes, expected[at..<at + bytes.count]).enumerated().filter { $1.0 != $1.1 }.map(\.offset)
      let first = wrong.first ?? 0
      #expect(
        wrong.isEmpty, "\(type.name): \(wrong.count) bytes, the first \(first) of block \(first / type.blockBytes)")
      at += bytes.count
    }
    #expect(at == expected.count)
  }

  @Test func decodingGivesTheValuesWithinTheErrorOfTheFormat() throws {
    var random = SystemRandomNumberGenerator()
    let values = (0..<4096).map { _ in Float.random(in: -1...1, using: &random) }
    let limits: [(GGMLType, Double)] = [
      (.f32, 0), (.bf16, 3e-3), (.f16, 4e-4), (.q8_0, 6e-3), (.q6_K, 0.025), (.q5_K, 0.045), (.q5_0, 0.055),
      (.q5_1, 0.05),
      (.q4_K, 0.09), (.q4_0, 0.11),
    ]
    #expect(Set(limits.map(\.0)) == Set(BlockEncoder.types))
    for (type, limit) in limits {
      let bytes = encoded(type, values)
      var back = [Float](repeating: .nan, count: values.count)
      bytes.withUnsafeBytes {
        BlockDecoder.run(type, $0.baseAddress!, blocks: values.count / type.blockSize, into: &back)
      }
      let error = zip(values, back).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
      let size = values.reduce(0.0) { $0 + Double($1 * $1) }
      #expect((error / size).squareRoot() <= limit, "\(type.name): \((error / size).squareRoot())")
    }
  }

  @Test func everyHalfComesBack() {
    for bits in UInt16.min ... .max where bits & 0x7C00 != 0x7C00 {
      var value: Float = 0
      withUnsafeBytes(of: bits.littleEndian) { BlockDecoder.run(.f16, $0.baseAddress!, blocks: 1, into: &value) }
      #expect(encoded(.f16, [value]) == [UInt8(bits & 255), UInt8(bits >> 8)])
    }
    #expect(encoded(.f16, [65519.99, 65520, -1e9]) == [0xFF, 0x7B, 0, 0x7C, 0, 0xFC])
  }
}
