import CPlatform
import Numerics

// The register tiles. Their size follows the number of registers: 28 of 32 for AVX-512, 12 of 16 for AVX2, 24 of 32 for
// NEON. The sums are named members because an array of vectors, indexed in a loop, would live in memory.

private let lanePitch = 256  // MatmulKernels.panelStride; a literal here gives the loads constant displacements

@inline(__always)
private func load(_ p: UnsafePointer<Float>) -> Vec16 { UnsafeRawPointer(p).loadUnaligned(as: Vec16.self) }

@inline(__always)
private func add(_ sum: Vec16, to p: UnsafeMutablePointer<Float>, _ overwrite: Bool) {
  let total = overwrite ? sum : load(p) + sum
  UnsafeMutableRawPointer(p).storeBytes(of: total, as: Vec16.self)
}

@inline(__always)
private func multiplyAdd(_ sum: Vec16, _ a: Vec16, _ b: Vec16) -> Vec16 {
  #if ISA_BASELINE
    sum + a * b
  #else
    sum.addingProduct(a, b)
  #endif
}

#if ISA_AVX512BF16 || ISA_NEON_BF16
  @inline(__always)
  private func dotPairs(_ sum: Vec16, _ a: Vec16, _ b: Vec16) -> Vec16 {
    mm_dot_pairs(sum, unsafeBitCast(a, to: Words16.self), unsafeBitCast(b, to: Words16.self))
  }
#endif

#if ISA_AVX512 || ISA_AVX512BF16
  extension Kernels {
    static let matmulRows = 14
    static let matmulColumns = 32
  }

  private struct Row {
    var x = Vec16(repeating: 0)
    var y = Vec16(repeating: 0)

    @inline(__always)
    mutating func step(_ a: UnsafePointer<Float>, _ b0: Vec16, _ b1: Vec16, _ pairs: Bool) {
      let v = Vec16(repeating: a.pointee)
      #if ISA_AVX512BF16
        if pairs {
          x = dotPairs(x, v, b0)
          y = dotPairs(y, v, b1)
          return
        }
      #endif
      x = multiplyAdd(x, v, b0)
      y = multiplyAdd(y, v, b1)
    }

    @inline(__always)
    mutating func halfStep(_ a: UnsafePointer<Float>, _ b: Vec16, _ pairs: Bool) {
      let v = Vec16(repeating: a.pointee)
      #if ISA_AVX512BF16
        if pairs {
          x = dotPairs(x, v, b)
          return
        }
      #endif
      x = multiplyAdd(x, v, b)
    }

    @inline(__always)
    func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool, half: Bool) {
      add(x, to: c, overwrite)
      if !half { add(y, to: c + 16, overwrite) }
    }
  }

#else
  extension Kernels {
    #if ISA_AVX2 || ISA_NEON
      static let matmulRows = 6
    #else
      static let matmulRows = 2
    #endif
    static let matmulColumns = 16
  }

  private struct Row {
    var x = Vec16(repeating: 0)

    @inline(__always)
    mutating func step(_ a: UnsafePointer<Float>, _ b0: Vec16, _ pairs: Bool) {
      let v = Vec16(repeating: a.pointee)
      #if ISA_NEON_BF16
        if pairs {
          x = dotPairs(x, v, b0)
          return
        }
      #endif
      x = multiplyAdd(x, v, b0)
    }

    @inline(__always)
    func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool) { add(x, to: c, overwrite) }
  }
#endif

