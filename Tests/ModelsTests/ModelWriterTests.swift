import Adapters
import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

private func opened(_ path: String, _ options: LoadOptions = LoadOptions(computeType: .f32)) throws -> LanguageModel {
  try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load(path)
}

/// Calls `body` with a folder that holds a copy of a fixture, `base`.
private func withCopy(_ fixture: String, _ body: (String) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
  defer { try? FileManager.default.removeItem(atPath: folder) }
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  try FileManager.default.copyItem(atPath: "\(modelFixtures)/\(fixture)", toPath: folder + "/base")
  try body(folder)
}

/// What a model is served with, beside config and weights. Not what the engine would write itself.
private let companions = [
  "generation_config.json": "{\"temperature\": 0.6, \"eos_token_id\": [1, 2]}",
  "chat_template.jinja": "{{ messages[0].content }}", "added_tokens.json": "{}\n",
  "special_tokens_map.json": "{ }\n",
]

private func write(_ files: [String: String], to folder: String) throws {
  for (name, text) in files { try AtomicFile.write("\(folder)/\(name)", text) }
}

private func text(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

@Suite struct ModelWriterTests {
  private let ids: [Int32] = [1, 17, 4, 99, 23, 5, 5, 61]

  /// Weights that are stored dense have no `quantization_config` beside them, and their type is the stored one.
  @Test(arguments: ["nf4", "nf4dq", "base"]) func theConfigurationSaysWhatTheTensorsAre(fixture: String) throws {
    try withCopy(fixture) { folder in
      let model = try opened(folder + "/base")
      try model.save(directory: folder + "/out")
      let config = try JSON.read(path: folder + "/out/config.json")
      #expect(config["quantization_config"] == nil)
      #expect((config["dtype"] ?? config["torch_dtype"])?.string == "bfloat16")
      let weights = try WeightSource(path: folder + "/out")
      #expect(weights.tensors.allSatisfy { $0.encoding == .plain(.bf16) })
      #expect(!weights.tensors.contains { $0.name.contains("absmax") })
      let again = try opened(folder + "/out")
      #expect(again.modules.allSatisfy { $0.quantized == nil })
    }
  }

  /// f32 keeps what 4 bits stand for; f16 rounds it once, and a weight beyond its range is refused.
  @Test(arguments: ["nf4dq", "base"]) func weightsAreStoredAsAsked(fixture: String) throws {
    try withCopy(fixture) { folder in
      let model = try opened(folder + "/base")
      for (dtype, name, most) in [(DType.f32, "float32", 1e-6), (.f16, "float16", 2e-3)] {
        let out = folder + "/" + name
        try model.save(directory: out, dtype: dtype)
        #expect(try WeightSource(path: out).tensors.allSatisfy { $0.encoding == .plain(dtype == .f32 ? .f32 : .f16) })
        let config = try JSON.read(path: out + "/config.json")
        #expect((config["dtype"] ?? config["torch_dtype"])?.string == name)
        let (own, read) = (try model.logits(ids).floats(), try opened(out).logits(ids).floats())
        let size = own.map(abs).max() ?? 0
        #expect(zip(own, read).allSatisfy { abs($0 - $1) <= Float(most) * size }, "\(name)")
      }
      let module = try #require(model.modules.first { $0.kind == .norm })
      module.weight = try Tensor([Float](repeating: 1e6, count: module.weightShape[0]), on: model.backend)
      #expect(throws: FormatError.self) { try model.save(directory: folder + "/beyond", dtype: .f16) }
      #expect(!FileManager.default.fileExists(atPath: folder + "/beyond"))
    }
  }

  @Test func adaptersAreNotForgotten() throws {
    try withCopy("base") { folder in
      let model = try opened(folder + "/base")
      try model.attach([("lm_head", LoRA(rank: 2, alpha: 4))])
      #expect(throws: ModelError.adaptersAttached(count: 1)) { try model.save(directory: folder + "/out") }
      #expect(!FileManager.default.fileExists(atPath: folder + "/out"))
      try model.withoutAdapters { try model.save(directory: folder + "/plain") }
      try model.mergeAdapters()
      try model.save(directory: folder + "/out")
    }
  }

  @Test func whatAModelIsServedWithGoesAlong() throws {
    try withCopy("base") { folder in
      try write(companions, to: folder + "/base")
      try opened(folder + "/base").save(directory: folder + "/saved")
      var options = ModelQuantizer.Options()
      options.blockSize = 32
      try ModelQuantizer(backend: CPUBackend(threadCount: 2), options: options).convert(
        folder + "/base", to: folder + "/quantized")
      for (name, wanted) in companions {
        #expect(try text("\(folder)/saved/\(name)") == wanted, "\(name)")
        #expect(try text("\(folder)/quantized/\(name)") == wanted, "\(name)")
      }
      // Strangers do not.
      try write(["notes.txt": "mine", "adapter_config.json": "{}"], to: folder + "/base")
      try ModelQuantizer(backend: CPUBackend(threadCount: 2), options: options).convert(
        folder + "/base", to: folder + "/clean")
      let names = try FileSystem.list(folder + "/clean")
      #expect(!names.contains("notes.txt") && !names.contains("adapter_config.json"))
    }
  }

  /// A saved model is read from one file, so an index and shards of an older one must not stay.
  @Test func anOlderModelGoesWhole() throws {
    try withCopy("base") { folder in
      var options = ModelQuantizer.Options()
      options.shardByteCount = 20_000
      let out = folder + "/out"
      try ModelQuantizer(backend: CPUBackend(threadCount: 2), options: options).convert(folder + "/base", to: out)
      try write(["notes": "mine"], to: out)
      let model = try opened(folder + "/base")
      try model.save(directory: out)
      let names = try FileSystem.list(out)
      #expect(names.filter { $0.hasPrefix("model") } == ["model.safetensors"])
      #expect(names.contains("notes"))
      for name in ["adapter_config.json", "consolidated.safetensors", "pytorch_model.bin"] {
        try write([name: "{}"], to: out)
        #expect { try model.save(directory: out) } throws: { "\($0)".contains("holds \(name),") }
        try FileSystem.remove("\(out)/\(name)")
      }
    }
  }

  @Test func aConfigurationThatLostSomethingIsNoticed() throws {
    try withCopy("base") { folder in
      let model = try opened(folder + "/base")
      var other = model.spec
      other.normEpsilon *= 2
      #expect(throws: FormatError.readsBackDifferently(path: "out/config.json", what: "the configuration")) {
        try ModelFolder.check(folder + "/base", describes: other, path: "out")
      }
      try ModelFolder.check(folder + "/base", describes: model.spec, path: "out")
    }
  }

  /// The source says f32, and what is written is bf16; both names of the field are told.
  @Test func aQuantizedModelNamesTheTypeOfItsTensors() throws {
    try withCopy("base") { folder in
      var config = try JSON.read(path: folder + "/base/config.json").object ?? JSONObject()
      config["dtype"] = "float64"
      config["torch_dtype"] = "float16"
      try write(["config.json": JSON.object(config).text()], to: folder + "/base")
      var options = ModelQuantizer.Options()
      options.denseType = .bf16
      try ModelQuantizer(backend: CPUBackend(threadCount: 2), options: options).convert(
        folder + "/base", to: folder + "/out")
      let saved = try JSON.read(path: folder + "/out/config.json")
      #expect(saved["dtype"]?.string == "bfloat16" && saved["torch_dtype"]?.string == "bfloat16")
    }
  }
}

