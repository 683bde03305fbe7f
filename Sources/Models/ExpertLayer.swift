import Autograd
import Tensors

/// The feed-forward layer of one decoder layer: one for all tokens, or experts.
enum FeedForwardLayer {
  case dense(FeedForward)
  case experts(ExpertLayer)

  /// A layer without weights.
  init(_ spec: DecoderSpec, index: Int, _ make: (LayerModule) -> Module) {
    if let places = spec.modules.experts, let experts = spec.experts, spec.layers[index].hasExperts {
      self = .experts(ExpertLayer(places, experts, spec.activation, make))
    } else {
      self = .dense(FeedForward(spec.modules.feedForward, spec.activation, make))
    }
  }

  /// y[T, hidden] from x[T, hidden].
  func callAsFunction(_ x: Tensor, _ context: ForwardContext) throws -> Tensor {
    switch self {
    case .dense(let layer): try layer(x, context)
    case .experts(let layer): try layer(x, context)
    }
  }
}

/// A mixture of experts (Shazeer et al. 2017): a router sends each token to a few of many feed-forward layers, whose
/// outputs are added up by weight. An expert without tokens does no work and gets no gradient; the tokens of one are one
/// product with each of its matrices.
struct ExpertLayer {
  private let router: Module
  private let experts: [FeedForward]
  private let numbers: ExpertNumbers

  init(
    _ places: ExpertModules, _ numbers: ExpertNumbers, _ activation: Activation, _ make: (LayerModule) -> Module
  ) {
    router = make(places.router)
    experts = (0..<numbers.count).map { FeedForward(places.expert($0), activation, make) }
    self.numbers = numbers
  }

  func callAsFunction(_ x: Tensor, _ context: ForwardContext) throws -> Tensor {
    // A rounded logit could send a token elsewhere.
    var exact = context
    exact.precision = .f32
    let logits = try router(try x.dtype == .f32 ? x : convert(x, to: .f32), exact)
    let routing = try Routing(
      logits, perToken: numbers.perToken, normalizes: numbers.normalizesWeights, balance: context.balance)
    let rows = try embedding(x, ids: routing.tokens, dtype: x.dtype)
    let parts = try zip(experts, splitRows(rows, routing.counts)).map { expert, part in
      try part.map { try expert($0, context) }
    }
    return try routing.combined(parts, tokens: x.shape[0])
  }
}
