/// A module of every decoder layer: its names and its shape.
package struct LayerModule: Sendable, Equatable {
  /// A size that the model's own numbers fill in.
  package enum Width: Sendable, Equatable {
    /// Of the residual stream, of the feed-forward layer, of all query heads, of all key heads and of one head.
    case hidden, inner, queries, keys, head
    /// As many as there are query heads.
    case heads
    /// Of q, k and v together, and of gate and up together.
    case queriesKeysAndValues, gateAndUp
    /// Of one expert, of its gate and up together, and as many as there are experts.
    case expert, expertGateAndUp, experts
  }

  package enum Form: Sendable, Equatable {
    case linear(from: Width, to: Width)
    case norm(Width)
    /// A score of each head that attention adds to its softmax.
    case sinks
  }

  /// Behind the layer's own name in a Hugging Face checkpoint (`model.layers.N.`).
  package let name: String
  /// Behind `blk.N.` in a GGUF file.
  package let gguf: String
  package let form: Form
  package var hasBias = false
  /// Whether it chooses experts, and so stays as wide as it is stored.
  package let isRouter: Bool

  package init(_ name: String, _ gguf: String, _ form: Form, hasBias: Bool = false, isRouter: Bool = false) {
    self.name = name
    self.gguf = gguf
    self.form = form
    self.hasBias = hasBias
    self.isRouter = isRouter
  }
}

/// The modules of a decoder layer by their place in the computation, named as in Llama unless a family says otherwise.
///
/// What is nil is not there: without `attentionNorm` the layer's input goes to attention as it is; a post norm is applied
/// to what attention or the feed-forward layer adds to the residual stream.
package struct LayerModules: Sendable, Equatable {
  package var attentionNorm: LayerModule? = LayerModule("input_layernorm", "attn_norm", .norm(.hidden))
  package var attention = AttentionModules()
  package var attentionPostNorm: LayerModule?
  package var feedForwardNorm: LayerModule? = LayerModule("post_attention_layernorm", "ffn_norm", .norm(.hidden))
  package var feedForward = FeedForwardModules()
  /// In the place of `feedForward` in layers with experts; nil in a family that has none.
  package var experts: ExpertModules?
  package var feedForwardPostNorm: LayerModule?

  package init() {}

  /// All of a layer without experts that are there, in checkpoint order.
  package var all: [LayerModule] { all(feedForward.all) }

  /// All of a layer with so many experts.
  package func all(experts count: Int) -> [LayerModule] { all(experts?.all(count) ?? []) }

  private func all(_ feedForward: [LayerModule]) -> [LayerModule] {
    [attentionNorm].compactMap { $0 } + attention.all
      + [attentionPostNorm, feedForwardNorm].compactMap { $0 } + feedForward
      + [feedForwardPostNorm].compactMap { $0 }
  }

  /// Says which linear modules have a bias; nil leaves them as they are.
  package mutating func setBiases(queryKeyValue: Bool? = nil, output: Bool? = nil, feedForward: Bool? = nil) {
    if let queryKeyValue { attention.inputsHaveBias = queryKeyValue }
    if let output { attention.output.hasBias = output }
    if let feedForward { self.feedForward.hasBias = feedForward }
  }
}
