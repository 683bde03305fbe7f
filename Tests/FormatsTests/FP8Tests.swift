import Foundation
import Testing

@testable import Formats

/// Weights in fp8 against torch (Tests/Fixtures/fp8/make_fp8.py).
@Suite struct FP8Tests {
  private let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Fixtures/fp8").path

  @Test func the256CodesAreThoseOfTorch() throws {
    let values = try WeightSource(path: folder + "/codes.safetensors").read("values")
    try #require(values.count == 256)
    for (code, value) in values.enumerated() {
      let own = FP8Weight.values[code]
      #expect(own.bitPattern == value.bitPattern || own.isNaN && value.isNaN, "code \(code): \(own), not \(value)")
    }
  }

  @Test func bytesOfE8M0AreExponents() {
    #expect(FP8Weight.power(127) == 1 && FP8Weight.power(130) == 8 && FP8Weight.power(254) == 0x1p127)
    #expect(FP8Weight.power(0) == 0x1p-127 && FP8Weight.power(255).isNaN)
  }

  /// Rows are decoded alone as they are in the whole matrix; the last blocks are smaller.
  @Test(arguments: [
    ("blocks", FP8Scales(.blocks(rows: 16, columns: 24))), ("powers", FP8Scales(.blocks(rows: 32, columns: 32))),
    ("tensor", FP8Scales(.whole)), ("channel", FP8Scales(.rows)),
    ("compressed_blocks", FP8Scales(.blocks(rows: 16, columns: 24))),
  ]) func weightsAreDecodedExactly(name: String, scales: FP8Scales) throws {
    let weight = "model.layers.0.self_attn.q_proj.weight"
    let wanted = try WeightSource(path: "\(folder)/\(name)/golden.safetensors").read("weight")
    let source = try WeightSource(path: "\(folder)/\(name)", fp8: scales)
    #expect(source.hasFP8 && !source.contains(weight + "_scale") && !source.contains(weight + "_scale_inv"))
    #expect(try source.read(weight) == wanted)
    let rows = 13..<37
    var part = [Float](repeating: 0, count: rows.count * 40)
    try source.read(weight, rows: rows, into: &part)
    #expect(part == Array(wanted[rows.lowerBound * 40..<rows.upperBound * 40]))
    #expect(try source.rawBytes(weight) == nil && source.floatType(weight) == nil)
    // Without a configuration nothing says what the scales mean.
    let error = #expect(throws: FormatError.self) { try WeightSource(path: "\(folder)/\(name)").read(weight) }
    let said = error?.description ?? ""
    #expect(said.contains("tensor \(weight) is stored as F8_E4M3 (config.json has no quantization_config"), "\(said)")
    #expect(said.hasSuffix("cannot be read; supported: F16, BF16, F32, F64, F8_E4M3 with scales"), "\(said)")
  }
}
