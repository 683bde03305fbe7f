import Autograd
import CPUBackend
import Formats
import Tensors
import Testing

@testable import Models

private let ids: [Int32] = (0..<12).map { (i: Int) -> Int32 in Int32((5 * i * i + i + 3) % 64) }

/// Feed-forward layer beside attention, which no family of ours has yet.
private enum Parallel: DecoderFamily {
  static let modelType = "parallel"
  static let className = "ParallelForCausalLM"
  static let isParallel = true
  static let modules: LayerModules = {
    var modules = LayerModules()
    modules.feedForwardNorm = nil
    return modules
  }()
  static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError) {}
  static func write(_ spec: DecoderSpec, into json: inout JSONObject) {}
}

private func spec(_ family: any DecoderFamily.Type, layers: Int = 1) -> DecoderSpec {
  DecoderSpec(
    family, hiddenSize: 32, intermediateSize: 48, layerCount: layers, headCount: 4, keyValueHeadCount: 2,
    headDimension: 8, vocabularySize: 64, maxPositions: 64)
}

private func model(_ spec: DecoderSpec) throws -> LanguageModel {
  try LanguageModel(
    random: spec, seed: 5, options: LoadOptions(computeType: .f32), trainsAllParameters: true, deviation: 0.2,
    backend: CPUBackend(threadCount: 2))
}

/// Forms of a layer that are computed from parts that hooks see.
@Suite struct DecoderFormTests {
  /// Inputs and outputs of modules in one pass, by role.
  private func traced(_ model: LanguageModel) throws -> [String: (input: [Float], output: [Float])] {
    var seen: [String: (input: [Float], output: [Float])] = [:]
    let hooks = model.modules.map { module in
      module.addHook { input, output in
        seen[module.role] = (module.kind == .embedding ? [] : try input.floats(), try output.floats())
        return nil
      }
    }
    _ = try model.logits(ids)
    for hook in hooks { hook.remove() }
    return seen
  }

  @Test func parallelBranchesReadTheSameInput() throws {
    var form = spec(Parallel.self)
    form.residualScale = 0.5
    let seen = try traced(try model(form))
    let (attended, fed) = (try #require(seen["o_proj"]).output, try #require(seen["down_proj"]).output)
    let x = try #require(seen["embed_tokens"]).output
    let sum = zip(x, zip(attended, fed)).map { $0 + 0.5 * ($1.0 + $1.1) }
    #expect(relativeError(try #require(seen["norm"]).input, sum) < 1e-6)
    #expect(seen["gate_proj"]?.input == seen["q_proj"]?.input && seen["post_attention_layernorm"] == nil)
  }

  /// Scales of embedding, residual stream and logits, and that their gradients follow (central differences).
  @Test func scalesMultiplyWhatTheySay() throws {
    var form = spec(Llama.self)
    (form.embeddingScale, form.residualScale, form.logitScale) = (3, 0.25, 0.5)
    let model = try model(form)
    let seen = try traced(model)
    let x = try #require(seen["embed_tokens"]).output.map { 3 * $0 }
    #expect(relativeError(try #require(seen["input_layernorm"]).input, x) < 1e-6)
    let middle = zip(x, try #require(seen["o_proj"]).output).map { $0 + 0.25 * $1 }
    #expect(relativeError(try #require(seen["post_attention_layernorm"]).input, middle) < 1e-6)
    let last = zip(middle, try #require(seen["down_proj"]).output).map { $0 + 0.25 * $1 }
    #expect(relativeError(try #require(seen["norm"]).input, last) < 1e-6)
    let head = try #require(seen["lm_head"])
    #expect(relativeError(head.input, try #require(seen["norm"]).output.map { 0.5 * $0 }) < 1e-6)

    for name in ["model.embed_tokens", "model.layers.0.self_attn.v_proj", "model.layers.0.mlp.up_proj", "lm_head"] {
      try model.loss(Batch([(ids, nil)]), isTraining: false).backward()
      let weight = try #require(model.module(name)?.weight)
      let gradient = try #require(weight.gradient).floats()
      let values = try weight.floats()
      let at = try #require(gradient.indices.max { gradient[$0].magnitude < gradient[$1].magnitude })
      func loss(_ change: Float) throws -> Double {
        try weight.withMutableHostBytes { $0.bindMemory(to: Float.self)[at] = values[at] + change }
        defer { try? weight.withMutableHostBytes { $0.bindMemory(to: Float.self)[at] = values[at] } }
        return try GradientMode.disabled { try model.loss(Batch([(ids, nil)]), isTraining: false).item() }
      }
      let (above, below) = (try loss(0.01), try loss(-0.01))
      let slope = (above - below) / 0.02
      #expect(abs(slope - Double(gradient[at])) < 0.01 * abs(slope), "\(name): \(slope) and \(gradient[at])")
      for parameter in model.trainableParameters { parameter.tensor.gradient = nil }
    }
  }

  @Test func aLayersOwnRopeTakesThePlaceOfTheModels() throws {
    var all = spec(Llama.self, layers: 2)
    all.rope.theta = 500
    var own = spec(Llama.self, layers: 2)
    for layer in own.layers.indices { own.layers[layer].rotation = .own(Rope(theta: 500)) }
    var mixed = own
    mixed.layers[0].rotation = .model
    var plain = own
    plain.layers[1].rotation = .none
    let logits = try [all, own, mixed, plain].map { try model($0).logits(ids).floats() }
    #expect(logits[0] == logits[1])
    for (a, b) in [(0, 2), (0, 3), (2, 3)] { #expect(relativeError(logits[a], logits[b]) > 1e-3) }
    #expect(mixed.ropes == [Rope(), Rope(theta: 500)])
  }
}
