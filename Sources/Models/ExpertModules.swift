import Formats

/// The modules of a layer of experts.
package struct ExpertModules: Sendable, Equatable {
  /// What chooses the experts of a token.
  package var router: LayerModule
  /// Those of one expert; `#` in a name stands for its number. In GGUF files the matrices of all experts are one
  /// tensor.
  private var pattern: FeedForwardModules
  /// Whether files in safetensors hold the matrices of all experts in one tensor.
  package private(set) var isStacked = false
  /// The tensor of GGUF files with every second row of the input matrices; nil where these are whole.
  package private(set) var partner: String?
  /// An expert that every token has beside those of its own, and the gate whose sigmoid multiplies what it gives; nil
  /// in a family without.
  package private(set) var shared: (expert: FeedForwardModules, gate: LayerModule)?

  package static func == (a: ExpertModules, b: ExpertModules) -> Bool {
    a.router == b.router && a.pattern == b.pattern && a.isStacked == b.isStacked && a.partner == b.partner
      && a.shared?.expert == b.shared?.expert && a.shared?.gate == b.shared?.gate
  }

  /// Modules whose names follow those of the router's and of the expert's.
  package init(router: String, inputs: [(name: String, gguf: String)], output: String) {
    self.router = LayerModule(router, "ffn_gate_inp", .linear(from: .hidden, to: .experts), isRouter: true)
    pattern = FeedForwardModules(
      .gated, inputs: inputs, output: LayerModule(output, "ffn_down_exps", .linear(from: .expert, to: .hidden)),
      inner: .expert)
  }

  /// As Qwen and AI2 call them.
  package init() {
    self.init(
      router: "mlp.gate",
      inputs: [("mlp.experts.#.gate_proj", "ffn_gate_exps"), ("mlp.experts.#.up_proj", "ffn_up_exps")],
      output: "mlp.experts.#.down_proj")
  }

  /// The same with one that every token has.
  package static var qwenWithShared: ExpertModules {
    var modules = ExpertModules()
    modules.shared = (
      FeedForwardModules(
        .gated,
        inputs: [("mlp.shared_expert.gate_proj", "ffn_gate_shexp"), ("mlp.shared_expert.up_proj", "ffn_up_shexp")],
        output: LayerModule(
          "mlp.shared_expert.down_proj", "ffn_down_shexp", .linear(from: .sharedExpert, to: .hidden)),
        inner: .sharedExpert),
      LayerModule("mlp.shared_expert_gate", "ffn_gate_inp_shexp", .linear(from: .hidden, to: .one))
    )
    return modules
  }

  /// Stacked, with one input matrix and biases, as gpt-oss has them.
  package init(router: String, input: String, output: String) {
    self.router = LayerModule(
      router, "ffn_gate_inp", .linear(from: .hidden, to: .experts), hasBias: true, isRouter: true)
    pattern = FeedForwardModules(
      .alternatingGate, inputs: [(input, "ffn_gate_exps")],
      output: LayerModule(output, "ffn_down_exps", .linear(from: .expert, to: .hidden)), inner: .expertGateAndUp)
    pattern.hasBias = true
    (isStacked, partner) = (true, "ffn_up_exps")
  }

  /// The modules of one expert.
  package func expert(_ index: Int) -> FeedForwardModules {
    var own = pattern
    own.inputs = own.inputs.map { $0.numbered(index) }
    own.output = own.output.numbered(index)
    return own
  }

  /// Names of an expert's modules with `#`, and those of the tensors that hold all experts in a GGUF file.
  package var stacks: [LayerModule] { pattern.all }

  /// Those that every token has.
  package var ofEveryToken: [LayerModule] { [router] + (shared.map { $0.expert.all + [$0.gate] } ?? []) }

  /// Of `count` experts, in checkpoint order.
  package func all(_ count: Int) -> [LayerModule] {
    [router] + (0..<count).flatMap { expert($0).all } + (shared.map { $0.expert.all + [$0.gate] } ?? [])
  }
}

extension LayerModule {
  fileprivate func numbered(_ index: Int) -> LayerModule {
    guard let place = name.firstIndex(of: "#") else { return self }
    return LayerModule(name[..<place] + String(index) + name[name.index(after: place)...], gguf, form, hasBias: hasBias)
  }
}

/// Sizes and arithmetic of the layers of experts.
public struct ExpertNumbers: Sendable, Equatable {
  /// Experts of a layer, 1 to 4096.
  public package(set) var count: Int
  /// Experts of a token, at most `count`.
  public package(set) var perToken: Int
  /// Width of one expert, 1 to 2^22.
  public package(set) var width: Int
  /// Width of the expert that every token has, 1 to 2^22; nil in a family without.
  public package(set) var sharedWidth: Int?
  /// Whether the weights of a token's experts are divided by their sum.
  public package(set) var normalizesWeights: Bool
  /// Weight of the loss that keeps experts equally busy (`router_aux_loss_coef`).
  public package(set) var balanceCoefficient: Double
  /// Whether that loss is added to a model's (`output_router_logits`).
  public package(set) var addsBalance = false

  package init(
    count: Int, perToken: Int, width: Int, normalizesWeights: Bool, balanceCoefficient: Double = 0
  ) {
    self.count = count
    self.perToken = perToken
    self.width = width
    self.normalizesWeights = normalizesWeights
    self.balanceCoefficient = balanceCoefficient
  }

  /// Checks the numbers; `path` is named in the error.
  func validate(path: String) throws(FormatError) {
    let limits = [
      ("num_experts", count, 4096), ("num_experts_per_tok", perToken, count), ("moe_intermediate_size", width, 1 << 22),
    ]
    let all = limits + (sharedWidth.map { [("shared_expert_intermediate_size", $0, 1 << 22)] } ?? [])
    for (field, value, most) in all where value < 1 || value > most {
      throw .badField(path: path, field: field, value: "\(value)", expected: "1 to \(most)")
    }
    guard (0...DecoderSpec.factors.range.upperBound).contains(balanceCoefficient) else {
      throw .badField(
        path: path, field: "router_aux_loss_coef", value: "\(balanceCoefficient)", expected: "0 to 1e38")
    }
  }
}
