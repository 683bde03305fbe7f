/// The search of k-quants for the scales of the parts of a block (`make_qkx2_quants` and `make_qx_quants` of
/// ggml-quants.c). A lane is a part; within it sums are taken in order, as ggml takes them.
enum BlockSearch {
  /// Parts whose elements are all smaller count as zeros.
  static let nothing: Float = 1e-15

  /// Adding and subtracting it rounds to the nearest whole number, the even one of two; for numbers below 2^22.
  private static let magic: Float = 12_582_912

  /// The nearest whole number by the bits, so that a quotient without bounds is no trap.
  @inline(__always)
  static func nearest(_ value: Float) -> Int32 {
    Int32(bitPattern: (value + magic).bitPattern & 0x7F_FFFF) - 0x40_0000
  }

  /// For eight parts of 32 elements scales s, minima m and codes l of 0 to `last`, for which s * l - m is near the
  /// elements in the mean of squares weighted by the root mean square plus the element's size.
  ///
  /// Starts with the range, and takes `steps` + 1 other widths of it, from `first` on by tenths of a code. For the
  /// codes of each the best s and m solve two equations.
  static func scalesAndMinima(
    _ x: UnsafePointer<Float>, last: Float, first: Float, steps: Int
  ) -> (scales: SIMD8<Float>, minima: SIMD8<Float>, codes: [SIMD8<Float>]) {
    typealias Lanes = SIMD8<Float>
    let zero = Lanes(repeating: 0), top = Lanes(repeating: last)
    return withUnsafeTemporaryAllocation(of: Lanes.self, capacity: 4 * 32) { memory in
      let values = memory.baseAddress!, weights = values + 32, codes = values + 64, others = values + 96
      for i in 0..<32 {
        values[i] = Lanes(x[i], x[32 + i], x[64 + i], x[96 + i], x[128 + i], x[160 + i], x[192 + i], x[224 + i])
      }
      var squares = zero
      for i in 0..<32 { squares += values[i] * values[i] }
      let mean = (squares / 32).squareRoot()
      for i in 0..<32 { weights[i] = mean + size(values[i]) }
      var (low, high) = (values[0], values[0])
      var (sumW, sumX) = (weights[0], weights[0] * values[0])
      for i in 1..<32 {
        low.replace(with: values[i], where: values[i] .< low)
        high.replace(with: values[i], where: values[i] .> high)
        sumW += weights[i]
        sumX += weights[i] * values[i]
      }
      low.replace(with: zero, where: low .> zero)
      let (start, isFlat) = (low, high .== low)
      var inverse = top / (high - low)
      var scale = 1 / inverse
      var error = zero
      for i in 0..<32 {
        codes[i] = rounded(inverse * (values[i] - low), top)
        let difference = scale * codes[i] + low - values[i]
        error += weights[i] * (difference * difference)
      }
      for step in 0...steps {
        inverse = Lanes(repeating: first + 0.1 * Float(step) + last) / (high - low)
        var (sumL, sumLL, sumXL) = (zero, zero, zero)
        for i in 0..<32 {
          let code = rounded(inverse * (values[i] - low), top)
          others[i] = code
          let weighted = weights[i] * code
          sumL += weighted
          sumLL += weighted * code
          sumXL += weighted * values[i]
        }
        let determinant = sumW * sumLL - sumL * sumL
        var thisScale = (sumW * sumXL - sumX * sumL) / determinant
        var thisLow = (sumLL * sumX - sumL * sumXL) / determinant
        let isAbove = thisLow .> zero
        thisLow.replace(with: zero, where: isAbove)
        thisScale.replace(with: sumXL / sumLL, where: isAbove)
        var thisError = zero
        for i in 0..<32 {
          let difference = thisScale * others[i] + thisLow - values[i]
          thisError += weights[i] * (difference * difference)
        }
        let isBetter = (determinant .> zero) .& (thisError .< error)
        guard any(isBetter) else { continue }
        for i in 0..<32 { codes[i].replace(with: others[i], where: isBetter) }
        error.replace(with: thisError, where: isBetter)
        scale.replace(with: thisScale, where: isBetter)
        low.replace(with: thisLow, where: isBetter)
      }
      scale.replace(with: zero, where: isFlat)
      low.replace(with: start, where: isFlat)
      return (scale, -low, (0..<32).map { codes[$0].replacing(with: zero, where: isFlat) })
    }
  }

  /// For sixteen parts of 16 elements scales s and codes l of -32 to 31, for which s * l is near the elements in the
  /// mean of squares weighted by squares; codes are given plus 32.
  ///
  /// Starts with the largest element at -32, then lets it be up to 0.9 of a code more or less. For the codes of each
  /// the best s is a quotient.
  static func scales(_ x: UnsafePointer<Float>) -> (scales: SIMD16<Float>, codes: [SIMD16<Float>]) {
    typealias Lanes = SIMD16<Float>
    let zero = Lanes(repeating: 0)
    return withUnsafeTemporaryAllocation(of: Lanes.self, capacity: 3 * 16) { memory in
      let values = memory.baseAddress!, codes = values + 16, others = values + 32
      for i in 0..<16 {
        var lanes = zero
        for part in 0..<16 { lanes[part] = x[16 * part + i] }
        values[i] = lanes
      }
      var (largest, signed) = (zero, zero)
      for i in 0..<16 {
        let isLarger = size(values[i]) .> largest
        largest.replace(with: size(values[i]), where: isLarger)
        signed.replace(with: values[i], where: isLarger)
      }
      func sums(_ inverse: Lanes, _ codes: UnsafeMutablePointer<Lanes>) -> (lx: Lanes, ll: Lanes) {
        var (sumLX, sumLL) = (zero, zero)
        for i in 0..<16 {
          let code = rounded(inverse * values[i])
          codes[i] = code
          let weight = values[i] * values[i]
          sumLX += weight * values[i] * code
          sumLL += weight * code * code
        }
        return (sumLX, sumLL)
      }
      let first = sums(-32 / signed, codes)
      var scale = (first.lx / first.ll).replacing(with: zero, where: first.ll .== zero)
      var best = scale * first.lx
      for step in -9...9 where step != 0 {
        let sums = sums(Lanes(repeating: -(32 + 0.1 * Float(step))) / signed, others)
        let isBetter = (sums.ll .> zero) .& (sums.lx * sums.lx .> best * sums.ll)
        for i in 0..<16 { codes[i].replace(with: others[i], where: isBetter) }
        scale.replace(with: sums.lx / sums.ll, where: isBetter)
        best.replace(with: scale * sums.lx, where: isBetter)
      }
      let isNothing = largest .< Lanes(repeating: nothing)
      scale.replace(with: zero, where: isNothing)
      return (scale, (0..<16).map { (codes[$0] + 32).replacing(with: zero, where: isNothing) })
    }
  }

  @inline(__always)
  private static func size<Lanes: SIMD>(_ value: Lanes) -> Lanes where Lanes.Scalar == Float {
    value.replacing(with: 0 - value, where: value .< 0)
  }

  @inline(__always)
  private static func rounded(_ value: SIMD8<Float>, _ top: SIMD8<Float>) -> SIMD8<Float> {
    let whole = (value + magic) - magic
    return whole.clamped(lowerBound: SIMD8(repeating: 0), upperBound: top)
  }

  @inline(__always)
  private static func rounded(_ value: SIMD16<Float>) -> SIMD16<Float> {
    let whole = (value + magic) - magic
    return whole.clamped(lowerBound: SIMD16(repeating: -32), upperBound: SIMD16(repeating: 31))
  }
}
