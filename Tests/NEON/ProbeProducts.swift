import Numerics

extension Probe {
  /// Pairs of bfloat16 by the tile, where this build has it: how many sums have other bits than BFDOT gives by the
  /// manual's words, with rounding to odd.
  mutating func pairProduct() {
    let (words, lanes) = (200, Kernels.matmulRows)
    let a = halves(2 * 8 * MatmulKernels.panelStride).assumingMemoryBound(to: Float.self)
    let b = halves(2 * 16 * words).assumingMemoryBound(to: Float.self)
    let c = take(16 * lanes)
    var wrong = 0
    #if ISA_NEON_BF16
      Kernels.multiply(a, lanes, b, 16, 16 * words, words, c, true, MatmulMode.pairs.rawValue)
      for lane in 0..<lanes {
        for column in 0..<16 {
          var sum: Float = 0
          for word in 0..<words {
            let (x, y) = (a[lane * MatmulKernels.panelStride + word], b[16 * word + column])
            sum = Self.sumRoundedToOdd(sum, Self.sumRoundedToOdd(low(x) * low(y), high(x) * high(y)))
          }
          if sum.bitPattern != c[16 * lane + column].bitPattern { wrong += 1 }
        }
      }
    #endif
    c[0] = Float(wrong)
    put(c, 1)
  }

  private func low(_ word: Float) -> Float { Float(bitPattern: word.bitPattern << 16) }
  private func high(_ word: Float) -> Float { Float(bitPattern: word.bitPattern & 0xffff_0000) }

  /// The float towards zero from x + y, with its last bit set where that is not the sum itself.
  private static func sumRoundedToOdd(_ x: Float, _ y: Float) -> Float {
    let (a, b) = (Double(x), Double(y))
    let sum = a + b
    // What the double lost of the sum, exactly.
    let part = sum - a
    let lost = (a - (sum - part)) + (b - part)
    var bits = sum.bitPattern
    if lost != 0 {
      // The neighbour towards zero, if the double was rounded away from it.
      if (lost < 0) == (sum > 0) { bits -= 1 }
      bits |= 1
    }
    let exponent = Int(bits >> 52 & 0x7ff) - 1023 + 127
    guard exponent > 0 else { return 0 }
    let fraction = UInt32(truncatingIfNeeded: bits >> 29 & 0x7f_ffff) | (bits & 0x1fff_ffff != 0 ? 1 : 0)
    return Float(bitPattern: UInt32(bits >> 63) << 31 | UInt32(exponent) << 23 | fraction)
  }

  /// Rows of a matrix in a block format by one row and by four rows, and its elements. Every byte of a block is any
  /// byte, but the halves at `first` and `second`, which are about 0.01.
  mutating func blocks(_ format: Int32, elements: Int, bytes size: Int, half first: Int, half second: Int) {
    let (outs, k) = (5, elements == 32 ? 32 * 7 : 512)
    let pitch = k / elements * size
    let bytes = UnsafeMutableRawPointer(take(outs * pitch / 4 + 64)).assumingMemoryBound(to: UInt8.self)
    for i in 0..<outs * pitch {
      state = state &* 1_664_525 &+ 1_013_904_223
      bytes[i] = UInt8(state >> 24)
    }
    for block in 0..<outs * k / elements {
      let block = bytes + block * size
      (block[first], block[first + 1], block[second], block[second + 1]) = (block[4], 0x21, block[5], 0x21)
    }
    var weight = BlockWeightPointers(
      bytes: bytes, out: outs, in: k, format: format, pitch: pitch, order: nil, partner: nil, scales: nil)
    let (row, xs, tile) = (take(k), numbers(4 * k), take(16 * (Kernels.mostBlockRows + 8 * 16)))
    for out in 0..<outs {
      Kernels.decodeBlockRow(&weight, out, row)
      put(row, k)
    }
    let mode = MatmulMode.float.rawValue
    let count = Kernels.arrangedCount(format, k, mode)
    let arranged = take(4 * count)
    for rows in [4, 1] {
      Kernels.arrangeForBlocks(format, xs, rows, k, k, arranged, mode)
      Kernels.blockDots(&weight, 0, outs, arranged, rows, count, tile, mode)
      for i in 0..<rows { put(tile + 16 * i, outs) }
    }
  }

  /// A convolution, and the delta rule of a key head with two value heads over more than a chunk, with their gradients.
  mutating func recurrent() {
    let (count, keyDim, valueDim, members, taps) = (70, 24, 20, 2, 4)
    let stride = 2 * keyDim + members * valueDim
    let (x, weight, y) = (numbers(count * stride), numbers(taps * stride), take(count * stride))
    Kernels.convolution(x, 0, weight, taps, stride, 0, count, y)
    put(y, count * stride)
    let (decay, beta) = (numbers(count * members), numbers(count * members))
    for i in 0..<count * members {
      decay[i] = -decay[i].magnitude
      beta[i] = beta[i].magnitude
    }
    let out = take(count * members * valueDim)
    var task = DeltaTask(
      q: y, k: y + keyDim, v: y + 2 * keyDim, stride: stride, type: 0, keyDim: keyDim, valueDim: valueDim,
      members: members, count: count, decay: decay, beta: beta, headStride: members, queryScale: 0.2, epsilon: 1e-6,
      out: out, outStride: members * valueDim,
      scratch: take(
        RecurrentKernels.scratchCount(
          keyDim: keyDim, valueDim: valueDim, members: members, count: count, backward: true)))
    Kernels.deltaForward(&task)
    put(out, count * members * valueDim)
    let slopes = take(count * stride)
    let (dDecay, dBeta) = (take(count * members), take(count * members))
    task.out = UnsafeMutableRawPointer(numbers(count * members * valueDim))
    (task.dq, task.dk) = (UnsafeMutableRawPointer(slopes), UnsafeMutableRawPointer(slopes + keyDim))
    (task.dv, task.dDecay, task.dBeta) = (UnsafeMutableRawPointer(slopes + 2 * keyDim), dDecay, dBeta)
    Kernels.deltaBackward(&task)
    put(slopes, count * stride)
    put(dDecay, count * members)
    put(dBeta, count * members)
  }
}
