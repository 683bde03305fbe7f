/// The numbers of one optimizer step, for the kernels.
package struct OptimizerStep: Sendable {
  package var learningRate: Float
  package var beta1: Float
  package var beta2: Float
  package var epsilon: Float
  package var weightDecay: Float
  /// Multiplies the gradient (clipping).
  package var gradientScale: Float
  /// 1 - beta1^t and sqrt(1 - beta2^t), computed in double precision.
  package var correction1: Float
  package var correction2: Float

  package init(
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
package struct OptimizerKernels: Sendable {
  package typealias Update1 =
    @convention(c) (
      UnsafeRawPointer, UnsafeMutablePointer<Float>, UnsafePointer<Float>, Int, UnsafeMutablePointer<Float>
    ) -> Void
  package typealias Update2 =
    @convention(c) (
      UnsafeRawPointer, UnsafeMutablePointer<Float>, UnsafePointer<Float>, Int, UnsafeMutablePointer<Float>,
      UnsafeMutablePointer<Float>
    ) -> Void
  /// ..., first codes, first absmax, address of the signed `DynamicCodec`
  package typealias Update1Bits8 =
    @convention(c) (
      UnsafeRawPointer, UnsafeMutablePointer<Float>, UnsafePointer<Float>, Int, UnsafeMutablePointer<UInt8>,
      UnsafeMutablePointer<Float>, UnsafeRawPointer
    ) -> Void
  /// ..., first codes, first absmax, second codes, second absmax, signed and unsigned `DynamicCodec`
  package typealias Update2Bits8 =
    @convention(c) (
      UnsafeRawPointer, UnsafeMutablePointer<Float>, UnsafePointer<Float>, Int, UnsafeMutablePointer<UInt8>,
      UnsafeMutablePointer<Float>, UnsafeMutablePointer<UInt8>, UnsafeMutablePointer<Float>, UnsafeRawPointer,
      UnsafeRawPointer
    ) -> Void

  package var adamW: Update2
  package var adamW8: Update2Bits8
  package var lion: Update1
  package var lion8: Update1Bits8
  /// Momentum is beta1; the state is the velocity.
  package var sgd: Update1

  package init(
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
