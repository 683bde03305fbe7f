/// The row-wise functions of one instruction-set build. `type` is a DType raw value (f32, bf16 or f16); arithmetic is
/// f32. T counts rows, D columns; rows are contiguous.
public struct RowKernels: Sendable {
  /// (x, type of x, y, type of y, count)
  public typealias Cast = @convention(c) (UnsafeRawPointer, Int32, UnsafeMutableRawPointer, Int32, Int) -> Void
  /// y = a x + b y, y not read when b is 0: (x, type, a, y, type, b, count)
  public typealias Accumulate =
    @convention(c) (
      UnsafeRawPointer, Int32, Float, UnsafeMutableRawPointer, Int32, Float, Int
    ) -> Void
  /// (x, type, weight, type of weight, T, D, eps, y, rstd)
  public typealias Norm =
    @convention(c) (
      UnsafeRawPointer, Int32, UnsafeRawPointer, Int32, Int, Int, Float, UnsafeMutableRawPointer,
      UnsafeMutablePointer<Float>
    ) -> Void
  /// (dy, x, type, weight, type of weight, rstd, T, D, dx, accumulate, dWeight or nil)
  public typealias NormBackward =
    @convention(c) (
      UnsafeRawPointer, UnsafeRawPointer, Int32, UnsafeRawPointer, Int32, UnsafePointer<Float>, Int, Int,
      UnsafeMutableRawPointer, Bool, UnsafeMutablePointer<Float>?
    ) -> Void
  /// In place: (x, type, T, heads, headDim, cos, sin, positions, sign of the sine)
  public typealias Rope =
    @convention(c) (
      UnsafeMutableRawPointer, Int32, Int, Int, Int, UnsafePointer<Float>, UnsafePointer<Float>, UnsafePointer<Int32>,
      Float
    ) -> Void
  /// (gate, up, type, y, count)
  public typealias Swiglu =
    @convention(c) (
      UnsafeRawPointer, UnsafeRawPointer, Int32, UnsafeMutableRawPointer, Int
    ) -> Void
  /// (dy, gate, up, type, dGate, dUp, count)
  public typealias SwigluBackward =
    @convention(c) (
      UnsafeRawPointer, UnsafeRawPointer, UnsafeRawPointer, Int32, UnsafeMutableRawPointer, UnsafeMutableRawPointer, Int
    ) -> Void
  /// f32: (x, y, T, D, logarithm)
  public typealias Softmax =
    @convention(c) (
      UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int, Int, Bool
    ) -> Void
  /// f32: (dy, y, dx, T, D, logarithm)
  public typealias SoftmaxBackward =
    @convention(c) (
      UnsafePointer<Float>, UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int, Int, Bool
    ) -> Void
  /// f32 logits [T, D], overwritten by scale * (softmax - onehot) when `gradient`: (logits, T, D, labels, losses,
  /// scale, gradient)
  public typealias CrossEntropy =
    @convention(c) (
      UnsafeMutablePointer<Float>, Int, Int, UnsafePointer<Int32>, UnsafeMutablePointer<Float>, Float, Bool
    ) -> Void
  /// y (+)= keep ? x * scale : 0 for elements first..<first + count of a stream:
  /// (x, type, first, count, seed, stream, threshold, scale, y, accumulate)
  public typealias Dropout =
    @convention(c) (
      UnsafeRawPointer, Int32, Int, Int, UInt64, UInt64, UInt32, Float, UnsafeMutableRawPointer, Bool
    ) -> Void

  public var cast: Cast
  public var accumulate: Accumulate
  public var norm: Norm
  public var normBackward: NormBackward
  public var rope: Rope
  public var swiglu: Swiglu
  public var swigluBackward: SwigluBackward
  public var softmax: Softmax
  public var softmaxBackward: SoftmaxBackward
  public var crossEntropy: CrossEntropy
  public var dropout: Dropout

  public init(
    cast: @escaping Cast, accumulate: @escaping Accumulate, norm: @escaping Norm, normBackward: @escaping NormBackward,
    rope: @escaping Rope, swiglu: @escaping Swiglu, swigluBackward: @escaping SwigluBackward,
    softmax: @escaping Softmax, softmaxBackward: @escaping SoftmaxBackward, crossEntropy: @escaping CrossEntropy,
    dropout: @escaping Dropout
  ) {
    self.cast = cast
    self.accumulate = accumulate
    self.norm = norm
    self.normBackward = normBackward
    self.rope = rope
    self.swiglu = swiglu
    self.swigluBackward = swigluBackward
    self.softmax = softmax
    self.softmaxBackward = softmaxBackward
    self.crossEntropy = crossEntropy
    self.dropout = dropout
  }
}
