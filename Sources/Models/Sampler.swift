import Tensors

/// How the next token is chosen from logits.
public struct SamplingOptions: Sendable {
  /// 0 is greedy.
  public var temperature: Double
  /// Keep the k most likely tokens; 0 keeps all.
  public var topK: Int
  /// Keep the smallest set of tokens whose probability reaches this; 1 keeps all.
  public var topP: Double
  public var seed: UInt64

  public init(temperature: Double = 0, topK: Int = 0, topP: Double = 1, seed: UInt64 = 0) {
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.seed = seed
  }
}

/// Draws tokens from logits; the i-th draw of a seed is always the same.
///
/// The order is that of transformers: temperature, then top-k, then top-p.
struct Sampler {
  let options: SamplingOptions
  private var state: UInt64

  init(_ options: SamplingOptions) {
    self.options = options
    self.state = options.seed &+ 0x9E37_79B9_7F4A_7C15
  }

  mutating func next(_ logits: [Float]) -> Int {
    let draw = uniform()
    guard options.temperature > 0 else { return argmax(logits) }
    var candidates = logits.indices.sorted { logits[$0] > logits[$1] || logits[$0] == logits[$1] && $0 < $1 }
    if options.topK > 0 { candidates = Array(candidates.prefix(options.topK)) }
    let top = Double(logits[candidates[0]])
    var weights = candidates.map { Double.exponential((Double(logits[$0]) - top) / options.temperature) }
    if options.topP < 1 {
      let total = weights.reduce(0, +)
      var sum = 0.0
      // A token stays while the tokens before it do not yet reach top_p.
      let kept = weights.prefix { weight in
        defer { sum += weight }
        return sum < options.topP * total
      }
      // At least the most likely token stays, whatever top_p is.
      weights = Array(weights.prefix(max(1, kept.count)))
    }
    var remaining = draw * weights.reduce(0, +)
    for (candidate, weight) in zip(candidates, weights) {
      remaining -= weight
      if remaining < 0 { return candidate }
    }
    return candidates[weights.count - 1]
  }

  /// The largest logit; ties go to the smaller id, NaN never wins.
  private func argmax(_ logits: [Float]) -> Int {
    var best = 0
    for index in logits.indices where logits[index] > logits[best] || logits[best].isNaN { best = index }
    return best
  }

  /// splitmix64, top 53 bits, in [0, 1).
  private mutating func uniform() -> Double {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    z ^= z >> 31
    return Double(z >> 11) * 0x1p-53
  }
}
