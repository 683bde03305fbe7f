import Formats

/// A rotary position embedding (Su et al. 2021): its base and how positions are stretched beyond the pretraining
/// length (`rope_type` of transformers).
///
/// Pair i of a head of width d turns by position * f_i, with f_i = theta^(-2i / d) before scaling.
public struct Rope: Sendable, Hashable {
  /// What becomes of the frequencies f_i.
  public enum Scaling: Sendable, Hashable {
    /// They stay.
    case none
    /// f_i / factor.
    case linear(factor: Double)
    /// Wavelengths 2 pi / f_i below originalPositions / highFrequencyFactor stay, those above originalPositions /
    /// lowFrequencyFactor get f_i / factor, and those between a blend of the two.
    case llama3(factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalPositions: Int)
  }

  /// Base of the frequencies; positive.
  public var theta: Double
  /// How positions are stretched.
  public var scaling: Scaling

  /// The numbers are not checked here; from files they are.
  public init(theta: Double = 10000, scaling: Scaling = .none) {
    self.theta = theta
    self.scaling = scaling
  }
}
