import CPlatform

// Layer normalisation (Ba et al. 2016). Weight and bias are f32.

extension Kernels {
  /// y = (x - mean) * rstd * weight + bias. The variance is that of the differences to the mean, so that a large mean
  /// takes no digits from it.
  @inline(never)
  static func layerNorm(
    _ x: UnsafeRawPointer, _ type: Int32, _ weight: UnsafePointer<Float>, _ bias: UnsafePointer<Float>, _ t: Int,
    _ d: Int, _ epsilon: Float, _ y: UnsafeMutableRawPointer, _ mean: UnsafeMutablePointer<Float>,
    _ rstd: UnsafeMutablePointer<Float>
  ) {
    @inline(always) func loop(_ type: Int32) {
      let size = type == 0 ? 4 : 2
      for row in 0..<t {
        let source = x + row &* d &* size
        let target = y + row &* d &* size
        var sums = splat4(0)
        @inline(always) func addWide(_ j: Int) { sums = sums + Vec64(source, type, j) }
        @inline(always) func add(_ j: Int, _ rest: Int) { sums.a = sums.a + element16(source, type, j, rest) }
        forEachFour(d, addWide, add)
        let middle = sums.sum / Float(d)
        sums = splat4(0)
        @inline(always) func squareWide(_ j: Int) {
          let v = Vec64(source, type, j) - splat4(middle)
          sums = madd(v, v, sums)
        }
        @inline(always) func square(_ j: Int, _ rest: Int) {
          let v = first(rest, of: element16(source, type, j, rest) - splat(middle))
          sums.a = madd(v, v, sums.a)
        }
        forEachFour(d, squareWide, square)
        let scale = 1 / (sums.sum / Float(d) + epsilon).squareRoot()
        (mean[row], rstd[row]) = (middle, scale)
        @inline(always) func wide(_ j: Int) {
          let normal = (Vec64(source, type, j) - splat4(middle)) * splat4(scale)
          madd(normal, Vec64(weight, 0, j), Vec64(bias, 0, j)).store(target, type, j)
        }
        @inline(always) func step(_ j: Int, _ rest: Int) {
          let normal = (element16(source, type, j, rest) - splat(middle)) * splat(scale)
          putElement16(
            target, type, j, rest, madd(normal, element16(weight, 0, j, rest), element16(bias, 0, j, rest)))
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

  /// With n = (x - mean) * rstd and g = dy * weight: dx = rstd * (g - mean(g) - n * mean(g * n)); sums, f32 [2, D], +=
  /// dy * n and dy.
  @inline(never)
  static func layerNormBackward(
    _ dy: UnsafeRawPointer, _ x: UnsafeRawPointer, _ type: Int32, _ weight: UnsafePointer<Float>,
    _ mean: UnsafePointer<Float>, _ rstd: UnsafePointer<Float>, _ t: Int, _ d: Int, _ dx: UnsafeMutableRawPointer,
    _ sums: UnsafeMutablePointer<Float>?
  ) {
    @inline(always) func loop(_ type: Int32) {
      let size = type == 0 ? 4 : 2
      for row in 0..<t {
        let at = row &* d &* size
        let (middle, scale) = (mean[row], rstd[row])
        var (plain, along) = (splat4(0), splat4(0))
        @inline(always) func addWide(_ j: Int) {
          let g = Vec64(dy + at, type, j) * Vec64(weight, 0, j)
          plain = plain + g
          along = madd(g, Vec64(x + at, type, j) - splat4(middle), along)
        }
        @inline(always) func add(_ j: Int, _ rest: Int) {
          // Past the end g is 0.
          let g = element16(dy + at, type, j, rest) * element16(weight, 0, j, rest)
          plain.a = plain.a + g
          along.a = madd(g, element16(x + at, type, j, rest) - splat(middle), along.a)
        }
        forEachFour(d, addWide, add)
        let shift = plain.sum / Float(d)
        // mean(g * n) * rstd, applied to x - mean instead of n
        let pull = along.sum / Float(d) * scale * scale
        @inline(always) func step(_ j: Int, _ rest: Int) {
          let gradient = element16(dy + at, type, j, rest)
          let v = element16(x + at, type, j, rest) - splat(middle)
          let g = gradient * element16(weight, 0, j, rest)
          putElement16(dx + at, type, j, rest, (g - splat(shift) - v * splat(pull)) * splat(scale))
          guard let sums else { return }
          putElement16(sums, 0, j, rest, madd(gradient, v * splat(scale), element16(sums, 0, j, rest)))
          putElement16(sums + d, 0, j, rest, element16(sums + d, 0, j, rest) + gradient)
        }
        forEachVector(d, step)
      }
    }
    switch type {
    case 0: loop(0)
    case 1: loop(1)
    default: loop(2)
    }
  }

  /// The first `count` lanes, zero in the others.
  @inline(__always)
  private static func first(_ count: Int, of v: Vec16) -> Vec16 {
    let lanes = Vec16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    return v.replacing(with: 0, where: lanes .>= splat(Float(count)))
  }
}
