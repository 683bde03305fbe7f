import Glibc
import Numerics
import Tensors

extension CPUBackend {
  /// One pass over parameter, gradient and state, in chunks of whole blocks of 8-bit state.
  ///
  /// The bias corrections 1 - beta1^step and sqrt(1 - beta2^step) are computed in double precision and rounded to f32.
  /// - Throws: Nothing.
  public func update(
    _ update: OptimizerUpdate, parameter: Tensor, gradient: Tensor, state: [Tensor], step: Int, gradientScale: Float
  ) throws {
    let numbers = OptimizerStep(
      learningRate: update.learningRate, beta1: update.beta1, beta2: update.beta2, epsilon: update.epsilon,
      weightDecay: update.weightDecay, gradientScale: gradientScale,
      correction1: Float(1 - pow(Double(update.beta1), Double(step))),
      correction2: Float((1 - pow(Double(update.beta2), Double(step))).squareRoot()))
    let (p, g) = (Shared(parameter.floatAddress), Shared(gradient.floatAddress))
    let states = Shared(state.map(\.address))
    let kernels = tables.optimizer
    let count = parameter.elementCount
    // Whole blocks of 8-bit state per chunk.
    let block = DynamicMap.stateBlockSize
    pool.forEachRange((count + block - 1) / block, grain: 64) { range, _ in
      let first = range.lowerBound * block
      let size = min(range.upperBound * block, count) - first
      func floats(_ index: Int, _ offset: Int) -> UnsafeMutablePointer<Float> {
        states.value[index].assumingMemoryBound(to: Float.self) + offset
      }
      func codes(_ index: Int) -> UnsafeMutablePointer<UInt8> {
        states.value[index].assumingMemoryBound(to: UInt8.self) + first
      }
      // The tables are kept in locals so that the kernels get addresses.
      var (signed, unsigned) = (DynamicCodec.signed, DynamicCodec.unsigned)
      withUnsafePointer(to: numbers) { numbers in
        let (target, source) = (p.value + first, UnsafePointer(g.value + first))
        switch update.kernel {
        case .adamW: kernels.adamW(numbers, target, source, size, floats(0, first), floats(1, first))
        case .adamW8:
          kernels.adamW8(
            numbers, target, source, size, codes(0), floats(1, range.lowerBound), codes(2),
            floats(3, range.lowerBound), &signed, &unsigned)
        case .lion: kernels.lion(numbers, target, source, size, floats(0, first))
        case .lion8:
          kernels.lion8(numbers, target, source, size, codes(0), floats(1, range.lowerBound), &signed)
        case .sgd: kernels.sgd(numbers, target, source, size, floats(0, first))
        }
      }
    }
  }
}
