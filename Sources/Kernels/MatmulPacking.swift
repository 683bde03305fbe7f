import CPlatform
import Numerics

@inline(__always)
private func load(_ p: UnsafePointer<Float>) -> Vec16 { UnsafeRawPointer(p).loadUnaligned(as: Vec16.self) }

@inline(__always)
private func put(_ p: UnsafeMutablePointer<Float>, _ v: Vec16) {
  UnsafeMutableRawPointer(p).storeBytes(of: v, as: Vec16.self)
}

/// Up to 16 elements from `index` on; zeros beyond `count`.
@inline(__always)
private func elements(_ p: UnsafeRawPointer, _ type: Int32, _ index: Int, _ count: Int) -> Vec16 {
  let size = type == 0 ? 4 : 2
  if count >= 16 { return mm_load(p + index &* size, type) }
  return count <= 0 ? Vec16(repeating: 0) : mm_load_part(p + index &* size, type, count)
}

/// 16 words along the contraction from element `index` on, of which `count` elements exist.
@inline(__always)
private func wordsAlong(_ p: UnsafeRawPointer, _ type: Int32, _ index: Int, _ count: Int, _ mode: Int32) -> Vec16 {
  // Pairs of bfloat16 lie in memory as they are wanted.
  if mode == 1, type == 1, count >= 32 { return mm_load(p + 2 &* index, 0) }
  let first = elements(p, type, index, count)
  switch mode {
  case 0: return first
  case 1: return unsafeBitCast(mm_row_words(first, elements(p, type, index &+ 16, count &- 16)), to: Vec16.self)
  default: return mm_round_bf16(first)
  }
}

/// One word of 16 lanes that are contiguous in memory, from contraction step `step` on.
@inline(__always)
private func wordsAcross(
  _ p: UnsafeRawPointer, _ type: Int32, _ stride: Int, _ step: Int, _ steps: Int, _ lane: Int, _ lanes: Int,
  _ mode: Int32
) -> Vec16 {
  if mode == 1, type == 1, lanes >= 16, step &+ 1 < steps {
    let row = p + 2 &* (step &* stride &+ lane)
    return unsafeBitCast(mm_zip_words(row, row + 2 &* stride), to: Vec16.self)
  }
  let first = elements(p, type, step &* stride &+ lane, lanes)
  switch mode {
  case 0: return first
  case 1:
    let second = elements(p, type, (step &+ 1) &* stride &+ lane, step &+ 1 < steps ? lanes : 0)
    return unsafeBitCast(mm_pair_words(first, second), to: Vec16.self)
  default: return mm_round_bf16(first)
  }
}

