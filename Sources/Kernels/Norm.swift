import CPlatform

extension Kernels {
  /// y = x * rstd * (offset + weight). Without an offset x * rstd is rounded to the activation type before the weight
  /// is applied, as transformers' LlamaRMSNorm does; with one it is not, as in its Gemma2RMSNorm.
  @inline(never)
  static func rmsNorm(
    _ x: UnsafeRawPointer, _ type: Int32, _ weight: UnsafeRawPointer, _ weightType: Int32, _ offset: Float, _ t: Int,
    _ d: Int, _ epsilon: Float, _ y: UnsafeMutableRawPointer, _ rstd: UnsafeMutablePointer<Float>
  ) {
    @inline(always) func loop(_ type: Int32) {
      let size = type == 0 ? 4 : 2
      for row in 0..<t {
        let source = x + row &* d &* size
        let target = y + row &* d &* size
        var sums = splat4(0)
        @inline(always) func addWide(_ j: Int) {
          let v = Vec64(source, type, j)
          sums = madd(v, v, sums)
        }
        @inline(always) func add(_ j: Int, _ rest: Int) {
          let v = element16(source, type, j, rest)
          sums.a = madd(v, v, sums.a)
        }
        forEachFour(d, addWide, add)
        let scale = 1 / (sums.sum / Float(d) + epsilon).squareRoot()
        rstd[row] = scale
        @inline(always) func wide(_ j: Int) {
          prefetchRow(source + (d &+ j) &* size)
          let normal = Vec64(source, type, j) * splat4(scale)
          let rounded = offset == 0 ? normal.rounded(to: type) : normal
          (rounded * (Vec64(weight, weightType, j) + splat4(offset))).store(target, type, j)
        }
        @inline(always) func step(_ j: Int, _ rest: Int) {
          var v = element16(source, type, j, rest) * splat(scale)
          if type == 1, offset == 0 { v = mm_round_bf16(v) }
          putElement16(target, type, j, rest, v * (element16(weight, weightType, j, rest) + splat(offset)))
        }
        forEachFour(d, wide, step)
      }
    }
    switch type {
    case 0: loop(0)
    case 1: loop(1)
    default: loop(2)
    }
  }

  /// With n = x * rstd and g = dy * (offset + weight): dx = rstd * (g - n * mean(g * n)); dWeight += dy * n.
  @inline(never)
  static func rmsNormBackward(
    _ dy: UnsafeRawPointer, _ x: UnsafeRawPointer, _ type: Int32, _ weight: UnsafeRawPointer, _ weightType: Int32,
    _ offset: Float, _ rstd: UnsafePointer<Float>, _ t: Int, _ d: Int, _ dx: UnsafeMutableRawPointer,
    _ accumulate: Bool,
    _ dWeight: UnsafeMutablePointer<Float>?
  ) {
    @inline(always) func loop(_ type: Int32) {
      let size = type == 0 ? 4 : 2
      for row in 0..<t {
        let at = row &* d &* size
        var sums = splat4(0)
        @inline(always) func addWide(_ j: Int) {
          let g = Vec64(dy + at, type, j) * (Vec64(weight, weightType, j) + splat4(offset))
          sums = madd(g, Vec64(x + at, type, j), sums)
        }
        @inline(always) func add(_ j: Int, _ rest: Int) {
          let g = element16(dy + at, type, j, rest) * (element16(weight, weightType, j, rest) + splat(offset))
          sums.a = madd(g, element16(x + at, type, j, rest), sums.a)
        }
        forEachFour(d, addWide, add)
        let scale = rstd[row]
        // mean(g * n) * rstd, applied to x instead of n
        let pull = splat(sums.sum / Float(d) * scale * scale * scale)
        @inline(always) func wide(_ j: Int) {
          prefetchRow(x + (at &+ (d &+ j) &* size))
          prefetchRow(dy + (at &+ (d &+ j) &* size))
          let v = Vec64(x + at, type, j)
          let gradient = Vec64(dy + at, type, j)
          var out =
            gradient * (Vec64(weight, weightType, j) + splat4(offset)) * splat4(scale) - v * Vec64(repeating: pull)
          if accumulate { out = out + Vec64(dx + at, type, j) }
          out.store(dx + at, type, j)
          if let dWeight { (Vec64(dWeight, 0, j) + gradient * v * splat4(scale)).store(dWeight, 0, j) }
        }
        @inline(always) func step(_ j: Int, _ rest: Int) {
          let v = element16(x + at, type, j, rest)
          let gradient = element16(dy + at, type, j, rest)
          let weights = element16(weight, weightType, j, rest) + splat(offset)
          var out = gradient * weights * splat(scale) - v * pull
          if accumulate { out = out + element16(dx + at, type, j, rest) }
          putElement16(dx + at, type, j, rest, out)
          if let dWeight {
            let sum = element16(dWeight, 0, j, rest) + gradient * v * splat(scale)
            putElement16(dWeight, 0, j, rest, sum)
          }
        }
        forEachFour(d, wide, step)
      }
    }
    switch type {
    case 0: loop(0)
    case 1: loop(1)
    default: loop(2)
    }
  }

  /// Two lines of the next row, which comes while this one is computed.
  @inline(__always)
  private static func prefetchRow(_ p: UnsafeRawPointer) {
    mm_prefetch(p)
    mm_prefetch(p + 64)
  }
}
