/// A module of every decoder layer: its names and its shape.
package struct LayerModule: Sendable, Equatable {
  /// A size that the model's own numbers fill in.
  package enum Width: Sendable, Equatable {
    /// Of the residual stream, of the feed-forward layer, of all query heads, of all key heads and of one head.
    case hidden, inner, queries, keys, head
  }

  package enum Form: Sendable, Equatable {
    case linear(from: Width, to: Width)
    case norm(Width)
  }

  /// Behind `model.layers.N.` in a Hugging Face checkpoint.
  package let name: String
  /// Behind `blk.N.` in a GGUF file.
  package let gguf: String
  package let form: Form
  package var hasBias = false

  package init(_ name: String, _ gguf: String, _ form: Form) {
    self.name = name
    self.gguf = gguf
    self.form = form
  }
}

/// The modules of a decoder layer by their place in the computation, named as in Llama unless a family says otherwise.
///
/// What is nil is not there: without `attentionNorm` the layer's input goes to q, k and v as it is; a post norm is
/// applied to what attention or the feed-forward layer adds to the residual stream; norms of q and k come before the
/// rotation and have the width of one head (Qwen3) or of the whole projection (OLMo 2).
package struct LayerModules: Sendable, Equatable {
  package var attentionNorm: LayerModule? = LayerModule("input_layernorm", "attn_norm", .norm(.hidden))
  package var query = LayerModule("self_attn.q_proj", "attn_q", .linear(from: .hidden, to: .queries))
  package var key = LayerModule("self_attn.k_proj", "attn_k", .linear(from: .hidden, to: .keys))
  package var value = LayerModule("self_attn.v_proj", "attn_v", .linear(from: .hidden, to: .keys))
  package var output = LayerModule("self_attn.o_proj", "attn_output", .linear(from: .queries, to: .hidden))
  package var queryNorm: LayerModule?
  package var keyNorm: LayerModule?
  package var attentionPostNorm: LayerModule?
  package var feedForwardNorm: LayerModule? = LayerModule("post_attention_layernorm", "ffn_norm", .norm(.hidden))
  package var gate = LayerModule("mlp.gate_proj", "ffn_gate", .linear(from: .hidden, to: .inner))
  package var up = LayerModule("mlp.up_proj", "ffn_up", .linear(from: .hidden, to: .inner))
  package var down = LayerModule("mlp.down_proj", "ffn_down", .linear(from: .inner, to: .hidden))
  package var feedForwardPostNorm: LayerModule?

  package init() {}

  /// All that are there, in checkpoint order.
  package var all: [LayerModule] {
    [
      attentionNorm, query, key, value, output, queryNorm, keyNorm, attentionPostNorm, feedForwardNorm, gate, up, down,
      feedForwardPostNorm,
    ].compactMap { $0 }
  }

  /// Says which linear modules have a bias; nil leaves them as they are.
  package mutating func setBiases(queryKeyValue: Bool? = nil, output: Bool? = nil, feedForward: Bool? = nil) {
    if let queryKeyValue { for path in [\Self.query, \.key, \.value] { self[keyPath: path].hasBias = queryKeyValue } }
    if let output { self.output.hasBias = output }
    if let feedForward { for path in [\Self.gate, \.up, \.down] { self[keyPath: path].hasBias = feedForward } }
  }
}
