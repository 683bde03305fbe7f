import Adapters
import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

private let fixtures = SmolLM2.root.appendingPathComponent("Tests/Fixtures/families").path
private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }
private let longIDs: [Int32] = (0..<300).map { (i: Int) -> Int32 in Int32((11 * i * i + 5 * i + 3) % 128) }
private let longRows = [0, 16, 39, 40, 63, 64, 65, 127, 200, 299]
/// Fixtures of `make_experts.py`.
private let names = ["qwen3_moe", "olmoe", "mixtral"]

private func loadExperts(
  _ name: String, quantization: FourBitKind? = nil, compute: DType = .f32, threads: Int = 2
) throws -> LanguageModel {
  try ModelLoader(
    backend: CPUBackend(threadCount: threads), options: LoadOptions(quantization: quantization, computeType: compute)
  ).load("\(fixtures)/\(name)")
}

private func golden(_ name: String) throws -> WeightSource {
  try WeightSource(path: "\(fixtures)/\(name)/golden.safetensors")
}

/// Models with experts against transformers.
@Suite struct ExpertGoldenTests {
  @Test(arguments: names) func logitsEqualTransformersAtEveryLength(name: String) throws {
    let model = try loadExperts(name)
    let width = model.spec.vocabularySize
    let whole = try model.logits(longIDs).floats()
    let got = longRows.flatMap { whole[$0 * width..<($0 + 1) * width] }
    #expect(relativeError(got, try golden(name).read("long_logits")) < 1e-5)
    let short = try golden(name).read("logits")
    for count in [1, 17, 24] {
      #expect(relativeError(try model.logits(Array(ids[..<count])).floats(), Array(short[..<(count * width)])) < 1e-5)
    }
  }

  /// Adapters on every expert, with activations kept and recomputed. Who got no token has no gradient, everyone else
  /// has transformers'.
  @Test(arguments: names, [false, true]) func gradientsOfExpertsEqualTransformers(
    name: String, checkpointing: Bool
  ) throws {
    let golden = try golden(name)
    let model = try loadExperts(name)
    model.checkpointing = checkpointing
    let count = try PEFTFiles.load("\(fixtures)/\(name)/adapter", into: model, trainable: true)
    #expect(count == model.modules.count { $0.isLayerMatrix && !$0.isRouter })
    #expect(relativeError(try model.logits(ids).floats(), try golden.read("adapted_logits")) < 1e-5)
    let loss = try model.loss(Batch([(ids, nil)]))
    let wanted = Double(try golden.read("loss")[0])
    #expect(abs(try loss.item() - wanted) < 1e-5 * wanted)
    try loss.backward()
    var busy = 0
    for (name, tensor) in model.trainableParameters {
      let theirs = try golden.read("grad." + name)
      guard theirs.contains(where: { $0 != 0 }) else {
        #expect(try tensor.gradient?.floats().allSatisfy { $0 == 0 } ?? true, "\(name)")
        continue
      }
      busy += name.contains("experts") ? 1 : 0
      let gradient = try #require(tensor.gradient, "\(name) got tokens and no gradient").floats()
      #expect(relativeError(gradient, theirs) < 2e-4, "\(name)")
    }
    #expect(busy > 20)
  }

  @Test(arguments: names) func packedSequencesEqualSeparateOnes(name: String) throws {
    let model = try loadExperts(name)
    let parts: [[Int32]] = [Array(longIDs[..<90]), Array(longIDs[100..<217])]
    guard model.spec.experts?.addsBalance == false else { return }  // that loss is of the whole batch
    let together = try model.loss(Batch(parts.map { ($0, nil) })).item()
    let sums = try parts.map { try model.loss(Batch([($0, nil)])).item() * Double($0.count - 1) }
    #expect(abs(together - sums.reduce(0, +) / Double(89 + 116)) < 1e-5 * together)
  }

  @Test(arguments: names) func cachedStepsEqualTheWholePass(name: String) throws {
    let model = try loadExperts(name)
    let text = Array(longIDs[..<60]), width = model.spec.vocabularySize
    let whole = try model.logits(text).floats()
    let cache = try KeyValueCache(model, capacity: 60)
    _ = try model.step(Array(text[..<20]), cache: cache)
    for (position, id) in text[20...].enumerated() {
      let step = try model.step([id], cache: cache).floats()
      let row = Array(whole[(position + 20) * width..<(position + 21) * width])
      #expect(relativeError(step, row) < 1e-5, "\(position)")
    }
  }

  /// The same bits for any number of threads, experts in 4 bits, and the router in full.
  @Test(arguments: names) func fourBitExpertsTrainWithTheSameBits(name: String) throws {
    func gradients(_ threads: Int) throws -> [[Float]] {
      let model = try loadExperts(name, quantization: .nf4, threads: threads)
      for module in model.modules where module.isLayerMatrix { #expect((module.quantized == nil) == module.isRouter) }
      _ = try PEFTFiles.load("\(fixtures)/\(name)/adapter", into: model, trainable: true)
      try model.loss(Batch([(longIDs, nil)])).backward()
      return try model.trainableParameters.map { try $0.tensor.gradient?.floats() ?? [] }
    }
    let one = try gradients(1)
    let three = try gradients(3)
    #expect(one.contains { !$0.isEmpty } && three == one)
  }

  @Test(arguments: names) func savedModelsReadBackEqual(name: String) throws {
    let model = try loadExperts(name)
    try withFolder { folder in
      let path = folder.path + "/saved"
      try model.save(directory: path)
      let again = try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
        .load(path)
      #expect(again.spec.experts == model.spec.experts && again.spec.layers == model.spec.layers)
      // In bf16, which may send a token near a tie elsewhere: so the tensors are compared, not the logits.
      let (saved, source) = (try WeightSource(path: path), try WeightSource(path: "\(fixtures)/\(name)"))
      for tensor in source.tensors {
        #expect(relativeError(try saved.read(tensor.name), try source.read(tensor.name)) < 0.005)
      }
    }
  }
}
