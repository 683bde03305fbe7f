import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Adapters
@testable import Models

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/families").path

/// Adapters that are written for llama.cpp and mlx-lm, read back bit by bit.
@Suite struct AdapterReadBackTests {
  /// A model with random adapters on every linear module but one; `mixed`: the second has another rank and scaling.
  private func adapted(_ name: String, mixed: Bool) throws -> LanguageModel {
    let model = try load(name)
    let modules = model.modules.filter { $0.kind == .linear }.dropFirst()
    try model.attach(
      modules.enumerated().map { index, module in
        let other = LoRA(rank: 3, alpha: 7)
        return (module.name, mixed && index == 1 ? other : LoRA(rank: 5, alpha: 8))
      })
    for (number, tensor) in members(model).flatMap(\.adapter.tensors).enumerated() {
      let stream = RandomStream(seed: UInt64(number), purpose: "test", module: name)
      try model.backend.fillNormal(tensor, mean: 0, deviation: 0.1, stream: stream)
    }
    return model
  }

  private func members(_ model: LanguageModel) -> [(module: Module, adapter: Adapter)] {
    model.adapterSets.flatMap(\.members)
  }

  private func load(_ name: String) throws -> LanguageModel {
    try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32))
      .load("\(fixtures)/\(name)")
  }

  private func withFolder(_ body: (String) throws -> Void) throws {
    let folder = NSTemporaryDirectory() + "adapters-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
  }

  /// A [5, in] and B [out, 5] of a module with scaling 8 / 5: filled up with zeros where its rank is 3, and B scaled.
  private func expected(_ adapter: Adapter, _ module: Module) throws -> (a: [Float], b: [Float]) {
    let rank = adapter.tensors[0].shape[0]
    let (a, b) = (try adapter.tensors[0].floats(), try adapter.tensors[1].floats())
    if rank == 5 { return (a, b) }
    let factor = Float((7.0 / 3.0) / (8.0 / 5.0))
    return (
      a + [Float](repeating: 0, count: (5 - rank) * module.inFeatures),
      (0..<module.outFeatures).flatMap { row in b[row * rank..<(row + 1) * rank].map { $0 * factor } + [0, 0] }
    )
  }

  /// llama.cpp's names of a layer's matrices.
  private static let stems = [
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up",
  ]

  /// Granite's q and k have the pairs of a rotation side by side in llama.cpp: row 2 j + p of a head is row
  /// j + p * half of it here. Phi-3 stays as it is.
  @Test(arguments: ["granite", "phi3"], [false, true])
  func aGGUFAdapterHoldsTheseBits(name: String, mixed: Bool) throws {
    try withFolder { folder in
      let model = try adapted(name, mixed: mixed)
      #expect(try GGUFAdapterFile.save(model, path: folder + "/a.gguf").count == (mixed ? 1 : 0))
      let file = try GGUFFile(path: folder + "/a.gguf")
      #expect(
        file.metadata == [
          "general.type": .string("adapter"), "general.architecture": .string(name), "general.name": .string(name),
          "adapter.type": .string("lora"), "adapter.lora.alpha": .float32(8),
        ])
      var names: Set<String> = []
      for (module, adapter) in members(model) {
        let stem =
          try module.layer.map { layer in
            let path = module.name.split(separator: ".").dropFirst(3).joined(separator: ".")
            return "blk.\(layer).\(try #require(Self.stems[path]))"
          } ?? "output"
        var (a, b) = try expected(adapter, module)
        if name == "granite", stem.hasSuffix("attn_q") || stem.hasSuffix("attn_k") {
          let half = model.spec.headDimension / 2
          b = (0..<module.outFeatures).flatMap { row in
            let (head, place) = (row / (2 * half), row % (2 * half))
            let source = head * 2 * half + place / 2 + place % 2 * half
            return b[source * 5..<(source + 1) * 5]
          }
        }
        for (part, wanted, shape) in [
          ("lora_a", a, [5, module.inFeatures]), ("lora_b", b, [module.outFeatures, 5]),
        ] {
          let tensor = try file.tensor("\(stem).weight.\(part)")
          #expect(tensor.shape == shape && tensor.type == .f32)
          let bits = try file.bytes(of: tensor.name).withMemoryRebound(to: Float.self) { $0.map(\.bitPattern) }
          #expect(bits == wanted.map(\.bitPattern), "\(tensor.name)")
          names.insert(tensor.name)
        }
      }
      #expect(Set(file.tensors.map(\.name)) == names && names.count == file.tensors.count)
    }
  }

  @Test(arguments: ["granite", "phi3"], [false, true])
  func mlxFilesHoldTheseBits(name: String, mixed: Bool) throws {
    try withFolder { folder in
      let model = try adapted(name, mixed: mixed)
      #expect(try MLXFiles.save(model, directory: folder + "/mlx").count == (mixed ? 1 : 0))
      let config = try JSON.read(path: folder + "/mlx/adapter_config.json")
      let paths = members(model).map { adapted in
        let path = adapted.module.name.split(separator: ".")
        return adapted.module.layer == nil ? adapted.module.name : path.dropFirst(3).joined(separator: ".")
      }
      let first = try #require(members(model).compactMap(\.module.layer).min())
      let wanted: JSON = [
        "fine_tune_type": "lora", "model": .string(model.path), "num_layers": .int(model.spec.layerCount - first),
        "lora_parameters": [
          "rank": 5, "scale": 1.6, "dropout": 0.0, "keys": .array(Set(paths).sorted().map { .string($0) }),
        ],
      ]
      #expect(config == wanted)
      let file = try SafetensorsFile(path: folder + "/mlx/adapters.safetensors")
      #expect(file.metadata == ["format": "pt", "base_model_type": name])
      #expect(file.entries.count == 2 * model.adapters.count && file.entries.allSatisfy { $0.type == .f32 })

      let other = try load(name)
      #expect(try MLXFiles.load(folder + "/mlx", into: other) == model.adapters.count)
      for (module, adapter) in members(model) {
        let (a, b) = try expected(adapter, module)
        for (part, wanted, rows) in [("lora_a", a, 5), ("lora_b", b, module.outFeatures)] {
          let columns = wanted.count / rows
          let bits = try file.bytes(of: "\(module.name).\(part)").withMemoryRebound(to: Float.self) {
            $0.map(\.bitPattern)
          }
          #expect(file.entry("\(module.name).\(part)")?.shape == [columns, rows])
          #expect(bits == wanted.indices.map { wanted[$0 % rows * columns + $0 / rows].bitPattern }, "\(module.name)")
        }
        let read = try #require(other.module(module.name)?.adapter)
        #expect(try read.tensors[0].floats() == a && read.tensors[1].floats() == b, "\(module.name)")
        #expect(read.lowRank?.scaling == Float(1.6) && (read.method as? LoRA)?.rank == 5)
      }
      // What was read is written as it was.
      _ = try MLXFiles.save(other, directory: folder + "/again")
      for name in ["adapters.safetensors", "adapter_config.json"] {
        let files = FileManager.default
        #expect(files.contentsEqual(atPath: "\(folder)/mlx/\(name)", andPath: "\(folder)/again/\(name)"), "\(name)")
      }
    }
  }
}
