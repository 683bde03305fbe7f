/// A rotary position embedding (Su et al. 2021): its base, the part of a head that turns, and how positions are
/// stretched beyond the pretraining length (`rope_type` of transformers).
///
/// The first w elements of a head are pairs (i, i + w / 2); pair i turns by position * f_i, with f_i = theta^(-2i / w)
/// before scaling. Some scalings also multiply all cosines and sines.
public struct Rope: Sendable, Hashable {
  /// What becomes of the frequencies f_i.
  public enum Scaling: Sendable, Hashable {
    /// They stay.
    case none
    /// f_i / factor.
    case linear(factor: Double)
    /// A sequence of L > originalPositions tokens has a theta of its own,
    /// theta * (factor * L / originalPositions - factor + 1)^(w / (w - 2)); shorter ones keep theirs.
    case dynamic(factor: Double, originalPositions: Int)
    /// YaRN (Peng et al. 2023).
    case yarn(YaRN)
    /// LongRoPE (Ding et al. 2024).
    case longrope(LongRoPE)
    /// Wavelengths 2 pi / f_i below originalPositions / highFrequencyFactor stay, those above originalPositions /
    /// lowFrequencyFactor get f_i / factor, and those between a blend of the two.
    case llama3(factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalPositions: Int)
  }

  /// Pairs that turn more than betaFast times in originalPositions keep f_i, those that turn less than betaSlow times
  /// get f_i / factor, and those between a blend of the two.
  public struct YaRN: Sendable, Hashable {
    /// How far positions are stretched.
    public var factor: Double
    /// Multiplies cosines and sines.
    public var attentionFactor: Double
    /// Turns above which a pair stays.
    public var betaFast: Double = 32
    /// Turns below which a pair is stretched by the whole factor.
    public var betaSlow: Double = 1
    /// The pretraining length.
    public var originalPositions: Int
    /// Whether the ends of the blend are whole pairs.
    public var truncates = true

    /// The `attentionFactor` that the paper suggests: 0.1 * m * ln(factor) + 1.
    static func attentionFactor(_ factor: Double, _ m: Double = 1) -> Double {
      factor <= 1 ? 1 : 0.1 * m * naturalLogarithm(factor) + 1
    }
  }

  /// f_i / shortFactors[i] in a sequence of at most originalPositions tokens, f_i / longFactors[i] in a longer one.
  public struct LongRoPE: Sendable, Hashable {
    /// One for each pair.
    public var shortFactors: [Double]
    /// One for each pair.
    public var longFactors: [Double]
    /// Multiplies cosines and sines.
    public var attentionFactor: Double
    /// The length up to which the short factors hold.
    public var originalPositions: Int
  }

  /// Base of the frequencies; positive.
  public var theta: Double
  /// How positions are stretched.
  public var scaling: Scaling
  /// The part of a head that turns, above 0 and at most 1 (`partial_rotary_factor`).
  public var partialFactor: Double = 1

  /// The numbers are not checked here; from files they are.
  public init(theta: Double = 10000, scaling: Scaling = .none) {
    self.theta = theta
    self.scaling = scaling
  }

  /// Elements of a head that turn.
  public func width(headDimension: Int) -> Int { Int(Double(headDimension) * partialFactor) }

  /// Lets the first `width` elements of a head turn.
  mutating func setWidth(_ width: Int, headDimension: Int) {
    partialFactor = Double(width) / Double(headDimension)
    // The quotient may be rounded down, and the product with it.
    if self.width(headDimension: headDimension) < width { partialFactor = partialFactor.nextUp }
  }

  /// Which frequencies a sequence of `length` tokens has: sequences of one class share theirs. The class is itself a
  /// length of the class, or 0.
  func lengthClass(_ length: Int) -> Int {
    switch scaling {
    case .dynamic(_, let original): length > original ? length : 0
    case .longrope(let long): length > long.originalPositions ? long.originalPositions + 1 : 0
    case .none, .linear, .yarn, .llama3: 0
    }
  }

  /// Positions that the scaling was made for, where it says so.
  var stretchedPositions: Int? {
    func product(_ positions: Int, _ factor: Double) -> Int { Int(min(Double(1 << 30), Double(positions) * factor)) }
    return switch scaling {
    case .dynamic(let factor, let original): product(original, factor)
    case .yarn(let yarn): product(yarn.originalPositions, yarn.factor)
    case .none, .linear, .longrope, .llama3: nil
    }
  }

  /// The same embedding for heads of another width, as a smaller model of the family has it.
  func resized(from old: Int, to new: Int) -> Rope {
    var small = self
    if partialFactor < 1 {
      let pairs = (Double(new) * partialFactor / 2).rounded()
      small.setWidth(2 * max(1, Int(pairs)), headDimension: new)
    }
    if case .longrope(var long) = scaling {
      let (before, after) = (width(headDimension: old) / 2, small.width(headDimension: new) / 2)
      func chosen(_ factors: [Double]) -> [Double] { (0..<after).map { factors[$0 * before / after] } }
      (long.shortFactors, long.longFactors) = (chosen(long.shortFactors), chosen(long.longFactors))
      small.scaling = .longrope(long)
    }
    return small
  }
}
