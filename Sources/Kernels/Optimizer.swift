import CPlatform
import Numerics

extension Kernels {
  @inline(__always)
  static func numbers(_ step: UnsafeRawPointer) -> OptimizerStep {
    step.assumingMemoryBound(to: OptimizerStep.self).pointee
  }

  /// AdamW (Loshchilov and Hutter 2019), decay before the update as in torch and bitsandbytes' CPU kernel:
  /// p -= lr * (c2 / c1) * m / (sqrt(v) + eps * c2).
  @inline(never)
  static func adamW(
    _ step: UnsafeRawPointer, _ p: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>, _ count: Int,
    _ m: UnsafeMutablePointer<Float>, _ v: UnsafeMutablePointer<Float>
  ) {
    let s = numbers(step)
    let decay = splat(1 - s.learningRate * s.weightDecay)
    let rate = splat(s.learningRate * s.correction2 / s.correction1)
    let epsilon = splat(s.epsilon * s.correction2)
    forEachVector(count) { i, rest in
      let gradient = element16(g, 0, i, rest) * splat(s.gradientScale)
      let first = madd(element16(m, 0, i, rest), splat(s.beta1), gradient * splat(1 - s.beta1))
      let second = madd(element16(v, 0, i, rest), splat(s.beta2), gradient * gradient * splat(1 - s.beta2))
      let move = rate * first / (qt_sqrt(second) + epsilon)
      putElement16(p, 0, i, rest, element16(p, 0, i, rest) * decay - move)
      putElement16(m, 0, i, rest, first)
      putElement16(v, 0, i, rest, second)
    }
  }

  /// Lion (Chen et al. 2023): p -= lr * sign(b1 m + (1 - b1) g), then m = b2 m + (1 - b2) g; decoupled decay first.
  @inline(never)
  static func lion(
    _ step: UnsafeRawPointer, _ p: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>, _ count: Int,
    _ m: UnsafeMutablePointer<Float>
  ) {
    let s = numbers(step)
    let decay = 1 - s.learningRate * s.weightDecay
    for i in 0..<count {
      let gradient = g[i] * s.gradientScale
      p[i] = p[i] * decay - s.learningRate * sign(m[i] * s.beta1 + gradient * (1 - s.beta1))
      m[i] = m[i] * s.beta2 + gradient * (1 - s.beta2)
    }
  }

  @inline(__always)
  static func sign(_ x: Float) -> Float { x > 0 ? 1 : x < 0 ? -1 : 0 }

  /// Stochastic gradient descent with momentum as torch.optim.SGD: v = momentum * v + g, p -= lr * v.
  @inline(never)
  static func sgd(
    _ step: UnsafeRawPointer, _ p: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>, _ count: Int,
    _ velocity: UnsafeMutablePointer<Float>
  ) {
    let s = numbers(step)
    for i in 0..<count {
      let gradient = g[i] * s.gradientScale + s.weightDecay * p[i]
      velocity[i] = velocity[i] * s.beta1 + gradient
      p[i] -= s.learningRate * velocity[i]
    }
  }

  /// Stores this build's optimizer functions.
  package static func fill(optimizer table: UnsafeMutablePointer<OptimizerKernels>) {
    table.initialize(
      to: OptimizerKernels(
        adamW: { Kernels.adamW($0, $1, $2, $3, $4, $5) },
        adamW8: { Kernels.adamW8($0, $1, $2, $3, $4, $5, $6, $7, $8, $9) },
        lion: { Kernels.lion($0, $1, $2, $3, $4) }, lion8: { Kernels.lion8($0, $1, $2, $3, $4, $5, $6) },
        sgd: { Kernels.sgd($0, $1, $2, $3, $4) }))
  }
}
