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
private let names = [
  "qwen3_moe", "qwen3_moe_full", "olmoe", "mixtral", "gpt_oss", "gpt_oss_mxfp4", "qwen3_next", "qwen3_next_full",
  "qwen3_5_moe_text",
]
/// Of which llama.cpp's converter makes files that are read.
private let converted = names.filter { !["qwen3_moe", "qwen3_next"].contains($0) }

/// Sums over chunks of recurrent layers are rounded otherwise than sums over tokens.
private func tolerance(_ name: String) -> Float {
  ["qwen3_next", "qwen3_next_full", "qwen3_5_moe_text"].contains(name) ? 1e-4 : 1e-5
}

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
    #expect(relativeError(got, try golden(name).read("long_logits")) < tolerance(name))
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
    // In training the loss of the routers, which is of the whole batch, may come to it.
    let together = try model.loss(Batch(parts.map { ($0, nil) }), isTraining: false).item()
    let sums = try parts.map { try model.loss(Batch([($0, nil)]), isTraining: false).item() * Double($0.count - 1) }
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
      #expect(relativeError(step, row) < tolerance(name), "\(position)")
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
      for (saved, own) in zip(again.modules, model.modules) {
        #expect(saved.name == own.name && saved.isLoaded)
        #expect(relativeError(try saved.denseWeight().floats(), try own.denseWeight().floats()) < 0.005)
        guard let bias = own.bias else { continue }
        #expect(relativeError(try #require(saved.bias).floats(), try bias.floats()) < 0.005)
      }
      // Under the names that transformers gives them.
      let (written, source) = (try WeightSource(path: path), try WeightSource(path: "\(fixtures)/\(name)"))
      func shapes(_ files: WeightSource) -> [String: [Int]] {
        Dictionary(uniqueKeysWithValues: files.tensors.map { ($0.name, $0.shape) })
      }
      if name != "gpt_oss_mxfp4" { #expect(shapes(written) == shapes(source)) }
    }
  }

  /// An absent rope is that of the published models, so one without scaling has to be written.
  @Test func aRopeWithoutScalingReadsBack() throws {
    let path = "\(fixtures)/gpt_oss/config.json"
    var json = try JSON.read(path: path).object ?? JSONObject()
    json["rope_parameters"] = ["rope_type": "default", "rope_theta": 10000.0]
    let spec = try DecoderSpec(json: .object(json), path: path)
    #expect(spec.rope == Rope(theta: 10000))
    #expect(try DecoderSpec(json: spec.toJSON(), path: path) == spec)
    json["rope_parameters"] = nil
    let published = try DecoderSpec(json: .object(json), path: path).rope.scaling
    #expect(published == (try DecoderSpec.known(name: "gpt-oss-20b"))?.rope.scaling)
  }

  /// A row of weights lacks what its sink takes.
  @Test func attentionMapsKnowTheSinks() throws {
    let maps = try loadExperts("gpt_oss").attentionMaps(ids, layer: 0).floats()
    #expect(relativeError(maps, try golden("gpt_oss").read("attention")) < 1e-5)
    #expect(maps[0] < 0.999)
  }

  /// Blocks stay what they are, and train.
  @Test(arguments: [DType.f32, .bf16]) func keptBlocksOfSafetensorsGiveTransformersGradients(compute: DType) throws {
    var options = LoadOptions(computeType: compute)
    options.keepsBlocks = true
    let folder = "\(fixtures)/gpt_oss_mxfp4", golden = try golden("gpt_oss_mxfp4")
    let model = try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load(folder)
    let experts = model.modules.filter(\.isExpert)
    #expect(experts.count == 16 && experts.allSatisfy { $0.blockFormat == .mxfp4 && $0.weight == nil })
    options.headerOnly = true
    let plan = try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load(folder)
    #expect(plan.modules.filter(\.isExpert).map(\.byteCount) == experts.map(\.byteCount))
    #expect(plan.modules.map(\.blockFormat) == model.modules.map(\.blockFormat))
    guard compute == .f32 else { return }
    #expect(relativeError(try model.logits(ids).floats(), try golden.read("logits")) < 1e-5)
    _ = try PEFTFiles.load("\(folder)/adapter", into: model, trainable: true)
    try model.loss(Batch([(ids, nil)])).backward()
    for (name, tensor) in model.trainableParameters {
      guard let gradient = tensor.gradient else { continue }
      #expect(relativeError(try gradient.floats(), try golden.read("grad." + name)) < 2e-4, "\(name)")
    }
  }

  /// The files of llama.cpp's converter, whose experts are tensors of three dimensions.
  @Test(arguments: converted) func theFileOfLlamaCppIsTheSameModel(name: String) throws {
    let model = try loadExperts(name)
    let file = "\(fixtures)/\(name)/model.gguf"
    let read = try DecoderSpec(gguf: try GGUFFile(path: file))
    #expect(read.layers == model.spec.layers && read.modules == model.spec.modules)
    #expect(read.experts?.count == model.spec.experts?.count && read.experts?.width == model.spec.experts?.width)
    #expect(read.experts?.normalizesWeights == model.spec.experts?.normalizesWeights)
    #expect(read.experts?.sharedWidth == model.spec.experts?.sharedWidth && read.deltaNet == model.spec.deltaNet)
    #expect(read.activation == model.spec.activation && read.ropes.count == model.spec.ropes.count)
    let other = try loadFile("model.gguf", of: name, as: read)
    let logits = try other.logits(longIDs).floats()
    // llama.cpp truncates what transformers does not, and is what the file is for: see `make_llama_logits.py`.
    if name.hasPrefix("gpt_oss") {
      let rows = longRows.flatMap { logits[$0 * 128..<($0 + 1) * 128] }
      let theirs = try WeightSource(path: "\(fixtures)/\(name)/llama_cpp.safetensors").read("long_logits")
      // llama.cpp rounds what it multiplies by MXFP4 to 8 bits.
      #expect(relativeError(rows, theirs) < (name == "gpt_oss" ? 2e-5 : 0.03))
      #expect(relativeError(rows, try golden(name).read("long_logits")) > 0.3)
      return
    }
    for (mine, theirs) in zip(read.ropes, model.spec.ropes) {
      let mine = mine.frequencies(headDimension: read.headDimension, length: 300)
      #expect(mine == theirs.frequencies(headDimension: read.headDimension, length: 300))
    }
    #expect(relativeError(logits, try model.logits(longIDs).floats()) < 1e-6)
  }

  /// A GGUF file by itself has to have a tokenizer, so it lies beside a config.json: that of the folder, or one that
  /// says what the file says.
  private func loadFile(
    _ file: String, of name: String, as spec: DecoderSpec? = nil, keeps: Bool = false
  ) throws -> LanguageModel {
    try withFolder { folder in
      let path = "\(fixtures)/\(name)"
      try FileManager.default.copyItem(atPath: "\(path)/\(file)", toPath: folder.path + "/model.gguf")
      let config = try spec?.toJSON() ?? JSON.read(path: path + "/config.json")
      try config.text(.compact).write(toFile: folder.path + "/config.json", atomically: true, encoding: .utf8)
      var options = LoadOptions(computeType: .f32)
      options.keepsBlocks = keeps
      return try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load(folder.path)
    }
  }

  /// Experts stay in the blocks of a file: each a part of a tensor of three dimensions, or of two such.
  @Test(arguments: ["qwen3_moe_full", "gpt_oss_mxfp4"]) func keptExpertsOfLlamaCppsFiles(name: String) throws {
    let kept = try loadFile("model.q8_0.gguf", of: name, keeps: true)
    let wide = try loadFile("model.q8_0.gguf", of: name)
    for (module, other) in zip(kept.modules, wide.modules) where module.kind == .linear {
      let format = module.isExpert && name == "gpt_oss_mxfp4" ? GGMLType.mxfp4 : .q8_0
      #expect(module.isRouter ? module.blocks == nil : module.blockFormat == format, "\(module.name)")
      #expect(try module.denseWeight().floats() == other.denseWeight().floats(), "\(module.name)")
    }
    // The blocks of experts are those of safetensors.
    if name == "gpt_oss_mxfp4" {
      for (module, other) in zip(kept.modules, try loadExperts(name).modules) where module.isExpert {
        #expect(try module.denseWeight().floats() == other.denseWeight().floats(), "\(module.name)")
      }
    }
    #expect(kept.canStream)
    #expect(relativeError(try kept.logits(longIDs).floats(), try wide.logits(longIDs).floats()) < 1e-5)
    func gradients(_ model: LanguageModel) throws -> [[Float]] {
      _ = try PEFTFiles.load("\(fixtures)/\(name)/adapter", into: model, trainable: true)
      try model.loss(Batch([(ids, nil)])).backward()
      return try model.trainableParameters.map { try $0.tensor.gradient?.floats() ?? [] }
    }
    for (got, wanted) in zip(try gradients(kept), try gradients(wide)) where !wanted.isEmpty {
      #expect(relativeError(got, wanted) < 1e-4)
    }
  }
}