#if ISA_AVX512 || ISA_AVX512BF16
  /// The row panel after this one, a cache line per word: 16 lines of each lane. What lies there otherwise is harmless.
  @inline(__always)
  private func prefetchNextPanel(_ a: UnsafePointer<Float>, _ word: Int) {
    mm_prefetch(a + (16 &* lanePitch &+ (word & 15) &* 16 &+ (word &>> 4) &* lanePitch))
  }

  private struct Tile14 {
    var r0 = Row(), r1 = Row(), r2 = Row(), r3 = Row(), r4 = Row(), r5 = Row(), r6 = Row(),
      r7 = Row(), r8 = Row(), r9 = Row(), r10 = Row(), r11 = Row(), r12 = Row(), r13 = Row()

    @inline(__always)
    mutating func step(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ pairs: Bool) {
      let b0 = load(b)
      let b1 = load(b + 16)
      r0.step(a + 0 &* lanePitch, b0, b1, pairs)
      r1.step(a + 1 &* lanePitch, b0, b1, pairs)
      r2.step(a + 2 &* lanePitch, b0, b1, pairs)
      r3.step(a + 3 &* lanePitch, b0, b1, pairs)
      r4.step(a + 4 &* lanePitch, b0, b1, pairs)
      r5.step(a + 5 &* lanePitch, b0, b1, pairs)
      r6.step(a + 6 &* lanePitch, b0, b1, pairs)
      r7.step(a + 7 &* lanePitch, b0, b1, pairs)
      r8.step(a + 8 &* lanePitch, b0, b1, pairs)
      r9.step(a + 9 &* lanePitch, b0, b1, pairs)
      r10.step(a + 10 &* lanePitch, b0, b1, pairs)
      r11.step(a + 11 &* lanePitch, b0, b1, pairs)
      r12.step(a + 12 &* lanePitch, b0, b1, pairs)
      r13.step(a + 13 &* lanePitch, b0, b1, pairs)
    }

    @inline(__always)
    mutating func halfStep(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ pairs: Bool) {
      let b0 = load(b)
      r0.halfStep(a + 0 &* lanePitch, b0, pairs)
      r1.halfStep(a + 1 &* lanePitch, b0, pairs)
      r2.halfStep(a + 2 &* lanePitch, b0, pairs)
      r3.halfStep(a + 3 &* lanePitch, b0, pairs)
      r4.halfStep(a + 4 &* lanePitch, b0, pairs)
      r5.halfStep(a + 5 &* lanePitch, b0, pairs)
      r6.halfStep(a + 6 &* lanePitch, b0, pairs)
      r7.halfStep(a + 7 &* lanePitch, b0, pairs)
      r8.halfStep(a + 8 &* lanePitch, b0, pairs)
      r9.halfStep(a + 9 &* lanePitch, b0, pairs)
      r10.halfStep(a + 10 &* lanePitch, b0, pairs)
      r11.halfStep(a + 11 &* lanePitch, b0, pairs)
      r12.halfStep(a + 12 &* lanePitch, b0, pairs)
      r13.halfStep(a + 13 &* lanePitch, b0, pairs)
    }

    @inline(__always)
    func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool, half: Bool) {
      r0.put(c + 0 &* Kernels.matmulColumns, overwrite, half: half)
      r1.put(c + 1 &* Kernels.matmulColumns, overwrite, half: half)
      r2.put(c + 2 &* Kernels.matmulColumns, overwrite, half: half)
      r3.put(c + 3 &* Kernels.matmulColumns, overwrite, half: half)
      r4.put(c + 4 &* Kernels.matmulColumns, overwrite, half: half)
      r5.put(c + 5 &* Kernels.matmulColumns, overwrite, half: half)
      r6.put(c + 6 &* Kernels.matmulColumns, overwrite, half: half)
      r7.put(c + 7 &* Kernels.matmulColumns, overwrite, half: half)
      r8.put(c + 8 &* Kernels.matmulColumns, overwrite, half: half)
      r9.put(c + 9 &* Kernels.matmulColumns, overwrite, half: half)
      r10.put(c + 10 &* Kernels.matmulColumns, overwrite, half: half)
      r11.put(c + 11 &* Kernels.matmulColumns, overwrite, half: half)
      r12.put(c + 12 &* Kernels.matmulColumns, overwrite, half: half)
      r13.put(c + 13 &* Kernels.matmulColumns, overwrite, half: half)
    }
  }

  @inline(__always)
  private func tile14(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ words: Int, _ c: UnsafeMutablePointer<Float>,
    _ overwrite: Bool, _ pairs: Bool, half: Bool
  ) {
    var tile = Tile14()
    var next = b
    var word = 0
    while word < words {
      prefetchNextPanel(a, word)
      if half { tile.halfStep(a + word, next, pairs) } else { tile.step(a + word, next, pairs) }
      next += Kernels.matmulColumns
      word &+= 1
    }
    tile.put(c, overwrite, half: half)
  }

  private struct Tile8 {
    var r0 = Row(), r1 = Row(), r2 = Row(), r3 = Row(), r4 = Row(), r5 = Row(), r6 = Row(),
      r7 = Row()

    @inline(__always)
    mutating func step(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ pairs: Bool) {
      let b0 = load(b)
      let b1 = load(b + 16)
      r0.step(a + 0 &* lanePitch, b0, b1, pairs)
      r1.step(a + 1 &* lanePitch, b0, b1, pairs)
      r2.step(a + 2 &* lanePitch, b0, b1, pairs)
      r3.step(a + 3 &* lanePitch, b0, b1, pairs)
      r4.step(a + 4 &* lanePitch, b0, b1, pairs)
      r5.step(a + 5 &* lanePitch, b0, b1, pairs)
      r6.step(a + 6 &* lanePitch, b0, b1, pairs)
      r7.step(a + 7 &* lanePitch, b0, b1, pairs)
    }

    @inline(__always)
    mutating func halfStep(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ pairs: Bool) {
      let b0 = load(b)
      r0.halfStep(a + 0 &* lanePitch, b0, pairs)
      r1.halfStep(a + 1 &* lanePitch, b0, pairs)
      r2.halfStep(a + 2 &* lanePitch, b0, pairs)
      r3.halfStep(a + 3 &* lanePitch, b0, pairs)
      r4.halfStep(a + 4 &* lanePitch, b0, pairs)
      r5.halfStep(a + 5 &* lanePitch, b0, pairs)
      r6.halfStep(a + 6 &* lanePitch, b0, pairs)
      r7.halfStep(a + 7 &* lanePitch, b0, pairs)
    }

    @inline(__always)
    func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool, half: Bool) {
      r0.put(c + 0 &* Kernels.matmulColumns, overwrite, half: half)
      r1.put(c + 1 &* Kernels.matmulColumns, overwrite, half: half)
      r2.put(c + 2 &* Kernels.matmulColumns, overwrite, half: half)
      r3.put(c + 3 &* Kernels.matmulColumns, overwrite, half: half)
      r4.put(c + 4 &* Kernels.matmulColumns, overwrite, half: half)
      r5.put(c + 5 &* Kernels.matmulColumns, overwrite, half: half)
      r6.put(c + 6 &* Kernels.matmulColumns, overwrite, half: half)
      r7.put(c + 7 &* Kernels.matmulColumns, overwrite, half: half)
    }
  }

  @inline(__always)
  private func tile8(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ words: Int, _ c: UnsafeMutablePointer<Float>,
    _ overwrite: Bool, _ pairs: Bool, half: Bool
  ) {
    var tile = Tile8()
    var next = b
    var word = 0
    while word < words {
      prefetchNextPanel(a, word)
      if half { tile.halfStep(a + word, next, pairs) } else { tile.step(a + word, next, pairs) }
      next += Kernels.matmulColumns
      word &+= 1
    }
    tile.put(c, overwrite, half: half)
  }

