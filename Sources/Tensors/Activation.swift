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
}
