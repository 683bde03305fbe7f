import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Adapters
@testable import Models

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/models").path
private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }

private func load(_ path: String, quantized: Bool) throws -> LanguageModel {
  let options = LoadOptions(
    quantization: quantized ? .nf4 : nil, blockSize: 64, doubleQuantization: true, computeType: .f32)
  return try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load(path)
}

/// A quantized model whose down projections have adapters of this strength.
private func adapted(_ strength: Double) throws -> LanguageModel {
  let model = try load("\(fixtures)/base", quantized: true)
  var members: [(module: Module, adapter: Adapter)] = []
  for module in model.modules where module.role == "down_proj" {
    let method = LoRA(rank: 4, alpha: 4)
    let tensors = try method.parameters(of: module).enumerated().map { number, parameter in
      let tensor = try Tensor(empty: parameter.shape, category: .adapters, on: model.backend)
      let stream = RandomStream(seed: UInt64(number), purpose: "test", module: module.name)
      try model.backend.fillNormal(tensor, mean: 0, deviation: strength, stream: stream)
      return tensor
    }
    members.append((module, Adapter(method, on: module, tensors)))
  }
  model.adapterSets = [AdapterSet(AdapterSet.defaultName, members)]
  model.use([AdapterSet.defaultName])
  return model
}

private func withFolder(_ body: (String) throws -> Void) throws {
  let folder = NSTemporaryDirectory() + "merged-" + UUID().uuidString
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: folder) }
  try body(folder)
}

private func error(_ a: [Float], _ b: [Float]) -> Double {
  let squares = zip(a, b).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
  return (squares / b.reduce(0.0) { $0 + Double($1 * $1) }).squareRoot()
}

@Suite struct MergedWeightsTests {
  @Test func theModelStaysAndEachTargetComputesTheAdapter() throws {
    let model = try adapted(0.1)
    let live = try model.logits(ids).floats()
    let base = error(try model.withoutAdapters { try model.logits(ids).floats() }, live)
    var errors: [MergedWeights.Target: Double] = [:]
    for target in MergedWeights.Target.allCases {
      let merged = try MergedWeights(model, target)
      errors[target] = error(try merged.run { try model.logits(ids).floats() }, live)
      let again = try model.logits(ids).floats()
      #expect(again == live)
      let adapted = model.modules.filter { $0.adapter != nil }
      #expect(merged.codes == (target == .requantized ? adapted.reduce(0) { $0 + $1.inFeatures * $1.outFeatures } : 0))
      #expect(target != .requantized || merged.changedCodes > merged.codes / 10)
    }
    #expect(errors[.dequantized] ?? 1 < 0.01 && base > 0.05)
    // The 16-bit weights are those of another model than the adapter has seen, as far as quantization goes.
    let wide = try load("\(fixtures)/base", quantized: false)
    let quantization = error(
      try wide.logits(ids).floats(), try model.withoutAdapters { try model.logits(ids).floats() })
    #expect(errors[.original] ?? 1 < 2 * quantization)
    #expect(errors[.requantized] ?? 1 > errors[.dequantized] ?? 0)
  }

