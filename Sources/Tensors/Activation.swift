/// What a feed-forward layer does to one of its products: to the gate before it multiplies `up`, or, without a gate, to
/// the only one.
public enum Activation: Int32, Sendable, CaseIterable {
  /// x sigmoid(x): of a gate SwiGLU (Shazeer 2020).
  case silu
  /// The tanh form of GELU: of a gate GeGLU as Gemma computes it.
  case geluTanh
  /// x times the normal distribution (Hendrycks and Gimpel 2016).
  case gelu
  /// 1 / (1 + e^-x), which has no factor x: a gate of what attention computes (Qwen3.5).
  case sigmoid
  /// x sigmoid(1.702 x). Of a gate, (1 + up) a(gate) with the gate bounded by 7 from above and `up` on both sides;
  /// nothing flows back to what is bounded (gpt-oss, OpenAI 2025).
  case clampedSwish

  /// What `clampedSwish` bounds gates and their partners by.
  package static let bound: Float = 7
}
