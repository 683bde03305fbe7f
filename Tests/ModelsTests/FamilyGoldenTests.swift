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
/// Longer than every window.
private let longIDs: [Int32] = (0..<300).map { (i: Int) -> Int32 in Int32((11 * i * i + 5 * i + 3) % 128) }
private let longRows = [0, 16, 39, 40, 63, 64, 65, 127, 200, 299]

/// Fixtures of `make_families.py`.
private let names = [
  "llama", "mistral", "qwen2", "qwen3", "granite", "smollm3", "olmo2", "olmo3", "phi3", "phi3_long", "gemma", "gemma2",
  "gemma3_text", "gemma3", "gpt_neox", "gpt_neox_serial", "qwen3_5_text", "qwen3_5",
  "qwen3_5_square", "olmo2_plain",
]
/// Those of `make_gguf_families.py`, which llama.cpp's converter wrote. It calls Mistral llama, without its window.
private let converted = names.filter { !multimodal.contains($0) && !["gpt_neox_serial", "mistral"].contains($0) }
/// Of which the text model is read.
private let multimodal = ["gemma3", "qwen3_5"]

private func loadFamily(_ name: String, compute: DType = .f32, threads: Int = 2) throws -> LanguageModel {
  try ModelLoader(backend: CPUBackend(threadCount: threads), options: LoadOptions(computeType: compute))
    .load("\(fixtures)/\(name)")
}

private func golden(_ name: String) throws -> WeightSource {
  try WeightSource(path: "\(fixtures)/\(name)/golden.safetensors")
}

/// The largest difference in units of the standard deviation of what is wanted.
private func deviations(_ got: [Float], _ wanted: [Float]) -> Double {
  let mean = wanted.reduce(0.0) { $0 + Double($1) } / Double(wanted.count)
  let variance = wanted.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / Double(wanted.count)
  let worst = zip(got, wanted).map { abs(Double($0) - Double($1)) }.max() ?? .infinity
  return got.count == wanted.count ? worst / variance.squareRoot() : .infinity
}

/// A tiny model of each family against transformers, PEFT and llama.cpp's converter.
@Suite struct FamilyGoldenTests {
  /// Texts of 1, 17 and 300 tokens, the last past every window.
  @Test(arguments: names) func logitsEqualTransformersAtEveryLength(name: String) throws {
    let model = try loadFamily(name)
    let wanted = try golden(name).read("long_logits")
    let width = model.spec.vocabularySize
    let whole = try model.logits(longIDs).floats()
    let got = longRows.flatMap { whole[$0 * width..<($0 + 1) * width] }
    #expect(deviations(got, wanted) < 1e-4)
    // A long text may change the rotation of all its tokens; alone a short one has its own.
    let short = try golden(name).read("logits")
    for count in [1, 17, 24] {
      let logits = try model.logits(Array(ids[..<count])).floats()
      #expect(deviations(logits, Array(short[..<(count * width)])) < 1e-4, "\(count) tokens")
    }
    let rounded = try loadFamily(name, compute: .bf16).logits(ids).floats()
    #expect(relativeError(rounded, short) < 0.06 && relativeError(rounded, short) > 0)
  }

