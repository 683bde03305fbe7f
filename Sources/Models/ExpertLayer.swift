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
  func callAsFunction(_ x: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor {
    switch self {
    case .dense(let layer): try layer(x, context)
    case .experts(let layer): try layer(x, geometry.stream, context)
    }
  }
}

/// A mixture of experts (Shazeer et al. 2017): a router sends each token to a few of many feed-forward layers, whose
/// outputs are added up by weight. An expert without tokens does no work and gets no gradient; the tokens of one are
/// one product with each of its matrices. Where there is one that every token has, its output is added, times a gate.
struct ExpertLayer {
  private let router: Module
  private let experts: [FeedForward]
  private let shared: (expert: FeedForward, gate: Module)?
  private let numbers: ExpertNumbers

  init(
    _ places: ExpertModules, _ numbers: ExpertNumbers, _ activation: Activation, _ make: (LayerModule) -> Module
  ) {
    router = make(places.router)
    experts = (0..<numbers.count).map { FeedForward(places.expert($0), activation, make) }
    shared = places.shared.map { (FeedForward($0.expert, activation, make), make($0.gate)) }
    self.numbers = numbers
  }

  /// y[T, hidden] from x[T, hidden]; `stream` reads the experts that get tokens.
  func callAsFunction(_ x: Tensor, _ stream: WeightStream?, _ context: ForwardContext) throws -> Tensor {
    // A rounded logit could send a token elsewhere.
    var exact = context
    exact.precision = .f32
    let logits = try router(try x.dtype == .f32 ? x : convert(x, to: .f32), exact)
    let routing = try Routing(
      logits, perToken: numbers.perToken, normalizes: numbers.normalizesWeights, balance: context.balance)
    let rows = try embedding(x, ids: routing.tokens, dtype: x.dtype)
    stream?.request(routing.counts.indices.filter { routing.counts[$0] > 0 })
    let parts = try zip(experts, splitRows(rows, routing.counts)).enumerated().map { number, pair in
      try pair.1.map { part in
        try stream?.enter(expert: number)
        return try pair.0(part, context)
      }
    }
    let sum = try routing.combined(parts, tokens: x.shape[0])
    guard let shared else { return sum }
    let gate = try unary(.sigmoid, try shared.gate(x, context))
    let common = try convert(try binary(.multiply, try shared.expert(x, context), gate), to: sum.dtype)
    return try addResidual(inPlace: common, sum)
  }
}
