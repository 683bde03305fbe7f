import CPlatform

/// Largest element of a row of floats.
@inline(__always)
private func rowMaximum(_ x: UnsafePointer<Float>, _ d: Int) -> Float {
  var peak = splat(-Float.infinity)
  var j = 0
  while j &+ 16 <= d {
    peak = larger(peak, loadFloats(x + j))
    j &+= 16
  }
  var best = largest(peak)
  while j < d {
    if x[j] > best { best = x[j] }
    j &+= 1
  }
  return best
}

/// Sum of exp(x - peak) of a row; with `y` the terms are stored there.
@inline(always)
private func exponentials(_ x: UnsafePointer<Float>, _ d: Int, _ peak: Float, _ y: UnsafeMutablePointer<Float>?)
  -> Float
{
  var sums = splat4(0)
  @inline(always) func wide(_ j: Int) {
    let e = expVector(Vec64(x, 0, j) - splat4(peak))
    if let y { e.store(y, 0, j) }
    sums = sums + e
  }
  @inline(always) func step(_ j: Int, _ rest: Int) {
    var e = expVector(element16(x, 0, j, rest) - splat(peak))
    if rest < 16 {
      for lane in rest..<16 { e[lane] = 0 }
    }
    if let y { putElement16(y, 0, j, rest, e) }
    sums.a = sums.a + e
  }
  forEachFour(d, wide, step)
  return sums.sum
}

extension Kernels {
  @inline(never)
  static func softmax(
    _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ t: Int, _ d: Int, _ logarithm: Bool
  ) {
    for row in 0..<t {
      let source = x + row &* d
      let target = y + row &* d
      let peak = rowMaximum(source, d)
      let total = exponentials(source, d, peak, logarithm ? nil : target)
      let (top, shift, factor) = (splat(peak), splat(rows_log(total)), splat(1 / total))
      forEachVector(d) { j, rest in
        // The peak is taken away first: beside a large one the logarithm of the sum would lose its digits.
        let v = logarithm ? element16(source, 0, j, rest) - top - shift : element16(target, 0, j, rest) * factor
        putElement16(target, 0, j, rest, v)
      }
    }
  }

  /// dx = y * (dy - sum(dy * y)), or for the logarithm dx = dy - exp(y) * sum(dy).
  @inline(never)
  static func softmaxBackward(
    _ dy: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ dx: UnsafeMutablePointer<Float>, _ t: Int, _ d: Int,
    _ logarithm: Bool
  ) {
    for row in 0..<t {
      let offset = row &* d
      var sum = splat(0)
      forEachVector(d) { j, rest in
        let g = element16(dy + offset, 0, j, rest)
        sum = logarithm ? sum + g : madd(g, element16(y + offset, 0, j, rest), sum)
      }
      let total = splat(mm_sum(sum))
      @inline(always) func step(_ j: Int, _ rest: Int) {
        let g = element16(dy + offset, 0, j, rest)
        let v = element16(y + offset, 0, j, rest)
        putElement16(dx + offset, 0, j, rest, logarithm ? g - expVector(v) * total : v * (g - total))
      }
      forEachVector(d, step)
    }
  }

  /// losses = log sum exp(logits) - logits[label], 0 for a negative label; see `RowKernels.CrossEntropy`.
  @inline(never)
  static func crossEntropy(
    _ logits: UnsafeMutablePointer<Float>, _ t: Int, _ d: Int, _ labels: UnsafePointer<Int32>,
    _ losses: UnsafeMutablePointer<Float>, _ scale: Float, _ gradient: Bool
  ) {
    for row in 0..<t {
      let source = logits + row &* d
      let label = Int(labels[row])
      guard label >= 0 else {
        losses[row] = 0
        if gradient {
          for j in 0..<d { source[j] = 0 }
        }
        continue
      }
      let peak = rowMaximum(source, d)
      let chosen = source[label]
      let total = exponentials(source, d, peak, gradient ? source : nil)
      losses[row] = rows_log(total) + (peak - chosen)
      guard gradient else { continue }
      let factor = scale / total
      @inline(always) func wide(_ j: Int) { (Vec64(source, 0, j) * splat4(factor)).store(source, 0, j) }
      @inline(always) func step(_ j: Int, _ rest: Int) {
        putElement16(source, 0, j, rest, element16(source, 0, j, rest) * splat(factor))
      }
      forEachFour(d, wide, step)
      source[label] -= scale
    }
  }
}
