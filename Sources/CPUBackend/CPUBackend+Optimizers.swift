import Glibc
import Numerics
import Tensors

extension CPUBackend {
  public func update(
    _ rule: OptimizerUpdate, parameter: Tensor, gradient: Tensor, state: [UnsafeMutableRawPointer], step: Int,
    gradientScale: Float
  ) throws {
    let numbers = OptimizerStep(
      learningRate: rule.learningRate, beta1: rule.beta1, beta2: rule.beta2, epsilon: rule.epsilon,
      weightDecay: rule.weightDecay, gradientScale: gradientScale,
      correction1: Float(1 - pow(Double(rule.beta1), Double(step))),
      correction2: Float((1 - pow(Double(rule.beta2), Double(step))).squareRoot()))
    let (p, g, states) = (Shared(parameter.floatAddress), Shared(gradient.floatAddress), Shared(state))
    let kernels = tables.optimizer
    let count = parameter.elementCount
    // Whole blocks of 8-bit state per chunk.
    let block = 256
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
        switch (rule.rule, rule.bits) {
        case (.adamW, 8):
          kernels.adamW8(
            numbers, target, source, size, codes(0), floats(1, range.lowerBound), codes(2),
            floats(3, range.lowerBound), &signed, &unsigned)
        case (.adamW, _): kernels.adamW(numbers, target, source, size, floats(0, first), floats(1, first))
        case (.lion, 8):
          kernels.lion8(numbers, target, source, size, codes(0), floats(1, range.lowerBound), &signed)
        case (.lion, _): kernels.lion(numbers, target, source, size, floats(0, first))
        case (.sgd, _): kernels.sgd(numbers, target, source, size, floats(0, first))
        }
      }
    }
  }
}
