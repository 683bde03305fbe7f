import CPUBackend
import Foundation
import Tensors
import Testing

/// Optimizer updates between guard pages, in several chunks; 8-bit state is compared with its twin in OptimizersTests.
@Suite struct OptimizerKernelTests {
  static let counts = [1, 17, 300, 33_003]

  /// One step from given state by the definition: parameter, then the states.
  private func twin(_ rule: OptimizerUpdate, _ p: Double, _ g: Double, _ states: [Double], step: Int) -> [Double] {
    let (rate, b1, b2) = (Double(rule.learningRate), Double(rule.beta1), Double(rule.beta2))
    let decayed = p * (1 - rate * Double(rule.weightDecay))
    switch rule.kernel {
    case .adamW, .adamW8:
      let (m, v) = (b1 * states[0] + (1 - b1) * g, b2 * states[1] + (1 - b2) * g * g)
      let (mean, variance) = (m / (1 - pow(b1, Double(step))), v / (1 - pow(b2, Double(step))))
      return [decayed - rate * mean / (variance.squareRoot() + Double(rule.epsilon)), m, v]
    case .lion, .lion8:
      let u = b1 * states[0] + (1 - b1) * g
      return [decayed - rate * (u > 0 ? 1 : u < 0 ? -1 : 0), b2 * states[0] + (1 - b2) * g]
    case .sgd:
      let v = b1 * states[0] + g + Double(rule.weightDecay) * p
      return [p - rate * v, v]
    }
  }

  @Test(arguments: [OptimizerUpdate.Kernel.adamW, .lion, .sgd], counts)
  func stepsFollowTheirDefinitions(kernel: OptimizerUpdate.Kernel, count: Int) throws {
    let update = OptimizerUpdate(
      kernel, learningRate: 0.05, beta1: 0.9, beta2: 0.99, epsilon: 1e-3, weightDecay: 0.2)
    var threads = SameBits()
    for backend in backends {
      let parameter = try GuardedTensor(random: 1, [count], on: backend)
      let gradient = try GuardedTensor(random: 2, [count], on: backend)
      let first = try GuardedTensor(random: 3, [count], on: backend)
      let second = try GuardedTensor((0..<count).map { Float($0 % 7) / 8 }, [count], on: backend)
      let states = kernel == .adamW ? [first, second] : [first]
      let olds = try ([parameter, gradient] + states).map { try $0.values().map(Double.init) }
      try backend.update(
        update, parameter: parameter.tensor, gradient: gradient.tensor, state: states.map(\.tensor), step: 3,
        gradientScale: 0.5)
      let wanted = (0..<count).map { i in
        twin(update, olds[0][i], olds[1][i] * 0.5, olds.dropFirst(2).map { $0[i] }, step: 3)
      }
      for (index, result) in ([parameter] + states).enumerated() {
        #expect(largestError(try result.values(), wanted.map { $0[index] }) < 2e-6)
        #expect(result.isIntact)
      }
      try threads.check([parameter] + states, on: backend)
    }
  }

  /// Blocks are independent: all at once, on any number of threads, give what each gives alone.
  @Test(arguments: [OptimizerUpdate.Kernel.adamW8, .lion8], counts)
  func eightBitBlocksAreIndependent(kernel: OptimizerUpdate.Kernel, count: Int) throws {
    let update = OptimizerUpdate(kernel, learningRate: 0.01, beta2: 0.99, weightDecay: 0.1)
    let blocks = (count + 255) / 256
    for backend in backends {
      func state() throws -> [GuardedTensor] {
        try [GuardedTensor(random: 1, [count], on: backend), GuardedTensor(random: 2, [count], on: backend)]
          + (0..<(kernel == .adamW8 ? 2 : 1)).flatMap { _ in
            [try GuardedTensor(zeros: [count], .u8, on: backend), try GuardedTensor(zeros: [blocks], on: backend)]
          }
      }
      let (together, alone) = (try state(), try state())
      for step in 1...2 {
        try backend.update(
          update, parameter: together[0].tensor, gradient: together[1].tensor,
          state: together.dropFirst(2).map(\.tensor), step: step, gradientScale: 0.5)
        for block in 0..<blocks {
          let range = block * 256..<min(count, block * 256 + 256)
          try backend.update(
            update, parameter: alone[0].tensor.narrowed(0, range), gradient: alone[1].tensor.narrowed(0, range),
            state: alone.dropFirst(2).enumerated().map { index, state in
              try state.tensor.narrowed(0, index % 2 == 0 ? range : block..<block + 1)
            }, step: step, gradientScale: 0.5)
        }
      }
      for (a, b) in zip(together, alone) {
        #expect(try a.values() == b.values())
        #expect(a.isIntact)
      }
    }
  }
}
