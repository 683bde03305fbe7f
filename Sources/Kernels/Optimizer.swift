import CPlatform
import Numerics

/// Elements per block of 8-bit state.
private let stateBlock = 256

extension Kernels {
  @inline(__always)
  private static func numbers(_ step: UnsafeRawPointer) -> OptimizerStep {
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
    var i = 0
    while i < count {
      let rest = count &- i
      let gradient = element16(g, 0, i, rest) * splat(s.gradientScale)
      let first = madd(element16(m, 0, i, rest), splat(s.beta1), gradient * splat(1 - s.beta1))
      let second = madd(element16(v, 0, i, rest), splat(s.beta2), gradient * gradient * splat(1 - s.beta2))
      let move = rate * first / (qt_sqrt(second) + epsilon)
      putElement16(p, 0, i, rest, element16(p, 0, i, rest) * decay - move)
      putElement16(m, 0, i, rest, first)
      putElement16(v, 0, i, rest, second)
      i &+= 16
    }
  }

  /// AdamW with both moments in 8 bits: decoded with the old block maxima, the parameter moved by the unrounded new
  /// moments, then requantized against the new maxima (bitsandbytes' blockwise kernel). As there, the code of the first
  /// moment keeps the moment's sign.
  @inline(never)
  static func adamW8(
    _ step: UnsafeRawPointer, _ p: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>, _ count: Int,
    _ codes1: UnsafeMutablePointer<UInt8>, _ absmax1: UnsafeMutablePointer<Float>,
    _ codes2: UnsafeMutablePointer<UInt8>, _ absmax2: UnsafeMutablePointer<Float>, _ signed: UnsafePointer<Float>,
    _ unsigned: UnsafePointer<Float>
  ) {
    let s = numbers(step)
    let rate = s.learningRate * s.correction2 / s.correction1
    let epsilon = s.epsilon * s.correction2
    let decay = 1 - s.learningRate * s.weightDecay
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 &* stateBlock) { buffer in
      let m = buffer.baseAddress.unsafelyUnwrapped
      let v = m + stateBlock
      var first = 0
      while first < count {
        let size = min(stateBlock, count &- first)
        let block = first / stateBlock
        var top1: Float = 0
        var top2: Float = 0
        for j in 0..<size {
          let i = first &+ j
          let gradient = g[i] * s.gradientScale
          m[j] = signed[Int(codes1[i])] * absmax1[block] * s.beta1 + gradient * (1 - s.beta1)
          v[j] = unsigned[Int(codes2[i])] * absmax2[block] * s.beta2 + gradient * gradient * (1 - s.beta2)
          if m[j].magnitude > top1 { top1 = m[j].magnitude }
          if v[j] > top2 { top2 = v[j] }
          p[i] = p[i] * decay - rate * m[j] / (v[j].squareRoot() + epsilon)
        }
        absmax1[block] = top1
        absmax2[block] = top2
        for j in 0..<size {
          codes1[first &+ j] = signedCode(m[j], top1, signed)
          codes2[first &+ j] = top2 > 0 ? UInt8(truncatingIfNeeded: nearest(v[j] / top2, unsigned)) : 0
        }
        first &+= size
      }
    }
  }

  /// Nearest entry, moved one step where its sign is not the value's (a tiny negative moment must not become positive).
  @inline(__always)
  private static func signedCode(_ value: Float, _ top: Float, _ map: UnsafePointer<Float>) -> UInt8 {
    guard top > 0 else { return 0 }
    var code = nearest(value / top, map)
    if value < 0, map[code] >= 0 { code &-= 1 } else if value > 0, map[code] < 0 { code &+= 1 }
    return UInt8(truncatingIfNeeded: code)
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

  @inline(never)
  static func lion8(
    _ step: UnsafeRawPointer, _ p: UnsafeMutablePointer<Float>, _ g: UnsafePointer<Float>, _ count: Int,
    _ codes: UnsafeMutablePointer<UInt8>, _ absmax: UnsafeMutablePointer<Float>, _ signed: UnsafePointer<Float>
  ) {
    let s = numbers(step)
    let decay = 1 - s.learningRate * s.weightDecay
    withUnsafeTemporaryAllocation(of: Float.self, capacity: stateBlock) { buffer in
      let m = buffer.baseAddress.unsafelyUnwrapped
      var first = 0
      while first < count {
        let size = min(stateBlock, count &- first)
        let block = first / stateBlock
        var top: Float = 0
        for j in 0..<size {
          let i = first &+ j
          let gradient = g[i] * s.gradientScale
          let old = signed[Int(codes[i])] * absmax[block]
          p[i] = p[i] * decay - s.learningRate * sign(old * s.beta1 + gradient * (1 - s.beta1))
          m[j] = old * s.beta2 + gradient * (1 - s.beta2)
          if m[j].magnitude > top { top = m[j].magnitude }
        }
        absmax[block] = top
        for j in 0..<size { codes[first &+ j] = signedCode(m[j], top, signed) }
        first &+= size
      }
    }
  }

  @inline(__always)
  private static func sign(_ x: Float) -> Float { x > 0 ? 1 : x < 0 ? -1 : 0 }

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
  public static func fill(optimizer table: UnsafeMutablePointer<OptimizerKernels>) {
    table.initialize(
      to: OptimizerKernels(
        adamW: { Kernels.adamW($0, $1, $2, $3, $4, $5) },
        adamW8: { Kernels.adamW8($0, $1, $2, $3, $4, $5, $6, $7, $8, $9) },
        lion: { Kernels.lion($0, $1, $2, $3, $4) }, lion8: { Kernels.lion8($0, $1, $2, $3, $4, $5, $6) },
        sgd: { Kernels.sgd($0, $1, $2, $3, $4) }))
  }
}
