import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

/// Calls `body` with the path of a 4-bit copy of a fixture.
private func withQuantized<R>(
  _ fixture: String, _ change: (inout ModelQuantizer.Options) -> Void = { _ in }, _ body: (String) throws -> R
) throws -> R {
  let output = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
  defer { try? FileManager.default.removeItem(atPath: output) }
  var options = ModelQuantizer.Options()
  change(&options)
  try ModelQuantizer(backend: CPUBackend(threadCount: 2), options: options).convert(
    "\(modelFixtures)/\(fixture)", to: output)
  return try body(output)
}

private func load(path: String, _ options: LoadOptions = LoadOptions()) throws -> LanguageModel {
  try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load(path)
}

@Suite struct ModelQuantizerTests {
  private let ids: [Int32] = [1, 17, 4, 99, 23, 5, 5, 61]

  @Test(arguments: ["base", "tied", "bias", "qwen3"], [true, false])
  func theFileGivesTheBitsOfQuantizingWhileLoading(fixture: String, double: Bool) throws {
    for (kind, block) in [(FourBitKind.nf4, 64), (.fp4, 128)] {
      for compute in [DType.bf16, .f32] {
        let fresh = try load(
          path: "\(modelFixtures)/\(fixture)",
          LoadOptions(quantization: kind, blockSize: block, doubleQuantization: double, computeType: compute))
        let stored = try withQuantized(fixture) {
          $0.kind = kind
          $0.blockSize = block
          $0.doubleQuantization = double
        } _: {
          try load(path: $0, LoadOptions(computeType: compute)).logits(ids).floats().map(\.bitPattern)
        }
        #expect(try fresh.logits(ids).floats().map(\.bitPattern) == stored, "\(kind) \(block) \(compute)")
      }
    }
  }

  /// The fixtures nf4 and nf4dq were made from base by transformers and bitsandbytes.
  @Test(arguments: [("nf4", false), ("nf4dq", true)])
  func theFileHasTheTensorsOfBitsandbytes(peer: String, double: Bool) throws {
    let theirs = try WeightSource(path: "\(modelFixtures)/\(peer)")
    try withQuantized("base", { $0.doubleQuantization = double }) { output in
      let ours = try WeightSource(path: output)
      #expect(Set(ours.tensors.map(\.name)) == Set(theirs.tensors.map(\.name)))
      for tensor in theirs.tensors {
        let mine = try ours.tensor(tensor.name)
        let (a, b) = (try #require(try ours.rawBytes(tensor.name)), try #require(try theirs.rawBytes(tensor.name)))
        if tensor.name.contains("quant_state") {
          let (x, y) = (try JSON.parse(a.bytes, path: ""), try JSON.parse(b.bytes, path: ""))
          for (key, value) in try #require(y.object) where key != "nested_offset" { #expect(x[key] == value) }
          let offsets = (x["nested_offset"]?.double ?? 0, y["nested_offset"]?.double ?? 0)
          #expect(abs(offsets.0 - offsets.1) < 1e-6)
        } else {
          #expect(mine.encoding == tensor.encoding && mine.shape == tensor.shape, "\(tensor.name)")
          // bitsandbytes' CPU kernel rounds 8-bit scales through a coarse table.
          let isApproximate = double && tensor.name.contains("absmax")
          #expect(isApproximate || a.bytes.elementsEqual(b.bytes), "\(tensor.name)")
        }
      }
      let config = try JSON.read(path: output + "/config.json")["quantization_config"]
      #expect(config?["load_in_4bit"]?.bool == true && config?["bnb_4bit_use_double_quant"]?.bool == double)
    }
  }

  @Test func codesAndScalesAreViewsOfTheFile() throws {
    for double in [true, false] {
      try withQuantized("base", { $0.doubleQuantization = double }) { output in
        let model = try load(path: output)
        for operand in model.modules.compactMap(\.quantized) {
          #expect(!operand.codes.storage.isWritable && !operand.absmax.storage.isWritable)
        }
        #expect(model.modules.compactMap(\.quantized).count == 7)
      }
    }
  }

  @Test func shardsAreNamedInAnIndexAndGiveTheSameModel() throws {
    let whole = try withQuantized("base") { try load(path: $0).logits(ids).floats() }
    try withQuantized("base", { $0.shardByteCount = 20_000 }) { output in
      let names = try FileManager.default.contentsOfDirectory(atPath: output).filter { $0.hasSuffix(".safetensors") }
      #expect(names.count > 2 && names.allSatisfy { $0.hasPrefix("model-0000") })
      let index = try JSON.read(path: output + "/model.safetensors.index.json")
      let total = try WeightSource(path: output).tensors.reduce(0) { $0 + $1.byteCount }
      #expect(index["metadata"]?["total_size"]?.int == total)
      #expect(try load(path: output).logits(ids).floats() == whole)
    }
  }

  /// bitsandbytes does not quantize the experts of transformers 5, which then finds parameters of other shapes.
  @Test(arguments: [("families/mixtral", 1), ("families/qwen3_moe", 1), ("families/llama", 0)])
  func itIsSaidThatExpertsAreForThisProgram(fixture: String, count: Int) throws {
    try withFolder { folder in
      let said = try ModelQuantizer(backend: CPUBackend(threadCount: 2), options: .init())
        .convert("\(modelFixtures)/../\(fixture)", to: folder.path + "/out").said
      #expect(said.count == count && said.allSatisfy { $0.contains("transformers does not") }, "\(said)")
    }
  }

  @Test func nothingIsLeftWhereItFails() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let quantizer = ModelQuantizer(backend: CPUBackend(threadCount: 1), options: .init())
    #expect(throws: FormatError.alreadyExists(path: folder)) {
      try quantizer.convert("\(modelFixtures)/base", to: folder)
    }
    let output = folder + "/out"
    #expect(throws: ModelError.self) { try quantizer.convert("\(modelFixtures)/nf4", to: output) }
    struct Stop: Error {}
    #expect(throws: Stop.self) {
      try quantizer.convert("\(modelFixtures)/base", to: output) { _, done, _ in if done == 9 { throw Stop() } }
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [])
  }
}
