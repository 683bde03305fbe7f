import Tensors

/// The modules of a feed-forward layer, named as in Llama unless a family says otherwise.
package struct FeedForwardModules: Sendable, Equatable {
  /// What `output` reads, and how `inputs` hold the rows for it; a is the spec's activation.
  package enum Form: Sendable, Equatable {
    /// a(gate) * up, a matrix for each.
    case gated
    /// a(gate) * up, one matrix: the rows of gate, then those of up (Phi-3).
    case fusedGate
    /// a(gate) * up, one matrix: a row of gate, then one of up, and so on (gpt-oss).
    case alternatingGate
    /// a(up), with one matrix (GPT-NeoX).
    case plain
  }

  package var form: Form
  /// What reads the input of the layer.
  package var inputs: [LayerModule]
  package var output: LayerModule

  /// As in Llama.
  package init() {
    self.init(
      .gated, inputs: [("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up")], output: "mlp.down_proj")
  }

  /// Input modules by their names in both kinds of files.
  package init(_ form: Form, inputs: [(name: String, gguf: String)], output: String) {
    self.init(
      form, inputs: inputs, output: LayerModule(output, "ffn_down", .linear(from: .inner, to: .hidden)),
      inner: form == .fusedGate ? .gateAndUp : .inner)
  }

  init(_ form: Form, inputs: [(name: String, gguf: String)], output: LayerModule, inner: LayerModule.Width) {
    self.form = form
    self.inputs = inputs.map { LayerModule($0.name, $0.gguf, .linear(from: .hidden, to: inner)) }
    self.output = output
  }

  /// All of them, in checkpoint order.
  package var all: [LayerModule] { inputs + [output] }

  package var hasBias: Bool {
    get { output.hasBias }
    set {
      for index in inputs.indices { inputs[index].hasBias = newValue }
      output.hasBias = newValue
    }
  }
}

extension Activation {
  /// `hidden_act` of config.json as it is written.
  package var configName: String {
    switch self {
    case .silu: "silu"
    case .geluTanh: "gelu_pytorch_tanh"
    case .gelu: "gelu"
    case .sigmoid: "sigmoid"
    // What gpt-oss's config says; the rest is in its family.
    case .clampedSwish: "silu"
    }
  }

  /// The names of `hidden_act` that are read. `gelu_new` and `gelu_fast` write the tanh form in other words.
  package static let configNames: [String: Activation] = [
    "silu": .silu, "swish": .silu, "gelu_pytorch_tanh": .geluTanh, "gelu_new": .geluTanh, "gelu_fast": .geluTanh,
    "gelu": .gelu,
  ]
}
