import Foundation
import Models
import Testing

/// Drawing by its definition: sort everything, keep what top-k and top-p say, walk to the drawn weight.
private struct SamplerTwin {
  let options: SamplingOptions
  var state: UInt64

  init(_ options: SamplingOptions) {
    self.options = options
    state = options.seed &+ 0x9E37_79B9_7F4A_7C15
  }

  mutating func uniform() -> Double {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    z ^= z >> 31
    return Double(z >> 11) * 0x1p-53
  }

  mutating func next(_ logits: [Float]) -> Int {
    let draw = uniform()
    var order = Array(logits.indices)
    order.sort { logits[$0] > logits[$1] || logits[$0] == logits[$1] && $0 < $1 }
    guard let best = order.first else { return 0 }
    guard options.temperature > 0 else { return best }
    if options.topK > 0 { order = Array(order.prefix(options.topK)) }
    var weights = order.map { exp((Double(logits[$0]) - Double(logits[best])) / options.temperature) }
    let total = weights.reduce(0, +)
    if options.topP < 1 {
      var before = 0.0
      let kept = weights.prefix { weight in
        defer { before += weight }
        return before < options.topP * total
      }
      weights = Array(weights.prefix(max(1, kept.count)))
    }
    var rest = draw * weights.reduce(0, +)
    for (index, weight) in weights.enumerated() {
      rest -= weight
      if rest < 0 { return order[index] }
    }
    return order[weights.count - 1]
  }
}

@Suite struct SamplerTests {
  static func logits(_ count: Int, spread: Float, seed: Int) -> [Float] {
    var state = UInt64(seed)
    return (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      // Multiples of a step, so that there are ties.
      return (Float(state >> 40) / Float(1 << 24) - 0.5) * spread
    }.map { ($0 * 16).rounded() / 16 }
  }

  static let settings: [SamplingOptions] = [0, 0.02, 0.8, 1, 7, 1e6].flatMap { temperature in
    [(0, 1.0), (1, 1), (40, 1), (0, 0.9), (0, 1e-9), (0, 0.99999), (1000, 0.5), (5000, 1)].map { k, p in
      SamplingOptions(temperature: temperature, topK: k, topP: p, seed: 7)
    }
  }

  @Test(arguments: [1, 15, 16, 33, 3001], [Float(0), 4, 60, 1e5])
  func drawsWhatTheDefinitionDraws(count: Int, spread: Float) throws {
    for options in Self.settings {
      var (sampler, twin) = (try Sampler(options), SamplerTwin(options))
      for round in 0..<4 {
        let logits = Self.logits(count, spread: spread, seed: round + count)
        let got = try logits.withUnsafeBufferPointer { try sampler.next($0) }
        #expect(got == twin.next(logits), "\(options), \(count) logits of spread \(spread)")
      }
    }
  }

  @Test func whatIsRuledOutIsNotDrawn() throws {
    var logits = Self.logits(50, spread: 4, seed: 1)
    for index in stride(from: 0, to: 50, by: 2) { logits[index] = -.infinity }
    for options in Self.settings {
      var sampler = try Sampler(options)
      for _ in 0..<50 {
        let token = try logits.withUnsafeBufferPointer { try sampler.next($0) }
        #expect(logits[token].isFinite, "\(options)")
      }
    }
  }

  /// In whole vectors and behind them.
  @Test(arguments: [3, 31, 49])
  func nothingIsDrawnFromWhatIsNoNumber(place: Int) throws {
    for options in Self.settings {
      var sampler = try Sampler(options)
      for value in [Float.nan, .infinity] {
        var logits = Self.logits(50, spread: 4, seed: 1)
        logits[place] = value
        #expect(throws: ModelError.self) { try logits.withUnsafeBufferPointer { try sampler.next($0) } }
      }
      let nothing = [Float](repeating: -.infinity, count: 50)
      #expect(throws: ModelError.self) { try nothing.withUnsafeBufferPointer { try sampler.next($0) } }
    }
  }

  @Test func drawsFollowTheWeights() throws {
    let logits: [Float] = [log(1), log(2), log(5)]
    var sampler = try Sampler(SamplingOptions(temperature: 1, seed: 3))
    var counts = [0, 0, 0]
    for _ in 0..<8000 { counts[try logits.withUnsafeBufferPointer { try sampler.next($0) }] += 1 }
    for (count, share) in zip(counts, [1000.0, 2000, 5000]) { #expect(abs(Double(count) - share) < 200) }
  }
}