#elseif ISA_AVX2 || ISA_NEON
  private struct Tile6 {
    var r0 = Row(), r1 = Row(), r2 = Row(), r3 = Row(), r4 = Row(), r5 = Row()

    @inline(__always)
    mutating func step(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ pairs: Bool) {
      let b0 = load(b)
      r0.step(a + 0 &* lanePitch, b0, pairs)
      r1.step(a + 1 &* lanePitch, b0, pairs)
      r2.step(a + 2 &* lanePitch, b0, pairs)
      r3.step(a + 3 &* lanePitch, b0, pairs)
      r4.step(a + 4 &* lanePitch, b0, pairs)
      r5.step(a + 5 &* lanePitch, b0, pairs)
    }

    @inline(__always)
    func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool) {
      r0.put(c + 0 &* Kernels.matmulColumns, overwrite)
      r1.put(c + 1 &* Kernels.matmulColumns, overwrite)
      r2.put(c + 2 &* Kernels.matmulColumns, overwrite)
      r3.put(c + 3 &* Kernels.matmulColumns, overwrite)
      r4.put(c + 4 &* Kernels.matmulColumns, overwrite)
      r5.put(c + 5 &* Kernels.matmulColumns, overwrite)
    }
  }

  @inline(__always)
  private func tile6(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ words: Int, _ c: UnsafeMutablePointer<Float>,
    _ overwrite: Bool, _ pairs: Bool
  ) {
    var tile = Tile6()
    var next = b
    var word = 0
    while word < words {
      // The row panel after this one, which has room for 8 lanes: half a cache line per word.
      mm_prefetch(a + (8 &* lanePitch &+ word &* 8))
      tile.step(a + word, next, pairs)
      next += Kernels.matmulColumns
      word &+= 1
    }
    tile.put(c, overwrite)
  }

