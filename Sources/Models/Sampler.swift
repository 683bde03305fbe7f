import Tensors

/// How the next token is chosen from logits.
public struct SamplingOptions: Sendable {
  /// Divides the logits, at least 0; 0 is greedy.
  public var temperature: Double
  /// Keep the k most likely tokens, at least 0; 0 keeps all.
  public var topK: Int
  /// Keep the smallest set of tokens whose probability reaches this, in [0, 1]; 1 keeps all, 0 the likeliest.
  public var topP: Double
  /// Fixes all draws.
  public var seed: UInt64

  /// Greedy unless a temperature above 0 is given.
  public init(temperature: Double = 0, topK: Int = 0, topP: Double = 1, seed: UInt64 = 0) {
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.seed = seed
  }

  /// What a temperature may be.
  package static let temperatures = NumberRange.amount
  /// What `topP` may be.
  package static let probabilities = NumberRange.share

  /// Checks the numbers.
  /// - Throws: `TensorError.badValue` with the name, the value and the range of one that is out of it.
  public func check() throws(TensorError) {
    try Self.temperatures.require(temperature, "temperature", operation: "generate")
    try (0 ... .max).require(topK, "top_k", operation: "generate")
    try Self.probabilities.require(topP, "top_p", operation: "generate")
  }
}

/// Draws tokens from logits; the i-th draw of a seed is always the same.
///
/// The order is that of transformers: temperature, then top-k, then top-p.
public struct Sampler {
  let options: SamplingOptions
  private var state: UInt64

  /// Starts the draws of the seed anew.
  /// - Throws: `TensorError.badValue` for options that are out of their ranges.
  public init(_ options: SamplingOptions) throws(TensorError) {
    try options.check()
    self.options = options
    self.state = options.seed &+ 0x9E37_79B9_7F4A_7C15
  }

  /// The next token's index in [V] logits. Equal logits come in the order of their indices. Each call takes one draw,
  /// also when greedy.
  /// - Throws: `ModelError.emptyInput` without logits, `.badLogit` where one is NaN or infinity, or all are -infinity.
  public mutating func next(_ logits: UnsafeBufferPointer<Float>) throws(ModelError) -> Int {
    guard !logits.isEmpty else { throw .emptyInput(operation: "sample") }
    let draw = uniform()
    let best = try argmax(logits)
    let temperature = options.temperature
    guard temperature > 0 else { return best }
    let top = Double(logits[best])
    func weight(_ logit: Float) -> Double { Double.exponential((Double(logit) - top) / temperature) }
    let all = options.topK > 0 ? 0 : logits.reduce(0) { $0 + weight($1) }
    // As a rule one of a few is drawn, so these are looked for among ever more of the largest logits: sorting a whole
    // vocabulary takes longer than computing its logits.
    var reach = 8.0
    while true {
      // Weights beyond that reach are 0, however small the temperature.
      let isWhole = reach * temperature > 1e4 || reach > 1e3
      let least = isWhole ? -Float.infinity : Float(top - reach * temperature)
      var candidates = logits.indices.filter { logits[$0] >= least }
      candidates.sort { logits[$0] > logits[$1] || logits[$0] == logits[$1] && $0 < $1 }
      var isComplete = isWhole
      if options.topK > 0, candidates.count >= options.topK {
        candidates.removeLast(candidates.count - options.topK)
        isComplete = true
      }
      if isComplete || options.topK <= 0 {
        let weights = candidates.map { weight(logits[$0]) }
        let total = options.topK > 0 ? weights.reduce(0, +) : all
        if let index = choose(weights, of: total, draw, isComplete: isComplete) { return candidates[index] }
      }
      reach *= 2
    }
  }

  /// Where `draw` falls among descending weights, or nil when that lies beyond those given.
  /// `total` is the sum of all weights, given or not; with `isComplete` none is missing.
  private func choose(_ weights: [Double], of total: Double, _ draw: Double, isComplete: Bool) -> Int? {
    var kept = weights.count
    var sum = total
    if options.topP < 1 {
      // A token stays while the tokens before it do not yet reach top_p; the most likely one always does.
      (kept, sum) = (0, 0)
      repeat {
        sum += weights[kept]
        kept += 1
      } while kept < weights.count && sum < options.topP * total
      guard isComplete || sum >= options.topP * total else { return nil }
    }
    var remaining = draw * sum
    for index in 0..<kept {
      remaining -= weights[index]
      if remaining < 0 { return index }
    }
    return isComplete || options.topP < 1 ? kept - 1 : nil
  }

  /// The largest logit; ties go to the smaller id.
  private func argmax(_ logits: UnsafeBufferPointer<Float>) throws(ModelError) -> Int {
    var peaks = SIMD16<Float>(repeating: -.infinity)
    var odd = SIMDMask<SIMD16<Int32>>(repeating: false)
    let bytes = UnsafeRawBufferPointer(logits)
    let whole = logits.count & ~15
    for first in stride(from: 0, to: whole, by: 16) {
      let values = bytes.loadUnaligned(fromByteOffset: 4 * first, as: SIMD16<Float>.self)
      peaks = peaks.replacing(with: values, where: values .> peaks)
      odd = odd .| (values .!= values)
    }
    var peak = peaks.max()
    for index in whole..<logits.count where logits[index] > peak { peak = logits[index] }
    if odd != SIMDMask(repeating: false) || logits[whole...].contains(where: \.isNaN) { throw .badLogit(.nan) }
    guard peak.isFinite, let best = logits.firstIndex(of: peak) else { throw .badLogit(peak) }
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
