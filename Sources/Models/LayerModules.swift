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
    /// Of the expert that every token has, and of its gate.
    case sharedExpert, one
    /// Of queries and their gates together (Qwen3.5).
    case queriesAndGates
    /// Of queries, keys and values of a gated DeltaNet together, of its values, of one of its heads, and as many as
    /// there are value heads.
    case deltaRows, deltaValues, deltaHead, deltaHeads
    /// Of queries, keys, values and gates of a gated DeltaNet in one matrix, and of its strengths and decays
    /// (Qwen3-Next).
    case deltaRowsAndGates, deltaRates
  }

  package enum Form: Sendable, Equatable {
    case linear(from: Width, to: Width)
    case norm(Width)
    /// A causal convolution of so many channels, each with numbers of its own.
    case convolution(Width)
    /// So many numbers.
    case vector(Width, initial: InitialWeight)
  }

  /// Behind the layer's own name in a Hugging Face checkpoint (`model.layers.N.`).
  package let name: String
  /// Behind `blk.N.` in a GGUF file; of a vector the whole name of its tensor.
  package let gguf: String
  package let form: Form
  package var hasBias = false
  /// Whether it chooses experts, and so stays as wide as it is stored.
  package let isRouter: Bool
  /// What a norm computes where it is not what the model's norms compute.
  package let normalization: Normalization.Form?

  /// Whether it is numbers that have the module's own name, in GGUF files with the ending of a weight or a bias.
  package var isVector: Bool { if case .vector = form { true } else { false } }

  package init(
    _ name: String, _ gguf: String, _ form: Form, hasBias: Bool = false, isRouter: Bool = false,
    normalization: Normalization.Form? = nil
  ) {
    self.name = name
    self.gguf = gguf
    self.form = form
    self.hasBias = hasBias
    self.isRouter = isRouter
    self.normalization = normalization
  }
}

/// The modules of a decoder layer by their place in the computation, named as in Llama unless a family says otherwise.
///
/// What is nil is not there: without `attentionNorm` the layer's input goes to attention as it is; a post norm is
/// applied to what attention or the feed-forward layer adds to the residual stream.
package struct LayerModules: Sendable, Equatable {
  package var attentionNorm: LayerModule? = LayerModule("input_layernorm", "attn_norm", .norm(.hidden))
  package var attention = AttentionModules()
  /// In the place of `attention` in recurrent layers; nil in a family that has none.
  package var deltaNet: DeltaNetModules?
  package var attentionPostNorm: LayerModule?
  package var feedForwardNorm: LayerModule? = LayerModule("post_attention_layernorm", "ffn_norm", .norm(.hidden))
  package var feedForward = FeedForwardModules()
  /// In the place of `feedForward` in layers with experts; nil in a family that has none.
  package var experts: ExpertModules?
  package var feedForwardPostNorm: LayerModule?

  package init() {}

  /// All of a layer with attention and without experts that are there, in checkpoint order.
  package var all: [LayerModule] { all(recurrent: false, experts: nil) }

  /// All of a layer that has a gated DeltaNet or attention, and so many experts or none.
  package func all(recurrent: Bool, experts count: Int?) -> [LayerModule] {
    let mixer = recurrent ? deltaNet?.all ?? [] : attention.all
    let feedForward = count.map { experts?.all($0) ?? [] } ?? feedForward.all
    return [attentionNorm].compactMap { $0 } + mixer
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
