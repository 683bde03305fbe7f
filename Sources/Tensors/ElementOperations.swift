/// Functions of one f32 element. `gelu` is the tanh form, `erf` the error function, `round` takes halves to even,
/// `sign` keeps 0 and NaN, `relu` keeps NaN, `silu` is x sigmoid(x), `rsqrt` is 1 / sqrt(x).
public enum UnaryOperation: Int32, Sendable, CaseIterable {
  case negate, abs, exp, log, sqrt, rsqrt, sin, cos, tanh, sigmoid, silu, relu, gelu, erf, square, reciprocal, sign,
    floor, ceil, round
}

/// Functions of two f32 elements. Comparisons give 1 or 0, by IEEE 754 for NaN; `maximum` and `minimum` give NaN when
/// one operand is.
public enum BinaryOperation: Int32, Sendable, CaseIterable {
  case add, subtract, multiply, divide, power, maximum, minimum, equal, notEqual, less, lessEqual, greater,
    greaterEqual
}

/// Reductions of f32 elements. A NaN is the maximum and the minimum, as in PyTorch; `argmax` is the first position.
public enum Reduction: Int32, Sendable, CaseIterable {
  case sum, mean, maximum, minimum, argmax
}
