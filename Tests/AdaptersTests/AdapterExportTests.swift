import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Adapters
@testable import Models

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/families").path
private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 128) }

private func load(_ name: String) throws -> LanguageModel {
  try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
    .load("\(fixtures)/\(name)")
}

/// A model with an adapter of PEFT's on all its layers, two of which got another rank and another scaling.
private func adapted(_ name: String) throws -> LanguageModel {
  let model = try load(name)
  try PEFTFiles.load("\(fixtures)/\(name)/adapter", into: model)
  let modules = model.modules.filter { $0.adapter != nil }
  var others: [String: Adapter] = [:]
  for (module, method) in zip(modules, [LoRA(rank: 3, alpha: 7, rankStabilised: true), LoRA(rank: 9, alpha: 2)]) {
    let tensors = try method.parameters(of: module).enumerated().map { number, parameter in
      let tensor = try Tensor(empty: parameter.shape, category: .adapters, on: model.backend)
      let stream = RandomStream(seed: UInt64(number), purpose: "test", module: module.name)
      try model.backend.fillNormal(tensor, mean: 0, deviation: 0.1, stream: stream)
      return tensor
    }
    others[module.name] = Adapter(method, on: module, tensors)
  }
  model.adapterSets = model.adapterSets.map { set in
    AdapterSet(set.name, set.members.map { ($0.module, others[$0.module.name] ?? $0.adapter) })
  }
  model.use(model.namesInUse)
  return model
}

private func withFolder(_ body: (String) throws -> Void) throws {
  let folder = NSTemporaryDirectory() + "adapters-" + UUID().uuidString
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: folder) }
  try body(folder)
}

private func error(_ a: [Float], _ b: [Float]) -> Double {
  let squares = zip(a, b).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
  return (squares / b.reduce(0.0) { $0 + Double($1 * $1) }).squareRoot()
}

@Suite struct AdapterExportTests {
  /// What llama.cpp adds to each matrix of the base's GGUF file, alpha / rank * B A, is the difference of the merged
  /// file from it. Llama pairs heads, GPT-NeoX has them in one matrix.
  @Test(arguments: ["granite", "gpt_neox", "phi3", "gemma2", "qwen3_5_square"])
  func aGGUFAdapterIsTheDifferenceOfTheMergedFile(name: String) throws {
    try withFolder { folder in
      let model = try adapted(name)
      let said = try GGUFAdapterFile.save(model, path: folder + "/adapter.gguf")
      #expect(said.count == 1 && said[0].contains("modules"))
      try model.saveGGUF(folder + "/merged.gguf", .f32, merging: true)
      let base = try load(name)
      try base.saveGGUF(folder + "/base.gguf", .f32)
      let files = try ["adapter", "merged", "base"].map { try GGUFFile(path: "\(folder)/\($0).gguf") }
      func read(_ file: Int, _ name: String) throws -> [Float] {
        let tensor = try files[file].tensor(name)
        var values = [Float](repeating: 0, count: tensor.rowCount * tensor.rowLength)
        try files[file].dequantize(name, rows: 0..<tensor.rowCount, into: &values)
        return values
      }
      let metadata = files[0].metadata
      #expect(metadata["general.type"] == .string("adapter") && metadata["adapter.type"] == .string("lora"))
      #expect(metadata["general.architecture"] == files[2].metadata["general.architecture"])
      let alpha = try #require(metadata["adapter.lora.alpha"]?.double)
      #expect(files[0].tensors.count == 2 * model.adapters.count)
      for tensor in files[0].tensors where tensor.name.hasSuffix(".lora_a") {
        let stem = String(tensor.name.dropLast(".lora_a".count))
        let (rank, columns) = (tensor.shape[0], tensor.shape[1])
        let (a, b) = (try read(0, tensor.name), try read(0, stem + ".lora_b"))
        var product = [Float](repeating: 0, count: b.count / rank * columns)
        for row in 0..<b.count / rank {
          for column in 0..<columns {
            for inner in 0..<rank {
              product[row * columns + column] += b[row * rank + inner] * a[inner * columns + column]
            }
            product[row * columns + column] *= Float(alpha / Double(rank))
          }
        }
        let (merged, plain) = (try read(1, stem), try read(2, stem))
        #expect(error(product, zip(merged, plain).map { $0 - $1 }) < 1e-3, "\(stem)")
      }
    }
  }

  /// Neither form has a place for weights and biases that were trained as a whole.
  @Test func wholeModulesAreNoPartOfAGGUFOrMLXAdapter() throws {
    try withFolder { folder in
      let model = try adapted("phi3")
      try model.trainParts(modules: ["lm_head"])
      let expected = AdapterError.notLowRank(
        module: "lm_head", what: "a weight trained as a whole (modules_to_save)")
      #expect(throws: expected) { try GGUFAdapterFile.save(model, path: folder + "/a.gguf") }
      #expect(throws: expected) { try MLXFiles.save(model, directory: folder + "/mlx") }
      #expect(throws: expected) { try PEFTFiles.saveFolded(model, directory: folder + "/peft") }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
    }
  }

  @Test(arguments: ["granite", "phi3"]) func mlxFilesComputeTheSame(name: String) throws {
    try withFolder { folder in
      let model = try adapted(name)
      let own = try model.logits(ids).floats()
      let said = try MLXFiles.save(model, directory: folder + "/mlx")
      #expect(said.count == 1)
      let file = try WeightSource(path: folder + "/mlx/adapters.safetensors")
      let first = try #require(model.modules.first { $0.adapter != nil })
      #expect(try file.tensor(first.name + ".lora_a").shape == [first.inFeatures, 9])
      #expect(try file.tensor(first.name + ".lora_b").shape == [9, first.outFeatures])
      let other = try load(name)
      let count = try MLXFiles.load(folder + "/mlx", into: other)
      #expect(count == model.adapters.count)
      #expect(error(try other.logits(ids).floats(), own) < 1e-5)
      #expect(throws: AdapterError.self) {
        try MLXFiles.load(folder + "/mlx", into: other)
      }
      try AtomicFile.write(folder + "/mlx/adapter_config.json", "{\"fine_tune_type\": \"dora\"}")
      #expect(throws: AdapterError.self) { try MLXFiles.load(folder + "/mlx", into: try load(name)) }
    }
  }

  /// mlx-lm looks the output matrix up by its name in the model.
  @Test func mlxKeysNameTheOutputMatrix() throws {
    try withFolder { folder in
      let model = try load("../models/bias")
      let names = ["lm_head", "model.layers.1.self_attn.q_proj"]
      try model.attach(names.map { ($0, LoRA(rank: 2, alpha: 4)) })
      _ = try MLXFiles.save(model, directory: folder + "/mlx")
      let config = try JSON.read(path: folder + "/mlx/adapter_config.json")
      let keys = try #require(config["lora_parameters"]?["keys"]?.array).compactMap(\.string)
      #expect(keys == ["lm_head", "self_attn.q_proj"])
      #expect(config["num_layers"]?.int == 1)
    }
  }
}
