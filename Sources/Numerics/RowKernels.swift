/// The row-wise functions of one instruction-set build. `type` is a DType raw value (f32, bf16 or f16); arithmetic is
/// f32. T counts rows, D columns; rows are contiguous.
package struct RowKernels: Sendable {
  /// (x, type of x, y, type of y, count)
  package typealias Cast = @convention(c) (UnsafeRawPointer, Int32, UnsafeMutableRawPointer, Int32, Int) -> Void
  /// y = a x + b y, y not read when b is 0: (x, type, a, y, type, b, count)
  package typealias Accumulate =
    @convention(c) (
      UnsafeRawPointer, Int32, Float, UnsafeMutableRawPointer, Int32, Float, Int
    ) -> Void
  /// The sum of the products of two rows of one type: (x, y, type, count)
  package typealias Dot = @convention(c) (UnsafeRawPointer, UnsafeRawPointer, Int32, Int) -> Float
  /// (x, type, weight, type of weight, offset of the weight, T, D, eps, y, rstd)
  package typealias Norm =
    @convention(c) (
      UnsafeRawPointer, Int32, UnsafeRawPointer, Int32, Float, Int, Int, Float, UnsafeMutableRawPointer,
      UnsafeMutablePointer<Float>
    ) -> Void
  /// (dy, x, type, weight, type of weight, offset of the weight, rstd, T, D, dx, accumulate, dWeight or nil)
  package typealias NormBackward =
    @convention(c) (
      UnsafeRawPointer, UnsafeRawPointer, Int32, UnsafeRawPointer, Int32, Float, UnsafePointer<Float>, Int, Int,
      UnsafeMutableRawPointer, Bool, UnsafeMutablePointer<Float>?
    ) -> Void
  /// f32 weight and bias: (x, type, weight, bias, T, D, eps, y, mean, rstd)
  package typealias LayerNorm =
    @convention(c) (
      UnsafeRawPointer, Int32, UnsafePointer<Float>, UnsafePointer<Float>, Int, Int, Float, UnsafeMutableRawPointer,
      UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>
    ) -> Void
  /// The sums are those of the weight's and the bias's gradient, one after the other:
  /// (dy, x, type, weight, mean, rstd, T, D, dx, sums or nil)
  package typealias LayerNormBackward =
    @convention(c) (
      UnsafeRawPointer, UnsafeRawPointer, Int32, UnsafePointer<Float>, UnsafePointer<Float>, UnsafePointer<Float>,
      Int, Int, UnsafeMutableRawPointer, UnsafeMutablePointer<Float>?
    ) -> Void
  /// In place: (x, type, T, heads, headDim, half of what turns, cos, sin, positions, sign of the sine)
  package typealias Rope =
    @convention(c) (
      UnsafeMutableRawPointer, Int32, Int, Int, Int, Int, UnsafePointer<Float>, UnsafePointer<Float>,
      UnsafePointer<Int32>, Float
    ) -> Void
  /// y = a(gate) * up, a by kind (0 SiLU, 1 the tanh form of GELU, 2 GELU, 3 the sigmoid, 4
  /// `Activation.clampedSwish`): (kind, gate, up, type, y, count)
  package typealias Gated =
    @convention(c) (
      Int32, UnsafeRawPointer, UnsafeRawPointer, Int32, UnsafeMutableRawPointer, Int
    ) -> Void
  /// (kind, dy, gate, up, type, dGate, dUp, count)
  package typealias GatedBackward =
    @convention(c) (
      Int32, UnsafeRawPointer, UnsafeRawPointer, UnsafeRawPointer, Int32, UnsafeMutableRawPointer,
      UnsafeMutableRawPointer, Int
    ) -> Void
  /// y = a(x), a by kind as of `Gated`: (kind, x, type, y, count)
  package typealias Activated =
    @convention(c) (Int32, UnsafeRawPointer, Int32, UnsafeMutableRawPointer, Int) -> Void
  /// dx = dy * a'(x): (kind, dy, x, type, dx, count)
  package typealias ActivatedBackward =
    @convention(c) (
      Int32, UnsafeRawPointer, UnsafeRawPointer, Int32, UnsafeMutableRawPointer, Int
    ) -> Void
  /// f32, y = cap * tanh(x / cap), y may be x: (x, cap, y, count)
  package typealias SoftCap =
    @convention(c) (UnsafePointer<Float>, Float, UnsafeMutablePointer<Float>, Int) -> Void
  /// f32, dx = dy * (1 - (y / cap)^2), dx may be dy or y: (dy, y, cap, dx, count)
  package typealias SoftCapBackward =
    @convention(c) (
      UnsafePointer<Float>, UnsafePointer<Float>, Float, UnsafeMutablePointer<Float>, Int
    ) -> Void
  /// f32: (x, y, T, D, logarithm)
  package typealias Softmax =
    @convention(c) (
      UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int, Int, Bool
    ) -> Void
  /// f32: (dy, y, dx, T, D, logarithm)
  package typealias SoftmaxBackward =
    @convention(c) (
      UnsafePointer<Float>, UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int, Int, Bool
    ) -> Void
  /// f32 logits [T, D], overwritten by scale * (softmax - onehot) when `gradient`: (logits, T, D, labels, losses,
  /// scale, gradient)
  package typealias CrossEntropy =
    @convention(c) (
      UnsafeMutablePointer<Float>, Int, Int, UnsafePointer<Int32>, UnsafeMutablePointer<Float>, Float, Bool
    ) -> Void
  /// y (+)= keep ? x * scale : 0 for elements first..<first + count of a stream:
  /// (x, type, first, count, seed, stream, threshold, scale, y, accumulate)
  package typealias Dropout =
    @convention(c) (
      UnsafeRawPointer, Int32, Int, Int, UInt64, UInt64, UInt32, Float, UnsafeMutableRawPointer, Bool
    ) -> Void

  package var cast: Cast
  package var accumulate: Accumulate
  package var dot: Dot
  package var norm: Norm
  package var normBackward: NormBackward
  package var layerNorm: LayerNorm
  package var layerNormBackward: LayerNormBackward
  package var rope: Rope
  package var gated: Gated
  package var gatedBackward: GatedBackward
  package var activated: Activated
  package var activatedBackward: ActivatedBackward
  package var softCap: SoftCap
  package var softCapBackward: SoftCapBackward
  package var softmax: Softmax
  package var softmaxBackward: SoftmaxBackward
  package var crossEntropy: CrossEntropy
  package var dropout: Dropout

  package init(
    cast: @escaping Cast, accumulate: @escaping Accumulate, dot: @escaping Dot,
    norm: @escaping Norm, normBackward: @escaping NormBackward,
    layerNorm: @escaping LayerNorm, layerNormBackward: @escaping LayerNormBackward,
    rope: @escaping Rope, gated: @escaping Gated, gatedBackward: @escaping GatedBackward,
    activated: @escaping Activated, activatedBackward: @escaping ActivatedBackward,
    softCap: @escaping SoftCap, softCapBackward: @escaping SoftCapBackward, softmax: @escaping Softmax,
    softmaxBackward: @escaping SoftmaxBackward, crossEntropy: @escaping CrossEntropy,
    dropout: @escaping Dropout
  ) {
    self.cast = cast
    self.accumulate = accumulate
    self.dot = dot
    self.norm = norm
    self.normBackward = normBackward
    self.layerNorm = layerNorm
    self.layerNormBackward = layerNormBackward
    self.rope = rope
    self.gated = gated
    self.gatedBackward = gatedBackward
    self.activated = activated
    self.activatedBackward = activatedBackward
    self.softCap = softCap
    self.softCapBackward = softCapBackward
    self.softmax = softmax
    self.softmaxBackward = softmaxBackward
    self.crossEntropy = crossEntropy
    self.dropout = dropout
  }
}
