import Adapters
import Autograd
import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

private let fixtures = SmolLM2.root.appendingPathComponent("Tests/Fixtures/families").path
private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }

/// Families with a fixture of `make_families.py`, and what a GGUF file of them says besides sizes.
private let families: [(name: String, metadata: [String: GGUFBytes.Value])] = [
  ("qwen3", [:]),
  (
    "granite",
    [
      "embedding_scale": .float(6), "residual_scale": .float(0.22), "logit_scale": .float(4),
      "attention.scale": .float(0.2),
    ]
  ),
  ("smollm3", [:]),
  ("olmo2", [:]),
  (
    "olmo3",
    [
      "attention.sliding_window": .integer(7), "attention.sliding_window_pattern": .bools([true, true, true, false]),
      "rope.scaling.type": .text("yarn"), "rope.scaling.factor": .float(8),
      "rope.scaling.original_context_length": .integer(64), "rope.scaling.yarn_attn_factor": .float(1.2079442),
      "rope.scaling.yarn_beta_fast": .float(32), "rope.scaling.yarn_beta_slow": .float(1),
    ]
  ),
]
private let names = families.map(\.name)

private func loadFamily(_ name: String, compute: DType = .f32) throws -> LanguageModel {
  try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: compute))
    .load("\(fixtures)/\(name)")
}

/// A tiny model of each family against transformers and PEFT.
@Suite struct FamilyGoldenTests {
  @Test(arguments: names) func logitsEqualTransformers(name: String) throws {
    let golden = try WeightSource(path: "\(fixtures)/\(name)/golden.safetensors").read("logits")
    let error = relativeError(try loadFamily(name).logits(ids).floats(), golden)
    #expect(error < 2e-5, "relative error \(error)")
    let rounded = relativeError(try loadFamily(name, compute: .bf16).logits(ids).floats(), golden)
    #expect(rounded < 0.06 && rounded > 0, "relative error in bf16 \(rounded)")
  }

  /// Loss and gradients of the LoRA matrices, with activations kept and recomputed.
  @Test(arguments: names, [false, true]) func gradientsEqualPEFT(name: String, checkpointing: Bool) throws {
    let golden = try WeightSource(path: "\(fixtures)/\(name)/golden.safetensors")
    let model = try loadFamily(name)
    model.checkpointing = checkpointing
    let count = try PEFTFiles.load("\(fixtures)/\(name)/adapter", into: model, trainable: true)
    #expect(count == 7 * model.spec.layerCount)
    #expect(relativeError(try model.logits(ids).floats(), try golden.read("adapted_logits")) < 2e-5)
    let loss = try model.loss(Batch([(ids, nil)]))
    let wanted = Double(try golden.read("loss")[0])
    #expect(abs(try loss.item() - wanted) < 1e-5 * wanted)
    try loss.backward()
    let parameters = model.trainableParameters
    #expect(parameters.count == 2 * count)
    for (name, tensor) in parameters {
      let gradient = try #require(tensor.gradient).floats()
      let error = relativeError(gradient, try golden.read("grad." + name))
      #expect(error < 5e-5, "\(name): relative error \(error)")
    }
  }

  /// The cache path, token by token, against the whole pass.
  @Test(arguments: names) func cachedStepsEqualTheWholePass(name: String) throws {
    let model = try loadFamily(name)
    let whole = try model.logits(ids).floats()
    let cache = try KeyValueCache(model, capacity: 3)
    var steps = try model.step(Array(ids[..<5]), cache: cache).floats()
    for id in ids[5...] { steps = try model.step([id], cache: cache).floats() }
    #expect(relativeError(steps, Array(whole.suffix(128))) < 1e-5)
  }

