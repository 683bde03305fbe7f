import Numerics

// Compiled into one module with Sources/Kernels, for AVX2, for NEON and for NEON with bfloat16; see check.sh.

/// Runs kernels of each family on the same numbers, writes their results to `out` and returns how many there are.
/// `room` is zeroed floats for operands and scratch, at least 2^20.
@_cdecl("probe")
public func probe(_ room: UnsafeMutablePointer<Float>, _ out: UnsafeMutablePointer<Float>) -> Int {
  var probe = Probe(free: room, results: out)
  probe.product()
  probe.pairProduct()
  probe.rows()
  probe.quantized()
  // Q4_0, Q4_1, Q8_0 and IQ4_NL; Q3_K, Q4_K, Q5_K and Q6_K.
  probe.blocks(2, elements: 32, bytes: 18, half: 0, half: 0)
  probe.blocks(3, elements: 32, bytes: 20, half: 0, half: 2)
  probe.blocks(8, elements: 32, bytes: 34, half: 0, half: 0)
  probe.blocks(20, elements: 32, bytes: 18, half: 0, half: 0)
  probe.blocks(11, elements: 256, bytes: 110, half: 108, half: 108)
  probe.blocks(12, elements: 256, bytes: 144, half: 0, half: 2)
  probe.blocks(13, elements: 256, bytes: 176, half: 0, half: 2)
  probe.blocks(14, elements: 256, bytes: 210, half: 208, half: 208)
  probe.update()
  probe.attention()
  probe.recurrent()
  return probe.count
}

struct Probe {
  var free: UnsafeMutablePointer<Float>
  let results: UnsafeMutablePointer<Float>
  var count = 0
  var state: UInt32 = 1

  init(free: UnsafeMutablePointer<Float>, results: UnsafeMutablePointer<Float>) {
    self.free = free
    self.results = results
  }

  mutating func take(_ count: Int) -> UnsafeMutablePointer<Float> {
    defer { free += (count + 15) / 16 * 16 }
    return free
  }

  /// Numbers in [-1, 1) from a linear congruential generator.
  mutating func numbers(_ count: Int) -> UnsafeMutablePointer<Float> {
    let p = take(count)
    for i in 0..<count {
      state = state &* 1_664_525 &+ 1_013_904_223
      p[i] = Float(Int32(bitPattern: state)) * 0x1p-31
    }
    return p
  }

  /// The same rounded down to bfloat16, two in a float.
  mutating func halves(_ count: Int) -> UnsafeMutableRawPointer {
    let p = UnsafeMutableRawPointer(take(count))
    let x = numbers(count)
    for i in 0..<count { p.storeBytes(of: UInt16(x[i].bitPattern >> 16), toByteOffset: 2 * i, as: UInt16.self) }
    return p
  }

  mutating func put(_ p: UnsafePointer<Float>, _ n: Int) {
    for i in 0..<n { results[count + i] = p[i] }
    count += n
  }

  mutating func put(halves p: UnsafeRawPointer, _ n: Int) {
    for i in 0..<n {
      results[count + i] = Float(bitPattern: UInt32(p.load(fromByteOffset: 2 * i, as: UInt16.self)) << 16)
    }
    count += n
  }

  /// A row panel by the column panels of 40 lanes, of which the last is not full.
  mutating func product() {
    let words = 200
    let a = numbers(8 * MatmulKernels.panelStride)
    let b = numbers(3 * 16 * words)
    let c = take(3 * 16 * Kernels.matmulRows)
    Kernels.multiply(a, Kernels.matmulRows, b, 40, 16 * words, words, c, true, MatmulMode.float.rawValue)
    put(c, 2 * 16 * Kernels.matmulRows)
  }

