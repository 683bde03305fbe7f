import Numerics
import Tensors

extension HandleBackend {
  func matmul(
    _ a: Tensor, transposeA: Bool, _ b: Tensor, transposeB: Bool, alpha: Float, beta: Float, into c: Tensor,
    precision: DType
  ) throws {
    let (rows, columns, steps) = (c.shape[0], c.shape[1], a.shape[transposeA ? 0 : 1])
    func rounded(_ x: Tensor, _ isTransposed: Bool) throws -> [Double] {
      let values = values(isTransposed ? try x.transposed(0, 1) : x)
      return precision == .bf16 ? values.map { Double(Float($0).roundedToBF16) } : values
    }
    let (left, right) = (try rounded(a, transposeA), try rounded(b, transposeB))
    var sums = [Double](repeating: 0, count: rows * columns)
    sums.withUnsafeMutableBufferPointer { sums in
      right.withUnsafeBufferPointer { right in
        for row in 0..<rows {
          for step in 0..<steps {
            let factor = left[row * steps + step]
            for column in 0..<columns { sums[row * columns + column] += factor * right[step * columns + column] }
          }
        }
      }
    }
    let old = beta == 0 ? Array(repeating: 0, count: sums.count) : values(c)
    set(c, zip(sums, old).map { Double(alpha) * $0 + Double(beta) * $1 })
  }

  // MARK: Quantization, with the arithmetic in f32 that the bytes of bitsandbytes come from

  func quantize4(
    _ x: Tensor, kind: FourBitKind, blockSize: Int, codes: Tensor, absmax: Tensor, firstBad: Tensor
  ) throws {
    let (thresholds, order) =
      switch kind {
      case .nf4: (NF4.thresholds, NF4.order)
      case .fp4: (FP4.thresholds, FP4.order)
      case .int4: (Int4.thresholds, Int4.order)
      }
    let source = floats(x)
    var bytes = [Double](repeating: 0, count: codes.elementCount)
    var peaks: [Double] = []
    for start in stride(from: 0, to: source.count, by: blockSize) {
      let block = source[start..<min(source.count, start + blockSize)]
      let peak = block.reduce(0) { max($0, $1.magnitude) }
      peaks.append(Double(peak))
      let scale = 1 / max(peak, 1e-38)
      for (index, value) in zip(block.indices, block) {
        let share = block.count == blockSize ? value * scale : value / max(peak, 1e-38)
        let code = order[thresholds.count { share > $0 }]
        bytes[index / 2] += Double(index % 2 == 0 ? code << 4 : code)
      }
    }
    set(codes, bytes)
    set(absmax, peaks)
    set(firstBad, [Double(source.firstIndex { !$0.isFinite } ?? -1)])
  }

  func dequantize4(_ operand: QuantizedOperand, into y: Tensor) throws {
    let (codes, codebook) = (integers(operand.codes), floats(operand.codebook))
    var scales = floats(operand.absmax)
    if let nested = operand.nested {
      scales = decoded(
        operand.absmax, nested.absmax, nested.map, blockSize: nested.blockSize, offset: nested.offset)
    }
    set(
      y,
      (0..<operand.elementCount).map { index in
        let byte = codes[index / 2]
        return Double(codebook[index % 2 == 0 ? byte >> 4 : byte & 15] * scales[index / operand.blockSize])
      })
  }

  func quantize8(_ x: Tensor, blockSize: Int, codes: Tensor, absmax: Tensor) throws {
    let source = floats(x)
    var (bytes, peaks) = ([Double](), [Double]())
    for start in stride(from: 0, to: source.count, by: blockSize) {
      let block = source[start..<min(source.count, start + blockSize)]
      let peak = block.reduce(0) { max($0, $1.magnitude) }
      peaks.append(Double(peak))
      let scale = peak > 0 ? 1 / peak : 0
      bytes += block.map { peak > 0 ? Double(nearest($0 * scale, DynamicMap.signed)) : 0 }
    }
    set(codes, bytes)
    set(absmax, peaks)
  }

  func dequantize8(
    codes: Tensor, absmax: Tensor, map: Tensor, blockSize: Int, offset: Float, into y: Tensor
  ) throws {
    set(y, decoded(codes, absmax, map, blockSize: blockSize, offset: offset).map { Double($0) })
  }

  private func decoded(_ codes: Tensor, _ absmax: Tensor, _ map: Tensor, blockSize: Int, offset: Float) -> [Float] {
    let (map, scales) = (floats(map), floats(absmax))
    return integers(codes).enumerated().map { index, code in map[code] * scales[index / blockSize] + offset }
  }

  /// The entry of an ascending map nearest to `s`; exact ties go to the even index.
  func nearest(_ s: Float, _ map: [Float]) -> Int {
    var (low, high) = (0, 256)
    while low < high {
      let middle = (low + high) / 2
      if map[middle] > s { high = middle } else { low = middle + 1 }
    }
    let index = max(0, low - 1)
    guard index < 255 else { return 255 }
    let (below, above) = (Double(s) - Double(map[index]), Double(map[index + 1]) - Double(s))
    if below == above { return index % 2 == 0 ? index : index + 1 }
    return below < above ? index : index + 1
  }
}