  /// Loss and gradients of the LoRA matrices on all linear layers, with activations kept and recomputed.
  @Test(arguments: names, [false, true]) func gradientsEqualPEFT(name: String, checkpointing: Bool) throws {
    let golden = try golden(name)
    let model = try loadFamily(name)
    model.checkpointing = checkpointing
    let count = try PEFTFiles.load("\(fixtures)/\(name)/adapter", into: model, trainable: true)
    #expect(count == model.modules.filter(\.isLayerMatrix).count)
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
      #expect(error < 1e-4, "\(name): relative error \(error)")
    }
  }

  /// What PEFT wrote, read and written again, has the same tensors under the same names and the same modules.
  @Test(arguments: names) func savedAdaptersAreThoseOfPEFT(name: String) throws {
    let model = try loadFamily(name)
    let folder = "\(fixtures)/\(name)/adapter"
    _ = try PEFTFiles.load(folder, into: model, trainable: true)
    try withFolder { target in
      let saved = target.path + "/adapter"
      try PEFTFiles.save(model, directory: saved)
      let theirs = try WeightSource(path: folder + "/adapter_model.safetensors")
      let ours = try WeightSource(path: saved + "/adapter_model.safetensors")
      #expect(Set(ours.tensors.map(\.name)) == Set(theirs.tensors.map(\.name)))
      for tensor in theirs.tensors { #expect(try ours.read(tensor.name) == theirs.read(tensor.name)) }
      // In PEFT the last components of the names select modules of the images' part too.
      let targets = try JSON.read(path: saved + "/adapter_config.json")["target_modules"]?.array?.compactMap(\.string)
      let adapted = model.modules.filter { $0.adapter != nil }
      #expect(Set(try #require(targets)) == Set(adapted.map { multimodal.contains(name) ? $0.name : $0.role }))
      let again = try loadFamily(name)
      _ = try PEFTFiles.load(saved, into: again, trainable: false)
      #expect(try again.logits(ids).floats() == model.logits(ids).floats())
    }
  }

  /// Sequences in one batch do not see each other.
  @Test(arguments: names) func packedSequencesEqualSeparateOnes(name: String) throws {
    let model = try loadFamily(name)
    let parts: [[Int32]] = [Array(longIDs[..<90]), Array(ids[..<1]), Array(longIDs[100..<217])]
    let together = try model.loss(Batch(parts.filter { $0.count > 1 }.map { ($0, nil) })).item()
    let sums = try parts.filter { $0.count > 1 }.map { part in
      try model.loss(Batch([(part, nil)])).item() * Double(part.count - 1)
    }
    let count = parts.filter { $0.count > 1 }.reduce(0) { $0 + $1.count - 1 }
    #expect(abs(together - sums.reduce(0, +) / Double(count)) < 1e-5 * together)
  }

  /// The cache path, some tokens at once and then token by token past the window, against the whole pass.
  @Test(arguments: names) func cachedStepsEqualTheWholePass(name: String) throws {
    let model = try loadFamily(name)
    let text = Array(longIDs[..<60])
    let whole = try model.logits(text).floats()
    let cache = try KeyValueCache(model, capacity: 3)
    var steps = try model.step(Array(text[..<5]), cache: cache).floats()
    for id in text[5...] { steps = try model.step([id], cache: cache).floats() }
    #expect(relativeError(steps, Array(whole.suffix(128))) < 1e-5)
  }

  /// What is saved is the model; what is saved of it again has the same bytes. A smoke model has its kinds of layers.
  @Test(arguments: names) func savedAndSmokeModelsAreOfTheFamily(name: String) throws {
    let model = try loadFamily(name)
    try withFolder { folder in
      try model.save(directory: folder.path + "/saved")
      var saved = try DecoderSpec.read(path: folder.path + "/saved")
      saved.storedType = model.spec.storedType
      #expect(saved == model.spec.whole)
      let loader = ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
      let again = try loader.load(folder.path + "/saved")
      #expect(relativeError(try again.logits(ids).floats(), try model.logits(ids).floats()) < 0.05)
      try again.save(directory: folder.path + "/again")
      #expect(
        try Data(contentsOf: folder.appendingPathComponent("saved/model.safetensors"))
          == Data(contentsOf: folder.appendingPathComponent("again/model.safetensors")))
    }
    let options = LoadOptions(computeType: .f32, smoke: true)
    let smoke = try ModelLoader(backend: CPUBackend(threadCount: 1), options: options).load("\(fixtures)/\(name)")
    #expect(smoke.spec.modelType == model.spec.modelType)
    #expect(Set(smoke.spec.layers.map(\.window)) == Set(model.spec.layers.map(\.window)))
    #expect(Set(smoke.spec.layers.map(\.isRecurrent)) == Set(model.spec.layers.map(\.isRecurrent)))
    #expect(try smoke.logits(ids).floats().allSatisfy(\.isFinite))
    #expect(try DecoderSpec(json: smoke.spec.toJSON(), path: name) == smoke.spec.whole)
  }

  /// The file of llama.cpp's converter is the same model, by its metadata and its tensors.
  @Test(arguments: converted) func theFileOfLlamaCppIsTheSameModel(name: String) throws {
    let model = try loadFamily(name)
    let file = "\(fixtures)/\(name)/model.gguf"
    let read = try DecoderSpec(gguf: try GGUFFile(path: file))
    let spec = model.spec
    #expect(read.layers == spec.layers && read.modules == spec.modules && read.outerNames == spec.outerNames)
    #expect(read.normalization.form == spec.normalization.form && read.activation == spec.activation)
    #expect(read.tiesEmbeddings == spec.tiesEmbeddings && read.isParallel == spec.isParallel)
    #expect(read.scoreCap == spec.scoreCap && read.logitCap == spec.logitCap)
    #expect(read.headDimension == spec.headDimension && read.keyValueHeadCount == spec.keyValueHeadCount)
    #expect(read.ropes.count == spec.ropes.count && read.deltaNet == spec.deltaNet)
    func scales(_ spec: DecoderSpec) -> [Float] {
      [spec.embeddingScale, spec.residualScale, Double(spec.queryKeyScale), spec.logitScale].map { Float($0) }
    }
    #expect(scales(read) == scales(spec))
    for (mine, theirs) in zip(read.ropes, spec.ropes) {
      for length in [24, 300] {
        let mine = mine.frequencies(headDimension: spec.headDimension, length: length)
        #expect(mine == theirs.frequencies(headDimension: spec.headDimension, length: length))
      }
    }
    try withFolder { folder in
      // Beside a config.json, since a GGUF file by itself has to have a tokenizer.
      for (from, to) in [(file, "model.gguf"), ("\(fixtures)/\(name)/config.json", "config.json")] {
        try FileManager.default.copyItem(atPath: from, toPath: "\(folder.path)/\(to)")
      }
      let loader = ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
      let other = try loader.load(folder.path)
      #expect(relativeError(try other.logits(longIDs).floats(), try model.logits(longIDs).floats()) < 1e-6)
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
