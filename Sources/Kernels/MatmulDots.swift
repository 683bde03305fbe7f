import CPlatform
import Numerics

// Products with few rows, as in generation: every weight is read once and multiplied in registers by one or by four
// rows of x, without packing it. The rows of x are packed words, `pitch` apart.

@inline(__always)
private func load(_ p: UnsafePointer<Float>) -> Vec16 { UnsafeRawPointer(p).loadUnaligned(as: Vec16.self) }

@inline(__always)
private func multiplyAdd(_ sum: Vec16, _ a: Vec16, _ b: Vec16) -> Vec16 {
  #if ISA_BASELINE
    sum + a * b
  #else
    sum.addingProduct(a, b)
  #endif
}

/// 32 weights that follow each other, ready to be multiplied.
private struct Weights {
  var first: Vec16
  var second: Vec16

  /// For pairs, `first` holds all of them.
  @inline(__always)
  init(_ low: Vec16, _ high: Vec16, _ mode: Int32) {
    switch mode {
    case 0: (first, second) = (low, high)
    case 1: (first, second) = (unsafeBitCast(mm_row_words(low, high), to: Vec16.self), high)
    default: (first, second) = (mm_round_bf16(low), mm_round_bf16(high))
    }
  }
}

/// The sums of one output: two, because a multiply-add waits for the one before it.
private struct Sums {
  var x = Vec16(repeating: 0)
  var y = Vec16(repeating: 0)

  /// Adds the products of 64 weights.
  @inline(__always)
  mutating func step(_ w: Weights, _ v: Weights, _ words: UnsafePointer<Float>, _ mode: Int32) {
    #if ISA_AVX512BF16
      if mode == 1 {
        x = mm_dot_pairs(x, unsafeBitCast(w.first, to: Words16.self), unsafeBitCast(load(words), to: Words16.self))
        y = mm_dot_pairs(y, unsafeBitCast(v.first, to: Words16.self), unsafeBitCast(load(words + 16), to: Words16.self))
        return
      }
    #endif
    x = multiplyAdd(x, w.first, load(words))
    y = multiplyAdd(y, w.second, load(words + 16))
    x = multiplyAdd(x, v.first, load(words + 32))
    y = multiplyAdd(y, v.second, load(words + 48))
  }

  /// Adds the products of the last `count` (1 to 32) weights; the others must be zero.
  @inline(__always)
  mutating func last(_ w: Weights, _ count: Int, _ words: UnsafePointer<Float>, _ mode: Int32) {
    #if ISA_AVX512BF16
      if mode == 1 {
        x = mm_dot_pairs(x, unsafeBitCast(w.first, to: Words16.self), unsafeBitCast(load(words), to: Words16.self))
        return
      }
    #endif
    x = multiplyAdd(x, w.first, load(words))
    if count > 16 { y = multiplyAdd(y, w.second, load(words + 16)) }
  }

  @inline(__always)
  var total: Float { mm_sum(x + y) }
}

/// The sums of four rows of x.
private struct FourSums {
  var r0 = Sums()
  var r1 = Sums()
  var r2 = Sums()
  var r3 = Sums()

  @inline(__always)
  mutating func step(_ w: Weights, _ v: Weights, _ words: UnsafePointer<Float>, _ pitch: Int, _ mode: Int32) {
    r0.step(w, v, words, mode)
    r1.step(w, v, words + pitch, mode)
    r2.step(w, v, words + 2 &* pitch, mode)
    r3.step(w, v, words + 3 &* pitch, mode)
  }

  @inline(__always)
  mutating func last(_ w: Weights, _ n: Int, _ words: UnsafePointer<Float>, _ pitch: Int, _ mode: Int32) {
    r0.last(w, n, words, mode)
    r1.last(w, n, words + pitch, mode)
    r2.last(w, n, words + 2 &* pitch, mode)
    r3.last(w, n, words + 3 &* pitch, mode)
  }

  @inline(__always)
  func put(_ to: UnsafeMutablePointer<Float>, _ pitch: Int) {
    to[0] = r0.total
    to[pitch] = r1.total
    to[2 &* pitch] = r2.total
    to[3 &* pitch] = r3.total
  }
}

@inline(__always)
private func weights(_ p: UnsafeRawPointer, _ type: Int32, _ mode: Int32) -> Weights {
  Weights(mm_load(p, type), mm_load(p + (type == 0 ? 64 : 32), type), mode)
}

@inline(__always)
private func weights(_ p: UnsafeRawPointer, _ type: Int32, count: Int, _ mode: Int32) -> Weights {
  let second = p + (type == 0 ? 64 : 32)
  return Weights(
    mm_load_part(p, type, min(16, count)), count > 16 ? mm_load_part(second, type, count &- 16) : Vec16(repeating: 0),
    mode)
}

/// Products of `outs` dense rows with one row (`four` false) or four rows of x.
@inline(__always)
private func denseRows(
  _ weight: UnsafeRawPointer, _ type: Int32, _ stride: Int, _ outs: Int, _ k: Int, _ x: UnsafePointer<Float>,
  _ pitch: Int, _ tile: UnsafeMutablePointer<Float>, _ mode: Int32, four: Bool
) {
  let size = type == 0 ? 4 : 2
  let shift = mode == 1 ? 1 : 0
  for out in 0..<outs {
    let row = weight + out &* stride &* size
    var one = Sums()
    var rows = FourSums()
    var i = 0
    while i &+ 64 <= k {
      let w = weights(row + i &* size, type, mode)
      let v = weights(row + (i &+ 32) &* size, type, mode)
      let words = x + (i &>> shift)
      if four { rows.step(w, v, words, pitch, mode) } else { one.step(w, v, words, mode) }
      i &+= 64
    }
    while i < k {
      let count = min(32, k &- i)
      let w = weights(row + i &* size, type, count: count, mode)
      let words = x + (i &>> shift)
      if four { rows.last(w, count, words, pitch, mode) } else { one.last(w, count, words, mode) }
      i &+= 32
    }
    if four { rows.put(tile + out, Kernels.matmulColumns) } else { tile[out] = one.total }
  }
}

extension Kernels {
  /// See `MatmulKernels.Dots`. The mode is made a constant of each loop.
  @inline(never)
  static func denseDots(
    _ weight: UnsafeRawPointer, _ type: Int32, _ stride: Int, _ outs: Int, _ k: Int, _ x: UnsafePointer<Float>,
    _ rows: Int, _ pitch: Int, _ tile: UnsafeMutablePointer<Float>, _ mode: Int32
  ) {
    if rows == 1 {
      switch mode {
      case 0: denseRows(weight, type, stride, outs, k, x, pitch, tile, 0, four: false)
      case 1: denseRows(weight, type, stride, outs, k, x, pitch, tile, 1, four: false)
      default: denseRows(weight, type, stride, outs, k, x, pitch, tile, 2, four: false)
      }
      return
    }
    var row = 0
    while row < rows {
      let from = x + row &* pitch
      let to = tile + row &* matmulColumns
      switch mode {
      case 0: denseRows(weight, type, stride, outs, k, from, pitch, to, 0, four: true)
      case 1: denseRows(weight, type, stride, outs, k, from, pitch, to, 1, four: true)
      default: denseRows(weight, type, stride, outs, k, from, pitch, to, 2, four: true)
      }
      row &+= 4
    }
  }
}
