/// The numbers of one optimizer step, for the kernels.
public struct OptimizerStep: Sendable {
  public var learningRate: Float
  public var beta1: Float
  public var beta2: Float
  public var epsilon: Float
  public var weightDecay: Float
  /// Multiplies the gradient (clipping).
  public var gradientScale: Float
  /// 1 - beta1^t and sqrt(1 - beta2^t), computed in double precision.
  public var correction1: Float
  public var correction2: Float

  public init(
    learningRate: Float, beta1: Float, beta2: Float, epsilon: Float, weightDecay: Float, gradientScale: Float,
    correction1: Float, correction2: Float
  ) {
    self.learningRate = learningRate
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
    self.gradientScale = gradientScale
    self.correction1 = correction1
    self.correction2 = correction2
  }
}

/// Optimizer updates of one instruction-set build, in place: (address of an `OptimizerStep`, parameter, gradient,
/// count, states). 8-bit forms work on whole blocks of `DynamicMap.stateBlockSize`.
public struct OptimizerKernels: Sendable {
  public typealias Update1 =
    @convention(c) (
      UnsafeRawPointer, UnsafeMutablePointer<Float>, UnsafePointer<Float>, Int, UnsafeMutablePointer<Float>
    ) -> Void
  public typealias Update2 =
    @convention(c) (
      UnsafeRawPointer, UnsafeMutablePointer<Float>, UnsafePointer<Float>, Int, UnsafeMutablePointer<Float>,
      UnsafeMutablePointer<Float>
    ) -> Void
  /// ..., first codes, first absmax, address of the signed `DynamicCodec`
  public typealias Update1Bits8 =
    @convention(c) (
      UnsafeRawPointer, UnsafeMutablePointer<Float>, UnsafePointer<Float>, Int, UnsafeMutablePointer<UInt8>,
      UnsafeMutablePointer<Float>, UnsafeRawPointer
    ) -> Void
  /// ..., first codes, first absmax, second codes, second absmax, signed and unsigned `DynamicCodec`
  public typealias Update2Bits8 =
    @convention(c) (
      UnsafeRawPointer, UnsafeMutablePointer<Float>, UnsafePointer<Float>, Int, UnsafeMutablePointer<UInt8>,
      UnsafeMutablePointer<Float>, UnsafeMutablePointer<UInt8>, UnsafeMutablePointer<Float>, UnsafeRawPointer,
      UnsafeRawPointer
    ) -> Void

  public var adamW: Update2
  public var adamW8: Update2Bits8
  public var lion: Update1
  public var lion8: Update1Bits8
  /// Momentum is beta1; the state is the velocity.
  public var sgd: Update1

  public init(
    adamW: @escaping Update2, adamW8: @escaping Update2Bits8, lion: @escaping Update1, lion8: @escaping Update1Bits8,
    sgd: @escaping Update1
  ) {
    self.adamW = adamW
    self.adamW8 = adamW8
    self.lion = lion
    self.lion8 = lion8
    self.sgd = sgd
  }
}
