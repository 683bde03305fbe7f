import Adapters
import Autograd
import CPUBackend
import Formats
import Foundation
import Models
import Optimizers
import Tensors
import Testing

@testable import Training

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures").path

/// Each method on the same start as PEFT 0.21.2 gives its losses, its gradients and its files
/// (Fixtures/adapters/make_adapters.py).
@Suite(.serialized) struct PEFTMethodTests {
  private let golden: JSON
  private let prompt: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }

  init() throws { golden = try JSON.read(path: fixtures + "/adapters/golden.json") }

  /// The model on which PEFT trained: `tied` for cases whose name ends so.
  private func base(_ name: String = "") throws -> LanguageModel {
    try ModelLoader(
      backend: CPUBackend(threadCount: 2), options: LoadOptions(quantization: nil, computeType: .f32)
    ).load(fixtures + "/models/" + (name.hasSuffix("tied") ? "tied" : "bias"))
  }

  private func folder(_ name: String) -> String { fixtures + "/adapters/" + name }

  private func numbers(_ name: String, _ key: String) throws -> [Double] {
    try #require(golden[name]?[key]?.array).compactMap(\.double)
  }

  /// The largest difference of two lists as a part of the second's deviation.
  private func distance(_ got: [Double], _ wanted: [Double]) -> Double {
    guard got.count == wanted.count else { return .infinity }
    let mean = wanted.reduce(0, +) / Double(wanted.count)
    let deviation = (wanted.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(wanted.count)).squareRoot()
    return (zip(got, wanted).map { abs($0 - $1) }.max() ?? .infinity) / deviation
  }

  private func lastLogits(_ model: LanguageModel) throws -> [Double] {
    try model.logits(prompt).floats().suffix(128).map(Double.init)
  }

  private func batch(_ step: Int) throws -> Batch {
    try Batch(
      (0..<2).map { (row: Int) -> ([Int32], [Int32]?) in
        ((0..<20).map { (i: Int) -> Int32 in Int32((i * i + 7 * row + 13 * step) % 128) }, nil)
      })
  }

  /// 20 steps from where the model is, held against those of PEFT.
  private func train(_ model: LanguageModel, _ name: String) throws {
    let rate = try #require(golden["settings"]?["lr"]?.double)
    let optimizer = try Optimizer(
      model.optimizedParameters, OptimizerOptions(.adamW, learningRate: Float(rate)))
    let (losses, norms) = (try numbers(name, "losses"), try numbers(name, "norms"))
    try #require(losses.count == 20 && norms.count == 20)
    for step in 0..<20 {
      try optimizer.zeroGradients()
      let loss = try model.loss(batch(step))
      #expect(abs(Double(try loss.item()) - losses[step]) < 1e-3, "loss of step \(step)")
      try loss.backward()
      var square = 0.0
      for parameter in model.trainableParameters {
        for value in try #require(parameter.tensor.gradient).floats() { square += Double(value) * Double(value) }
      }
      #expect(abs(square.squareRoot() - norms[step]) < 2e-3 * max(1, norms[step]), "gradient of step \(step)")
      try optimizer.step()
    }
    #expect(try distance(lastLogits(model), numbers(name, "end")) < 5e-3, "logits at the end")
  }

  private func save(_ model: LanguageModel) throws -> String {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    try PEFTFiles.save(model, directory: path)
    return path
  }

  private func config(_ directory: String) throws -> JSON { try JSON.read(path: directory + "/adapter_config.json") }

  private func shapes(_ directory: String) throws -> [String: [Int]] {
    let file = try SafetensorsFile(path: directory + "/adapter_model.safetensors")
    return Dictionary(uniqueKeysWithValues: file.entries.map { ($0.name, $0.shape) })
  }

  @Test(arguments: [
    "lora", "rslora", "dora", "ia3", "bias_all", "bias_lora_only", "modules_to_save", "vera", "vera_drawn", "eva",
    "head",
    "embedding_tied", "both_tied", "tokens", "tokens_tied", "tokens_alone",
  ])
  func stepsAreThoseOfPEFT(name: String) throws {
    let model = try base(name)
    try PEFTFiles.load(folder("\(name)/start"), into: model, trainable: true)
    #expect(model.trainableParameters.reduce(0) { $0 + $1.tensor.elementCount } == golden[name]?["parameters"]?.int)
    #expect(try distance(lastLogits(model), numbers(name, "start")) < 1e-4)
    try train(model, name)
  }

  @Test(arguments: [
    "lora", "rslora", "dora", "ia3", "bias_all", "bias_lora_only", "modules_to_save", "pissa", "olora", "vera",
    "vera_drawn", "eva", "head", "embedding_tied", "both_tied", "tokens", "tokens_tied", "tokens_alone",
  ])
  func endsAreReadAndWritten(name: String) throws {
    let model = try base(name)
    try PEFTFiles.load(folder("\(name)/end"), into: model)
    #expect(try distance(lastLogits(model), numbers(name, "end")) < 1e-4)
    let path = try save(model)
    // PEFT saves the frozen embedding too.
    #expect(try shapes(path) == shapes(folder("\(name)/end")).filter { !$0.key.hasSuffix("base_layer.weight") })
    let (mine, theirs) = (try config(path), try config(folder("\(name)/end")))
    for key in [
      "peft_type", "bias", "use_dora", "use_rslora", "r", "lora_alpha", "token_indices", "ensure_weight_tying",
    ] where theirs[key] != nil && theirs[key] != false {
      // Of ranks that come equally often there and here another is the common one.
      if name == "eva", ["r", "lora_alpha"].contains(key) { continue }
      #expect(mine[key] == theirs[key], "\(key)")
    }
    model.removeAdapters()
    try PEFTFiles.load(path, into: model)
    #expect(try distance(lastLogits(model), numbers(name, "end")) < 1e-4)
    // The base comes back for a moment, and for good.
    let plain = try base(name).logits(prompt).floats()
    #expect(try model.withoutAdapters { try model.logits(prompt).floats() } == plain)
    #expect(try distance(lastLogits(model), numbers(name, "end")) < 1e-4)
    guard name != "embedding_tied" else {
      #expect(throws: ModelError.mergeUnties(module: "model.embed_tokens")) { try model.mergeAdapters() }
      #expect(throws: ModelError.self) { try MergedWeights(model, .dequantized) }
      #expect(throws: ModelError.mergeUnties(module: "model.embed_tokens")) {
        try model.saveGGUF(NSTemporaryDirectory() + UUID().uuidString + ".gguf", .f32, merging: true)
      }
      return
    }
    try model.mergeAdapters()
    #expect(try distance(lastLogits(model), numbers(name, "end")) < 1e-4)
  }

  /// The matrices that nobody trains have the bits of PyTorch's generator, and the vectors start as there.
  @Test func theMatricesOfVeRAAreThoseOfPEFT() throws {
    let model = try base()
    let modules = model.modules.filter { ["k_proj", "down_proj"].contains($0.role) }
    let projections = try VeRA.Projections(rank: 6, key: 5, for: modules, on: model.backend)
    let file = try SafetensorsFile(path: folder("vera/start/adapter_model.safetensors"))
    for (name, tensor) in VeRA(projections).shared {
      let theirs = try file.bytes(of: "base_model." + name).withMemoryRebound(to: UInt32.self) { Array($0) }
      #expect(try tensor.floats().map(\.bitPattern) == theirs, "\(name)")
    }
    let plain = try model.logits(prompt).floats()
    try model.attach(modules.map { ($0.name, VeRA(projections)) })
    #expect(try model.logits(prompt).floats() == plain)
    #expect(try model.adapters[0].tensors.map { Set(try $0.floats()) } == [[0], [0.1]])
    // Two pairs of matrices are no one file.
    model.removeAdapters()
    let others = try VeRA.Projections(rank: 6, key: 6, for: modules, on: model.backend)
    #expect(throws: AdapterError.self) {
      try model.attach(modules.map { ($0.name, VeRA($0.role == "k_proj" ? projections : others)) })
    }
    #expect(model.adapters.isEmpty)
    #expect(throws: AdapterError.self) {
      try base().attach([("model.layers.0.mlp.up_proj", VeRA(projections))])
    }
  }

  /// A file says that it has the matrices and has not, or names no seed to draw them again.
  @Test func veRAWithoutMatricesIsRefused() throws {
    let from = folder("vera_drawn/end")
    for (field, value, expected) in [
      ("save_projection", "true", "vera_A"), ("projection_prng_key", "-1", "drawn again"),
    ] {
      let path = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
      defer { try? FileManager.default.removeItem(atPath: path) }
      try FileManager.default.copyItem(atPath: from, toPath: path)
      var text = try String(contentsOfFile: path + "/adapter_config.json", encoding: .utf8)
      let old = field == "save_projection" ? "false" : "5"
      text = text.replacing(#""\#(field)": \#(old)"#, with: #""\#(field)": \#(value)"#)
      try text.write(toFile: path + "/adapter_config.json", atomically: true, encoding: .utf8)
      let error = #expect(throws: AdapterError.self) { try PEFTFiles.load(path, into: base()) }
      #expect("\(try #require(error))".contains(expected))
    }
  }

  /// The components, the ranks and the scales that PEFT finds in three batches.
  @Test func theStartOfEVAIsThatOfPEFT() throws {
    let model = try base()
    let plain = try model.logits(prompt).floats()
    let modules = model.modules.filter { ["q_proj", "v_proj", "down_proj"].contains($0.role) }
    let batches = (0..<3).map { step in
      (0..<2).map { (row: Int) -> ([Int32], [Int32]?) in
        ((0..<20).map { (i: Int) -> Int32 in Int32((i * i + 7 * row + 13 * step) % 128) }, nil)
      }
    }
    try model.attach(modules.map { ($0.name, LoRA(rank: 4, alpha: 8)) }, EVA(), batches: batches)
    #expect(try model.logits(prompt).floats() == plain)
    let (mine, theirs) = (try save(model), folder("eva/start"))
    #expect(try shapes(mine) == shapes(theirs))
    #expect(try Set(shapes(mine).values.map { $0[0] }).isSuperset(of: [3, 4, 5]))
    for module in modules {
      let scaling = model.adapters.first { $0.moduleName == module.name }?.lowRank?.scaling
      #expect(scaling == 2, "\(module.name)")
    }
    let file = try SafetensorsFile(path: theirs + "/adapter_model.safetensors")
    for (key, tensor, _) in model.adapters.flatMap(\.parameters) {
      let values = try file.bytes(of: "base_model.model." + key).withMemoryRebound(to: Float.self) { Array($0) }
      if key.hasSuffix("lora_A.weight") {
        #expect(zip(try tensor.floats(), values).allSatisfy { abs($0 - $1) < 1e-4 }, "\(key)")
      } else {
        try values.withUnsafeBytes { try tensor.write($0) }
      }
    }
    try train(model, "eva")
    #expect(throws: AdapterError.self) {
      try base().attach([(modules[0].name, LoRA(rank: 4, alpha: 8))], EVA(rho: 0.5), batches: batches)
    }
    let tooMany = LoRA(rank: 30, alpha: 8)
    #expect(throws: AdapterError.self) {
      try base().attach([(modules[0].name, tooMany)], EVA(batchLimit: 5), batches: batches)
    }
  }

  /// Two copies of one adapter that PEFT's optimizer moves one after the other; here it is one, with the sum of both
  /// gradients.
  @Test func aTiedEmbeddingHasOneAdapter() throws {
    let model = try base("tied")
    try PEFTFiles.load(folder("both_tied/start"), into: model, trainable: true)
    #expect(try distance(lastLogits(model), numbers("both_tied", "start")) < 1e-4)
    #expect(model.trainableParameters.count == 6)
    let adapter = try #require(model.adapters.first)
    var gradients: [[Float]] = []
    for isTied in [true, false] {
      let own = try base("tied")
      let low = LoRA(rank: 4, alpha: 8)
      try own.attach([("model.embed_tokens", EmbeddingLoRA(low, isTied: isTied))])
      for (mine, theirs) in zip(own.adapters[0].tensors, adapter.tensors) {
        try mine.backend.copy(theirs, into: mine)
      }
      try own.loss(batch(0)).backward()
      gradients.append(try own.adapters[0].tensors[0].gradient?.floats() ?? [])
    }
    // Rows of tokens that no input has get a gradient from the logits alone.
    let unseen = 127
    #expect(try !batch(0).ids.contains(Int32(unseen)))
    #expect(gradients[0][unseen] != 0 && gradients[1][unseen] == 0 && gradients[1].contains { $0 != 0 })
  }

  /// What stands in a file twice must be the same, and a list of tokens one of tokens.
  @Test(arguments: [
    ("both_tied", #""ensure_weight_tying": true"#, #""ensure_weight_tying": 3"#, "ensure_weight_tying"),
    ("tokens", "49", "128", "the adapter has 129 rows"), ("tokens", "49", "12", "each once"),
    ("tokens", "49", #""49""#, "token ids"),
    ("tokens", "12\n", "12,\n9", "trainable_tokens_delta"),
    ("tokens_tied", #""embed_tokens": ["#, #""lm_head": ["#, "lm_head"),
    ("tokens_alone", "49", "-1", "0 to 127"),
    ("head", #""use_dora": false"#, #""use_dora": true"#, "magnitude"),
  ])
  func embeddingFilesThatSayTwoThingsAreRefused(name: String, old: String, new: String, expected: String) throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    try FileManager.default.copyItem(atPath: folder("\(name)/end"), toPath: path)
    let text = try String(contentsOfFile: path + "/adapter_config.json", encoding: .utf8)
    try #require(text.contains(old))
    try text.replacing(old, with: new)
      .write(toFile: path + "/adapter_config.json", atomically: true, encoding: .utf8)
    let error = #expect(throws: AdapterError.self) { try PEFTFiles.load(path, into: base(name)) }
    #expect("\(try #require(error))".contains(expected))
  }

  @Test func aCopyOfAnotherEmbeddingIsRefused() throws {
    // The bias model has another embedding than the tied one.
    let error = #expect(throws: AdapterError.self) {
      try PEFTFiles.load(folder("embedding_tied/end"), into: base())
    }
    #expect("\(try #require(error))".contains("embed_tokens.base_layer.weight"))
    let model = try base()
    let name = "model.layers.0.self_attn.q_proj"
    #expect(throws: AdapterError.self) { try model.attach([(name, EmbeddingLoRA(LoRA(rank: 4, alpha: 8)))]) }
    #expect(throws: AdapterError.self) { try model.attach([(name, TrainedTokens([1]))]) }
    #expect(throws: AdapterError.notLinear(module: "model.embed_tokens", kind: "embedding")) {
      try model.attach([("model.embed_tokens", LoRA(rank: 4, alpha: 8))])
    }
    // A new one changes nothing.
    let plain = try model.logits(prompt).floats()
    try model.attach([("model.embed_tokens", EmbeddingLoRA(LoRA(rank: 4, alpha: 8)))])
    #expect(try model.logits(prompt).floats() == plain)
    model.removeAdapters()
    try model.attach([("model.embed_tokens", TrainedTokens([3, 7]))])
    #expect(try model.logits(prompt).floats() == plain)
  }

  /// LoRA+ is a rate, so the files do not have it.
  @Test(arguments: ["loraplus", "loraplus_dora"]) func theRateOfBIsThatOfLoRAPlus(name: String) throws {
    let ratio = try #require(golden["settings"]?["ratio"]?.double)
    let model = try base()
    try PEFTFiles.load(folder("\(name)/start"), into: model, trainable: true)
    let names = model.adapters.map(\.moduleName), own = model.adapters.map { $0.tensors }
    model.removeAdapters()
    let low = LoRA(rank: 4, alpha: 8, learningRateRatio: ratio)
    try model.attach(names.map { ($0, name == "loraplus" ? low as any AdapterMethod : DoRA(low)) })
    for (adapter, tensors) in zip(model.adapters, own) {
      for (mine, theirs) in zip(adapter.tensors, tensors) { try mine.backend.copy(theirs, into: mine) }
    }
    try train(model, name)
  }

  /// Equal up to the signs that a decomposition leaves free, and so equal in all that follows.
  @Test(arguments: [LoRAInitialization.pissa, .olora]) func startsFromTheBaseAreThoseOfPEFT(kind: LoRAInitialization)
    throws
  {
    let name = kind.rawValue
    let model = try base()
    let plain = try model.logits(prompt).floats()
    let file = try SafetensorsFile(path: folder("\(name)/start/adapter_model.safetensors"))
    let modules = model.modules.filter { ["q_proj", "down_proj"].contains($0.role) }.map(\.name)
    try model.attach(modules.map { ($0, LoRA(rank: 4, alpha: 8, initialization: kind)) })
    for (key, tensor, _) in model.adapters.flatMap(\.parameters) {
      let theirs = try file.bytes(of: "base_model.model." + key).withMemoryRebound(to: Float.self) { Array($0) }
      let mine = try tensor.floats()
      #expect(zip(mine, theirs).allSatisfy { abs(abs($0) - abs($1)) < 1e-4 }, "\(key)")
    }
    #expect(try distance(lastLogits(model), numbers(name, "start")) < 1e-4)
    #expect(try model.withoutAdapters { try model.logits(prompt).floats() } == plain)
    try train(model, name)
    // The file is a plain adapter of the unchanged base, of twice the rank.
    let path = try save(model)
    #expect(try shapes(path) == shapes(folder("\(name)/end")))
    model.removeAdapters()
    #expect(try model.logits(prompt).floats() == plain)
    try PEFTFiles.load(path, into: model)
    #expect(try distance(lastLogits(model), numbers(name, "end")) < 5e-3)
  }

  /// The base is in NF4 afterwards, for good, as that of PEFT's adapter.
  @Test func loftQIsThatOfPEFT() throws {
    let (name, model) = ("loftq", try base())
    let file = try SafetensorsFile(path: folder("\(name)/start/adapter_model.safetensors"))
    let modules = model.modules.filter { ["q_proj", "o_proj"].contains($0.role) }
    try model.attach(
      modules.map { ($0.name, LoRA(rank: 4, alpha: 8, initialization: .loftq, powerIterations: 2)) })
    #expect(modules.allSatisfy { $0.quantization == .nf4 && $0.weight == nil })
    for (key, tensor, _) in model.adapters.flatMap(\.parameters) {
      let theirs = try file.bytes(of: "base_model.model." + key).withMemoryRebound(to: Float.self) { Array($0) }
      #expect(zip(try tensor.floats(), theirs).allSatisfy { abs(abs($0) - abs($1)) < 1e-4 }, "\(key)")
    }
    #expect(try distance(lastLogits(model), numbers(name, "start")) < 1e-4)
    try train(model, name)
    let path = try save(model)
    #expect(try shapes(path) == shapes(folder("\(name)/end")))
    model.removeAdapters()
    try PEFTFiles.load(path, into: model)
    #expect(try distance(lastLogits(model), numbers(name, "end")) < 5e-3)
    // A file that asks for the start again is not for a base that we have.
    #expect(throws: FormatError.self) { try PEFTFiles.load(folder("\(name)/end"), into: base()) }
  }

  @Test func partsThatCannotBeTrainedAreRefused() throws {
    let model = try base()
    let name = "model.layers.0.self_attn.q_proj"
    try model.attach([(name, LoRA(rank: 2, alpha: 2))])
    #expect(throws: AdapterError.unknownModule(name: "head_lm", nearest: [])) {
      try model.trainParts(modules: ["head_lm"])
    }
    #expect(throws: AdapterError.alreadyAttached(module: name)) { try model.trainParts(modules: [name]) }
    #expect(try model.trainParts(modules: ["model.norm"], bias: .adapted) == 64 + 64)
    #expect(throws: AdapterError.alreadyAttached(module: "model.norm")) {
      try model.trainParts(modules: ["model.norm"])
    }
    let tied = try ModelLoader(
      backend: CPUBackend(threadCount: 1), options: LoadOptions(quantization: .nf4, computeType: .f32)
    ).load(fixtures + "/models/tied")
    for part in ["embed_tokens", name] {
      #expect(throws: AdapterError.self) { try tied.trainParts(modules: [part]) }
    }
  }

  /// A run whose base changed at its start, and one with trained parts, go on from a checkpoint with the same bits.
  @Test(arguments: ["pissa", "loftq", "dora", "parts"]) func checkpointsHaveTheSameBits(name: String) throws {
    func prepared() throws -> (LanguageModel, Optimizer) {
      let model = try base()
      let low = LoRA(
        rank: 4, alpha: 8, dropout: 0.1, initialization: LoRAInitialization(rawValue: name) ?? .kaiming)
      let modules = model.modules.filter { ["q_proj", "down_proj"].contains($0.role) }.map(\.name)
      try model.attach(modules.map { ($0, name == "dora" ? DoRA(low) : low) })
      if name == "parts" { try model.trainParts(modules: ["lm_head", "model.norm"], bias: .all) }
      return (model, try Optimizer(model.optimizedParameters, OptimizerOptions(.adamW, learningRate: 0.01)))
    }
    func run(_ model: LanguageModel, _ optimizer: Optimizer, _ steps: Range<Int>) throws {
      for step in steps {
        try optimizer.zeroGradients()
        try model.loss(batch(step)).backward()
        try optimizer.step()
      }
    }
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    let (whole, itsOptimizer) = try prepared()
    try run(whole, itsOptimizer, 0..<3)
    try TrainingCheckpoint.save(path, model: whole, optimizer: itsOptimizer, state: [:])
    try run(whole, itsOptimizer, 3..<6)
    let (again, other) = try prepared()
    _ = try TrainingCheckpoint.load(path, model: again, optimizer: other)
    try run(again, other, 3..<6)
    func bits(_ model: LanguageModel) throws -> [UInt32] {
      try model.trainableParameters.flatMap { try $0.tensor.floats().map(\.bitPattern) }
    }
    #expect(try bits(whole) == bits(again))
    try FileManager.default.removeItem(atPath: path)
  }

  @Test func aStartThatWouldBeRoundedAgainIsRefused() throws {
    let model = try ModelLoader(
      backend: CPUBackend(threadCount: 1), options: LoadOptions(quantization: .nf4, computeType: .f32)
    ).load(fixtures + "/models/bias")
    let name = "model.layers.0.self_attn.q_proj"
    #expect(throws: AdapterError.self) {
      try model.attach([(name, LoRA(rank: 4, alpha: 8, initialization: .pissa))])
    }
    #expect(throws: AdapterError.badRank(module: name, rank: 65, limit: 64)) {
      try base().attach([(name, LoRA(rank: 65, alpha: 8, initialization: .olora))])
    }
    #expect(throws: AdapterError.self) {
      try base().attach([(name, DoRA(LoRA(rank: 4, alpha: 8, initialization: .pissa)))])
    }
  }

  /// Power iterations come to the same vectors.
  @Test func powerIterationsApproximateTheStart() throws {
    let module = "model.layers.0.mlp.down_proj"
    let branches = try [0, 60].map { count in
      let model = try base()
      try model.attach([(module, LoRA(rank: 4, alpha: 4, initialization: .pissa, powerIterations: count))])
      let tensors = model.adapters[0].tensors
      return try matmul(tensors[1], tensors[0]).floats().map(Double.init)
    }
    #expect(distance(branches[1], branches[0]) < 1e-2)
  }

  /// With dropout DoRA multiplies a masked input with the base; the mean over masks is near the output without.
  @Test func dropoutOfDoRAHasTheMeanOfNone() throws {
    let model = try base()
    let name = "model.layers.0.self_attn.q_proj"
    try model.attach([(name, DoRA(LoRA(rank: 4, alpha: 8, dropout: 0.5)))])
    for tensor in model.adapters[0].tensors {
      let noise = try Tensor(empty: tensor.shape, on: model.backend)
      try model.backend.fillNormal(
        noise, mean: 0, deviation: 0.2, stream: RandomStream(seed: 2, purpose: "noise", module: "\(tensor.shape)"))
      try model.backend.accumulate(noise, scale: 1, into: tensor, scale: 1)
    }
    let exact = Double(try model.loss(batch(0), isTraining: false).item())
    let losses = try (0..<60).map { _ in Double(try model.loss(batch(0)).item()) }
    #expect(Set(losses).count > 50)
    #expect(abs(losses.reduce(0, +) / 60 - exact) < 0.1 * exact)
  }
}