  /// Runs lie in runs, and adapters are not added to weights that hold them.
  @Test func whatStoodThereComesBack() throws {
    let model = try adapted(0.1)
    let (narrow, wide) = (try MergedWeights(model, .requantized), try MergedWeights(model, .dequantized))
    let alone = try narrow.run { try model.logits(ids).floats() }
    try narrow.run {
      let inner = try wide.run { try model.logits(ids).floats() }
      #expect(inner != alone)
      #expect(try model.logits(ids).floats() == alone)
      #expect(throws: ModelError.adaptersOnMerged(sets: [AdapterSet.defaultName])) {
        try model.withAdapters([AdapterSet.defaultName]) { try model.logits(ids) }
      }
    }
    let live = try model.logits(ids).floats()
    #expect(live != alone && live.allSatisfy(\.isFinite))
  }

  /// Each matrix is made when it is computed with: only what is no matrix is kept.
  @Test(arguments: MergedWeights.Target.allCases) func oneMatrixIsInMemoryAtATime(target: MergedWeights.Target) throws {
    let model = try adapted(0.1)
    let memory = model.backend.memory
    let norms = model.modules.filter { $0.kind == .norm }.reduce(0) { $0 + max(64, 4 * $1.inFeatures) }
    func peak(_ body: () throws -> Void) rethrows -> Int {
      memory.resetPeak()
      try body()
      return memory.peak - memory.total
    }
    let live = try peak { _ = try model.logits(ids) }
    let before = memory.total
    let merged = try MergedWeights(model, target)
    #expect(memory.total - before <= (target == .requantized ? 0 : norms))
    let passing = try peak { _ = try merged.run { try model.logits(ids) } }
    let largest = model.modules.map { 4 * $0.inFeatures * $0.outFeatures }.max() ?? 0
    // The sum in f32 and its rounded rows, or its codes.
    #expect(passing <= live + 2 * largest, "\(passing) \(live) \(largest)")
    #expect(memory.total - before <= (target == .requantized ? 0 : norms))
  }

  /// The sides of a comparison, in one pass over two sequences, are what passes of their own give.
  @Test func aComparisonOfABatchIsThatOfItsSequences() throws {
    let model = try adapted(0.1)
    let merged = try MergedWeights(model, .requantized)
    let sequences: [[Int32]] = [ids, ids.reversed() + [3, 4]]
    let batch = try Batch(sequences.map { (ids: $0, labels: nil) })
    let found = try ComparedSide.live(model).compared(with: [.base(model), .merged(merged)], on: batch)
    for (number, sequence) in sequences.enumerated() {
      let live = try model.logits(sequence)
      let others = [
        try model.withoutAdapters { try model.logits(sequence) }, try merged.run { try model.logits(sequence) },
      ]
      for (side, other) in others.enumerated() {
        let (whole, part) = (try LogitComparison(live, other), found[side][number])
        #expect(abs(part.divergence - whole.divergence) < 1e-4 * whole.divergence && part.rows == sequence.count)
        #expect(part.agreements == whole.agreements)
      }
      let loss = try model.loss(try Batch([(sequence, nil)]), isTraining: false).item() * Double(sequence.count - 1)
      #expect(abs(found[0][number].losses.a - loss) < 1e-5 * loss)
    }
    #expect(throws: ModelError.self) {
      let beyond = try Batch([(ids: ids, labels: ids.map { $0 + 100 })])
      _ = try ComparedSide.live(model).compared(with: [.base(model)], on: beyond)
    }
  }

  @Test func aSmallAdapterChangesNoCode() throws {
    let merged = try MergedWeights(try adapted(1e-5), .requantized)
    #expect(merged.changedCodes == 0 && merged.codes > 0)
  }

  /// In bf16, in several files with an index, and in 4 bits again.
  @Test(arguments: MergedWeights.Target.allCases) func whatIsSavedIsWhatWasMeasured(target: MergedWeights.Target) throws
  {
    try withFolder { folder in
      let model = try adapted(0.1)
      let merged = try MergedWeights(model, target)
      try merged.save(directory: folder + "/out", shardByteCount: 20_000)
      let names = try FileManager.default.contentsOfDirectory(atPath: folder + "/out")
      #expect(names.contains("model.safetensors.index.json") && !names.contains("model.safetensors"))
      let expected = try merged.run { try model.logits(ids).floats() }
      let saved = try load(folder + "/out", quantized: false)
      #expect(saved.modules.contains { $0.quantized != nil } == (target == .requantized))
      #expect(error(try saved.logits(ids).floats(), expected) < 0.02)
    }
  }

  /// In f32 nothing is rounded: the folder computes what the model with its live adapter does.
  @Test func aMergeInF32IsTheAdapter() throws {
    try withFolder { folder in
      let model = try adapted(0.1)
      let live = try model.logits(ids).floats()
      for (dtype, most) in [(DType.f32, 1e-5), (.f16, 3e-3)] {
        let out = folder + "/\(dtype)"
        try MergedWeights(model, .dequantized, dtype: dtype).save(directory: out)
        #expect(error(try load(out, quantized: false).logits(ids).floats(), live) < most)
      }
    }
  }

  @Test func whatCannotBeIsRefused() throws {
    let model = try adapted(0.1)
    #expect(throws: (any Error).self) { try MergedWeights(model, .original, original: "\(fixtures)/nf4") }
    let wide = try load("\(fixtures)/base", quantized: false)
    try PEFTFiles.load("\(fixtures)/patterns", into: wide)
    #expect(throws: ModelError.self) { try MergedWeights(wide, .requantized) }
    // No checkpoint has int4, or 4 bits of several forms.
    for others in [[:], ["model.layers.0.mlp.up_proj": .some(.fp4)]] as [[String: FourBitKind?]] {
      var options = LoadOptions(
        quantization: others.isEmpty ? .int4 : .nf4, blockSize: 64, doubleQuantization: false, computeType: .f32)
      options.moduleQuantization = others
      let model = try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load("\(fixtures)/base")
      try PEFTFiles.load("\(fixtures)/patterns", into: model)
      let error = #expect(throws: ModelError.self) { try MergedWeights(model, .requantized) }
      #expect("\(String(describing: error))".contains(others.isEmpty ? "int4" : "one form"))
      _ = try MergedWeights(model, .dequantized)
    }
    // A file that nothing would be read from.
    #expect(throws: ModelError.noOriginalWeights(path: wide.path, problem: .nothingQuantized)) {
      try MergedWeights(wide, .original, original: "\(fixtures)/base")
    }
    _ = try MergedWeights(wide, .original)
  }
}
