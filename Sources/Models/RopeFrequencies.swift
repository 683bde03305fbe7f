import Glibc

func naturalLogarithm(_ x: Double) -> Double { log(x) }

extension Rope {
  /// Multiplies cosines and sines, f32.
  var attentionScale: Float {
    switch scaling {
    case .yarn(let yarn): Float(yarn.attentionFactor)
    case .longrope(let long): Float(long.attentionFactor)
    case .none, .linear, .dynamic, .llama3: 1
    }
  }

  /// Radians per position of each pair of elements in a sequence of `length` tokens, f32.
  ///
  /// Computed in f32 in the order of transformers' `ROPE_INIT_FUNCTIONS`, so that the numbers agree to the last bit or
  /// nearly so.
  func frequencies(headDimension: Int, length: Int) -> [Float] {
    let width = width(headDimension: headDimension)
    func powers(_ theta: Double) -> [Float] {
      (0..<width / 2).map { powf(Float(theta), Float(2 * $0) / Float(width)) }
    }
    let plain = powers(theta).map { 1 / $0 }
    switch scaling {
    case .none: return plain
    case .linear(let factor): return plain.map { $0 / Float(factor) }
    case .dynamic(let factor, let original):
      guard length > original else { return plain }
      let stretch = factor * Double(length) / Double(original) - (factor - 1)
      return powers(theta * pow(stretch, Double(width) / Double(width - 2))).map { 1 / $0 }
    case .yarn(let yarn): return blended(powers(theta), yarn, width: width)
    case .longrope(let long):
      let factors = length > long.originalPositions ? long.longFactors : long.shortFactors
      return zip(factors, powers(theta)).map { 1 / (Float($0) * $1) }
    case .llama3(let factor, let lowFactor, let highFactor, let original):
      let lowWavelength = Float(original) / Float(lowFactor)
      let highWavelength = Float(original) / Float(highFactor)
      return plain.map { frequency in
        let wavelength = 2 * Float.pi / frequency
        if wavelength < highWavelength { return frequency }
        let slow = frequency / Float(factor)
        if wavelength > lowWavelength { return slow }
        let smooth =
          (Float(original) / wavelength - Float(lowFactor)) / Float(highFactor - lowFactor)
        return (1 - smooth) * slow + smooth * frequency
      }
    }
  }

  /// `powers` are theta^(2i / width).
  private func blended(_ powers: [Float], _ yarn: YaRN, width: Int) -> [Float] {
    /// The pair, not always a whole one, that turns so often in the pretraining length.
    func pair(turns: Double) -> Double {
      Double(width) * log(Double(yarn.originalPositions) / (turns * 2 * .pi)) / (2 * log(theta))
    }
    var (low, high) = (pair(turns: yarn.betaFast), pair(turns: yarn.betaSlow))
    if yarn.truncates { (low, high) = (floor(low), ceil(high)) }
    (low, high) = (max(low, 0), min(high, Double(width - 1)))
    if low == high { high += 0.001 }
    return powers.enumerated().map { index, power in
      let stretched = min(1, max(0, (Float(index) - Float(low)) / Float(high - low)))
      let kept = 1 - stretched
      return 1 / (Float(yarn.factor) * power) * (1 - kept) + 1 / power * kept
    }
  }
}