extension Kernels {
  /// Packs `lanes` x `k` elements into words; see `MatmulKernels.Pack`. Missing words become zero up to a
  /// multiple of 16 where the destination is contiguous along the words, of 8 where it is transposed into.
  /// Missing lanes hold anything finite or not: their sums are never read. One case for each pair of layouts of
  /// source and target makes the function longer than a screen.
  @inline(never)
  static func pack(
    _ source: UnsafeRawPointer, _ type: Int32, _ stride: Int, _ contiguous: Bool, _ lanes: Int, _ k: Int,
    _ target: UnsafeMutablePointer<Float>, _ laneStride: Int, _ wordStride: Int, _ mode: Int32,
    _ scratch: UnsafeMutablePointer<Float>
  ) {
    let perWord = mode == 1 ? 2 : 1
    let words = (k &+ perWord &- 1) / perWord
    let size = type == 0 ? 4 : 2
    if contiguous && wordStride == 1 {
      for lane in 0..<lanes {
        let row = source + lane &* stride &* size
        let to = target + lane &* laneStride
        var word = 0
        while word < words {
          let step = word &* perWord
          put(to + word, wordsAlong(row, type, step, k &- step, mode))
          // What follows is the next block of the same row, which is wanted after the tiles of this one.
          mm_prefetch(row + (step &+ k) &* size)
          if mode == 1 && type == 0 { mm_prefetch(row + (step &+ k &+ 16) &* size) }
          word &+= 16
        }
      }
      return
    }
    var lane = 0
    while lane < lanes {
      let present = min(16, lanes &- lane)
      var word = 0
      while word < words {
        let step = word &* perWord
        let to = target + (lane &* laneStride &+ word &* wordStride)
        if contiguous {
          let isPlain = type == 0 && mode == 0 && present == 16 && k &- step >= 16
          for l in 0..<present {
            let row = source + (lane &+ l) &* stride &* size
            if !isPlain { put(scratch + l &* 16, wordsAlong(row, type, step, k &- step, mode)) }
            // The panel after this one: its rows follow.
            let ahead = row + (lanes &* stride &+ step) &* size
            mm_prefetch(ahead)
            if mode == 1 && type == 0 { mm_prefetch(ahead + 64) }
          }
          if isPlain {
            let from = (source + (lane &* stride &+ step) &* size).assumingMemoryBound(to: Float.self)
            mm_transpose16(from, stride, to, wordStride)
          } else {
            for l in present..<16 { put(scratch + l &* 16, Vec16(repeating: 0)) }
            if words &- word <= 8 {
              mm_transpose8(scratch, 16, to, wordStride)
              mm_transpose8(scratch + 128, 16, to + 8, wordStride)
            } else {
              mm_transpose16(scratch, 16, to, wordStride)
            }
          }
        } else {
          let count = min(16, words &- word)
          if laneStride == 1 {
            for w in 0..<count {
              let first = step &+ w &* perWord
              put(to + w &* wordStride, wordsAcross(source, type, stride, first, k, lane, present, mode))
              // As many steps further on, which are packed next.
              let ahead = source + ((first &+ k) &* stride &+ lane) &* size
              mm_prefetch(ahead)
              if mode == 1 { mm_prefetch(ahead + stride &* size) }
            }
          } else {
            for w in 0..<count {
              put(
                scratch + w &* 16, wordsAcross(source, type, stride, step &+ w &* perWord, k, lane, present, mode))
            }
            for w in count..<16 { put(scratch + w &* 16, Vec16(repeating: 0)) }
            if present <= 8 {
              mm_transpose8(scratch, 16, to, laneStride)
              mm_transpose8(scratch + 128, 16, to + 8, laneStride)
            } else {
              mm_transpose16(scratch, 16, to, laneStride)
            }
          }
        }
        word &+= 16
      }
      lane &+= 16
    }
  }

  /// Writes a tile of `lanes` x `columns` sums as alpha * sum + beta * old; see `MatmulKernels.Store`. At most 16 lanes
  /// are transposed.
  @inline(never)
  static func storeTile(
    _ tile: UnsafePointer<Float>, _ lanes: Int, _ columns: Int, _ transposed: Bool, _ alpha: Float, _ beta: Float,
    _ target: UnsafeMutableRawPointer, _ type: Int32, _ stride: Int, _ scratch: UnsafeMutablePointer<Float>
  ) {
    let size = type == 0 ? 4 : 2
    if !transposed {
      for lane in 0..<lanes {
        var column = 0
        while column < columns {
          write(
            load(tile + (lane &* matmulColumns &+ column)), alpha, beta, target + (lane &* stride &+ column) &* size,
            type,
            min(16, columns &- column))
          column &+= 16
        }
      }
      return
    }
    var column = 0
    while column < columns {
      for lane in 0..<lanes { put(scratch + lane &* 16, load(tile + (lane &* matmulColumns &+ column))) }
      if lanes <= 8 {
        mm_transpose8(scratch, 16, scratch + 256, 16)
        mm_transpose8(scratch + 8, 16, scratch + 384, 16)
      } else {
        mm_transpose16(scratch, 16, scratch + 256, 16)
      }
      for c in 0..<min(16, columns &- column) {
        write(
          load(scratch + (256 &+ c &* 16)), alpha, beta, target + (column &+ c) &* stride &* size, type, lanes)
      }
      column &+= 16
    }
  }

  @inline(__always)
  private static func write(
    _ sum: Vec16, _ alpha: Float, _ beta: Float, _ target: UnsafeMutableRawPointer, _ type: Int32, _ count: Int
  ) {
    var value = sum * alpha
    // The old values may be uninitialised when beta is 0.
    if beta != 0 { value = value + elements(target, type, 0, count) * beta }
    if count == 16 { mm_store(target, type, value) } else { mm_store_part(target, type, value, count) }
  }
}