  /// What is saved is the model; a smoke model has its kinds of layers and runs.
  @Test(arguments: names) func savedAndSmokeModelsAreOfTheFamily(name: String) throws {
    let model = try loadFamily(name)
    try withFolder { folder in
      try model.save(directory: folder.path + "/saved")
      var saved = try DecoderSpec.read(path: folder.path + "/saved")
      saved.storedType = model.spec.storedType
      #expect(saved == model.spec)
    }
    let backend = CPUBackend(threadCount: 1)
    let smoke = try ModelLoader(backend: backend, options: LoadOptions(computeType: .f32, smoke: true))
      .load("\(fixtures)/\(name)")
    #expect(smoke.spec.modelType == name && Set(smoke.spec.layers) == Set(model.spec.layers))
    #expect(try smoke.logits(ids).floats().allSatisfy(\.isFinite))
    #expect(try DecoderSpec(json: smoke.spec.toJSON(), path: name) == smoke.spec)
  }

  /// A GGUF file with the same weights, named and ordered as llama.cpp does, is the same model.
  @Test(arguments: families.indices) func ggufIsTheSameModel(index: Int) throws {
    let (name, own) = families[index]
    let model = try loadFamily(name)
    let (spec, source) = (model.spec, try WeightSource(path: "\(fixtures)/\(name)"))
    let family = try #require(Families.named(name))
    let named: String? = family.ggufArchitecture
    let architecture = try #require(named)
    var metadata: [String: GGUFBytes.Value] = ["general.architecture": .text(architecture)]
    for (key, value) in [
      ("embedding_length", spec.hiddenSize), ("feed_forward_length", spec.intermediateSize),
      ("block_count", spec.layerCount), ("attention.head_count", spec.headCount),
      ("attention.head_count_kv", spec.keyValueHeadCount), ("attention.key_length", spec.headDimension),
      ("context_length", spec.maxPositions),
    ] { metadata["\(architecture).\(key)"] = .integer(UInt32(value)) }
    metadata["\(architecture).attention.layer_norm_rms_epsilon"] = .float(Float(spec.normEpsilon))
    metadata["\(architecture).rope.freq_base"] = .float(Float(spec.rope.theta))
    for (key, value) in own { metadata["\(architecture).\(key)"] = value }
    let tensors = try source.tensors.map { tensor in
      var values = try source.read(tensor.name)
      if family.ggufPairsHeads, tensor.name.contains(".q_proj.") || tensor.name.contains(".k_proj.") {
        let heads = tensor.name.contains(".q_proj.") ? spec.headCount : spec.keyValueHeadCount
        let place = try #require(GGUFFile.unpermuteRows(rowCount: tensor.shape[0], headCount: heads))
        let (rows, width) = (values, values.count / tensor.shape[0])
        for row in 0..<tensor.shape[0] {
          let target = place(row) * width
          values.replaceSubrange(target..<target + width, with: rows[row * width..<(row + 1) * width])
        }
      }
      let stored: String? = family.ggufLayout.gguf(tensor.name)
      return (try #require(stored), tensor.shape.reversed().map { UInt64($0) }, values)
    }
    try withFolder { folder in
      let file = folder.appendingPathComponent("model.gguf")
      try GGUFBytes.make(metadata, tensors).write(to: file)
      let read = try DecoderSpec(gguf: try GGUFFile(path: file.path))
      #expect(read.layers == spec.layers && read.modules == spec.modules)
      #expect(read.tiesEmbeddings == spec.tiesEmbeddings && read.isParallel == spec.isParallel)
      func scales(_ spec: DecoderSpec) -> [Float] {
        [spec.embeddingScale, spec.residualScale, Double(spec.queryKeyScale), spec.logitScale].map { Float($0) }
      }
      #expect(scales(read) == scales(spec))
      #expect(read.modelType == name)
      // Beside a config.json, since a GGUF file by itself has to have a tokenizer.
      try FileManager.default.copyItem(
        atPath: "\(fixtures)/\(name)/config.json", toPath: folder.path + "/config.json")
      let loader = ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
      let other = try loader.load(folder.path)
      #expect(relativeError(try other.logits(ids).floats(), try model.logits(ids).floats()) < 1e-6)
    }
  }

  @Test func everyFamilyNamesItsModulesApart() {
    for family in Families.all {
      let modules = family.modules.all
      #expect(Set(modules.map(\.name)).count == modules.count && Set(modules.map(\.gguf)).count == modules.count)
    }
    #expect(Set(Families.all.map { $0.modelType }).count == Families.all.count)
  }
}