  mutating func rows() {
    let (tokens, width) = (3, 77)
    let n = tokens * width
    let (x, weight, rstd) = (halves(n), numbers(width), take(tokens))
    let y = UnsafeMutableRawPointer(take(n))
    Kernels.rmsNorm(x, 1, weight, 0, 0, tokens, width, 1e-5, y, rstd)
    put(halves: y, n)
    let (gate, up, z) = (numbers(n), numbers(n), take(n))
    Kernels.gated(0, gate, up, 0, z, n)
    put(z, n)
    for kind: Int32 in 0..<3 {
      Kernels.activated(kind, gate, 0, z, n)
      put(z, n)
    }
    let (bias, mean) = (numbers(width), take(tokens))
    Kernels.layerNorm(gate, 0, weight, bias, tokens, width, 1e-5, z, mean, rstd)
    put(z, n)
    Kernels.layerNormBackward(up, gate, 0, weight, mean, rstd, tokens, width, z, nil)
    put(z, n)
    Kernels.softmax(gate, z, tokens, width, false)
    put(z, n)
    Kernels.dropout(gate, 0, 0, n, 3, 4, 20_000, 1.5, z, false)
    put(z, n)
  }

  /// Sixteen evenly spaced values: quantize, dequantize, one row by seven rows of a matrix.
  mutating func quantized() {
    let (n, block) = (7 * 128, 64)
    let (x, book, thresholds, scales) = (numbers(n), take(16), take(15), take(n / block))
    for i in 0..<16 { book[i] = Float(2 * i - 15) / 15 }
    for i in 0..<15 { thresholds[i] = (book[i] + book[i + 1]) / 2 }
    let order = UnsafeMutableRawPointer(take(16)).bindMemory(to: UInt32.self, capacity: 16)
    for i in 0..<16 { order[i] = UInt32(i) }
    let codes = UnsafeMutableRawPointer(take(n / 8)).bindMemory(to: UInt8.self, capacity: n / 2)
    results[count] = Float(Kernels.quantize4(x, 0, n, block, thresholds, order, codes, scales))
    count += 1
    let y = take(n)
    Kernels.dequantize4(codes, scales, book, n, block, y, 0)
    put(y, n)
    var weight = QuantizedWeightPointers(
      codes: codes, out: 7, in: 128, blockSize: block, codebook: book, absmax: scales)
    let (row, tile) = (numbers(4 * 128), take(4 * 16))
    Kernels.splitEvenOdd(row, 128, 0, weight.hasWideSteps)
    Kernels.quantizedDots(&weight, 0, 7, row, 1, 128, tile, 0)
    put(tile, 7)
  }

  mutating func update() {
    let n = 37
    let (p, g, m, v) = (numbers(n), numbers(n), take(n), take(n))
    var step = OptimizerStep(
      learningRate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1, gradientScale: 0.5,
      correction1: 0.1, correction2: 0.0316)
    Kernels.adamW(&step, p, g, n, m, v)
    put(p, n)
    put(m, n)
    put(v, n)
  }

  /// One head, causal with a window, over 70 tokens: more than a block of queries.
  mutating func attention() {
    let (tokens, width) = (70, 32)
    let n = tokens * width
    let (q, k, v, out, lse) = (numbers(n), numbers(n), numbers(n), take(n), take(tokens))
    var task = AttentionTask(
      q: q, k: k, v: v, out: out, lse: lse, type: 0, queryStride: width, keyStride: width, headDim: width,
      queryCount: tokens, keyCount: tokens, queryOffset: 0, window: 50, scale: 0.2,
      scratch: take(AttentionKernels.scratchCount(headDim: width, queryCount: tokens)))
    Kernels.attentionForward(&task)
    put(out, n)
    put(lse, tokens)
    let (dOut, dq, dk, dv) = (numbers(n), take(n), take(n), take(n))
    (task.dOut, task.dq, task.dk, task.dv) = (UnsafeRawPointer(dOut), UnsafeMutableRawPointer(dq), dk, dv)
    Kernels.attentionBackward(&task)
    put(dq, n)
    put(dk, n)
    put(dv, n)
  }
}
