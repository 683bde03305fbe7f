/// The modules of attention, named as in Llama unless a family says otherwise.
///
/// Norms of q and k come before the rotation and have the width of one head (Qwen3) or of the whole projection (OLMo
/// 2).
package struct AttentionModules: Sendable, Equatable {
  /// How `inputs` hold the rows of q, k and v.
  package enum Form: Sendable, Equatable {
    /// A matrix for each of q, k and v.
    case separate
    /// One matrix: those of q, then those of k, then those of v (Phi-3).
    case stacked
    /// One matrix: for each head those of its q, k and v (GPT-NeoX).
    case perHead
  }

  package var form = Form.separate
  /// What reads the input of attention.
  package var inputs = [
    LayerModule("self_attn.q_proj", "attn_q", .linear(from: .hidden, to: .queries)),
    LayerModule("self_attn.k_proj", "attn_k", .linear(from: .hidden, to: .keys)),
    LayerModule("self_attn.v_proj", "attn_v", .linear(from: .hidden, to: .keys)),
  ]
  package var output = LayerModule("self_attn.o_proj", "attn_output", .linear(from: .queries, to: .hidden))
  /// Whether the rows of q hold, head by head, those of a gate too, whose sigmoid multiplies what attention gives.
  package var isGated = false
  package var queryNorm: LayerModule?
  package var keyNorm: LayerModule?
  /// A score of each head that takes part in its softmax and has no value (gpt-oss).
  package var sinks: LayerModule?

  /// As in Llama.
  package init() {}

  /// One projection to q, k and v.
  package init(_ form: Form, fused name: String, output: String) {
    self.form = form
    inputs = [LayerModule(name, "attn_qkv", .linear(from: .hidden, to: .queriesKeysAndValues))]
    self.output = LayerModule(output, "attn_output", .linear(from: .queries, to: .hidden))
  }

  /// All that are there, in checkpoint order.
  package var all: [LayerModule] { inputs + [output] + [queryNorm, keyNorm, sinks].compactMap { $0 } }

  package var inputsHaveBias: Bool {
    get { inputs[0].hasBias }
    set { for index in inputs.indices { inputs[index].hasBias = newValue } }
  }
}