@Suite struct StoredFormTests {
  /// A file in 4 bits stays what it is: equal options are accepted, others named with both values.
  @Test(arguments: [("nf4", false), ("nf4dq", true)]) func optionsThatDifferAreNamed(
    fixture: String, isDouble: Bool
  ) throws {
    let path = "\(modelFixtures)/\(fixture)"
    func open(_ options: LoadOptions) throws { _ = try opened(path, options) }
    try open(LoadOptions())
    try open(LoadOptions(quantization: .nf4, blockSize: 64, doubleQuantization: isDouble))
    for (options, name) in [
      (LoadOptions(quantization: .fp4), "quant nf4, and quant fp4"),
      (LoadOptions(quantization: .int4), "quant nf4, and quant int4"),
      (LoadOptions(blockSize: 128), "block 64, and block 128"),
      (LoadOptions(doubleQuantization: !isDouble), "double_quant \(isDouble), and double_quant \(!isDouble)"),
    ] {
      #expect { try open(options) } throws: { "\($0)".contains(name) && "\($0)".contains(path) }
    }
    var header = LoadOptions(quantization: .fp4, headerOnly: true)
    #expect { try open(header) } throws: { "\($0)".contains("quant nf4, and quant fp4") }
    header.quantization = .nf4
    try open(header)
  }
}
