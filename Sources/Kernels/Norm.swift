import CPlatform

extension Kernels {
  /// y = x * rstd * weight, rounded to the activation type before the weight is applied, as transformers' LlamaRMSNorm.
  @inline(never)
  static func rmsNorm(
    _ x: UnsafeRawPointer, _ type: Int32, _ weight: UnsafeRawPointer, _ weightType: Int32, _ t: Int, _ d: Int,
    _ epsilon: Float, _ y: UnsafeMutableRawPointer, _ rstd: UnsafeMutablePointer<Float>
  ) {
    let size = type == 0 ? 4 : 2
    for row in 0..<t {
      let source = x + row &* d &* size
      let target = y + row &* d &* size
      var sum = splat(0)
      forEachVector(d) { j, rest in
        let v = element16(source, type, j, rest)
        sum = madd(v, v, sum)
      }
      let scale = 1 / (mm_sum(sum) / Float(d) + epsilon).squareRoot()
      rstd[row] = scale
      forEachVector(d) { j, rest in
        var v = element16(source, type, j, rest) * splat(scale)
        if type == 1 { v = mm_round_bf16(v) }
        putElement16(target, type, j, rest, v * element16(weight, weightType, j, rest))
      }
    }
  }

  /// With n = x * rstd and g = dy * weight: dx = rstd * (g - n * mean(g * n)); dWeight += dy * n.
  @inline(never)
  static func rmsNormBackward(
    _ dy: UnsafeRawPointer, _ x: UnsafeRawPointer, _ type: Int32, _ weight: UnsafeRawPointer, _ weightType: Int32,
    _ rstd: UnsafePointer<Float>, _ t: Int, _ d: Int, _ dx: UnsafeMutableRawPointer, _ accumulate: Bool,
    _ dWeight: UnsafeMutablePointer<Float>?
  ) {
    let size = type == 0 ? 4 : 2
    for row in 0..<t {
      let offset = row &* d &* size
      var sum = splat(0)
      forEachVector(d) { j, rest in
        let g = element16(dy + offset, type, j, rest) * element16(weight, weightType, j, rest)
        sum = madd(g, element16(x + offset, type, j, rest), sum)
      }
      let scale = rstd[row]
      // mean(g * n) * rstd, applied to x instead of n
      let pull = splat(mm_sum(sum) / Float(d) * scale * scale * scale)
      forEachVector(d) { j, rest in
        let v = element16(x + offset, type, j, rest)
        let gradient = element16(dy + offset, type, j, rest)
        var out = gradient * element16(weight, weightType, j, rest) * splat(scale) - v * pull
        if accumulate { out = out + element16(dx + offset, type, j, rest) }
        putElement16(dx + offset, type, j, rest, out)
        if let dWeight {
          let sum = element16(dWeight, 0, j, rest) + gradient * v * splat(scale)
          putElement16(dWeight, 0, j, rest, sum)
        }
      }
    }
  }
}