#else
  private struct Tile2 {
    var r0 = Row(), r1 = Row()

    @inline(__always)
    mutating func step(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ pairs: Bool) {
      let b0 = load(b)
      r0.step(a + 0 &* lanePitch, b0, pairs)
      r1.step(a + 1 &* lanePitch, b0, pairs)
    }

    @inline(__always)
    func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool) {
      r0.put(c + 0 &* Kernels.matmulColumns, overwrite)
      r1.put(c + 1 &* Kernels.matmulColumns, overwrite)
    }
  }

  @inline(__always)
  private func tile2(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ words: Int, _ c: UnsafeMutablePointer<Float>,
    _ overwrite: Bool
  ) {
    var tile = Tile2()
    var next = b
    var word = 0
    while word < words {
      tile.step(a + word, next, false)
      next += Kernels.matmulColumns
      word &+= 1
    }
    tile.put(c, overwrite)
  }

#endif

#if ISA_AVX512 || ISA_AVX512BF16
  /// Chooses the tile. A panel of at most 16 columns takes half the width.
  @inline(__always)
  private func tile(
    _ a: UnsafePointer<Float>, _ lanes: Int, _ b: UnsafePointer<Float>, _ columns: Int, _ words: Int,
    _ c: UnsafeMutablePointer<Float>, _ overwrite: Bool, _ pairs: Bool
  ) {
    if lanes <= 8 {
      if columns <= 16 {
        tile8(a, b, words, c, overwrite, pairs, half: true)
      } else {
        tile8(a, b, words, c, overwrite, pairs, half: false)
      }
    } else if columns <= 16 {
      tile14(a, b, words, c, overwrite, pairs, half: true)
    } else {
      tile14(a, b, words, c, overwrite, pairs, half: false)
    }
  }
#endif

extension Kernels {
  /// Multiplies one row panel by the panels of `columns` lanes; see `MatmulKernels.Multiply`. The sum of each output
  /// runs through the words in order, whatever the size of the tile.
  @inline(never)
  static func multiply(
    _ a: UnsafePointer<Float>, _ lanes: Int, _ b: UnsafePointer<Float>, _ columns: Int, _ panelPitch: Int,
    _ words: Int, _ c: UnsafeMutablePointer<Float>, _ overwrite: Bool, _ mode: Int32
  ) {
    var from = b
    var to = c
    var left = columns
    while left > 0 {
      #if ISA_AVX512BF16
        if mode == 1 {
          tile(a, lanes, from, left, words, to, overwrite, true)
        } else {
          tile(a, lanes, from, left, words, to, overwrite, false)
        }
      #elseif ISA_AVX512
        tile(a, lanes, from, left, words, to, overwrite, false)
      #elseif ISA_NEON_BF16
        if mode == 1 {
          tile6(a, from, words, to, overwrite, true)
        } else {
          tile6(a, from, words, to, overwrite, false)
        }
      #elseif ISA_AVX2 || ISA_NEON
        tile6(a, from, words, to, overwrite, false)
      #else
        tile2(a, from, words, to, overwrite)
      #endif
      from += panelPitch
      to += matmulRows &* matmulColumns
      left &-= matmulColumns
    }
  }
}
