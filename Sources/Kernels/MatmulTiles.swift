import CPlatform
import Numerics

// The register tiles. Their size follows the number of registers: 28 of 32 for AVX-512, 12 of 16 for AVX2. The sums
// are named members because an array of vectors, indexed in a loop, would live in memory.

private let lanePitch = 256  // MatmulKernels.panelStride; a literal here gives the loads constant displacements

@inline(__always)
private func load(_ p: UnsafePointer<Float>) -> F16 { UnsafeRawPointer(p).loadUnaligned(as: F16.self) }

@inline(__always)
private func add(_ sum: F16, to p: UnsafeMutablePointer<Float>, _ overwrite: Bool) {
  let total = overwrite ? sum : load(p) + sum
  UnsafeMutableRawPointer(p).storeBytes(of: total, as: F16.self)
}

@inline(__always)
private func multiplyAdd(_ sum: F16, _ a: F16, _ b: F16) -> F16 {
  #if ISA_BASELINE
    sum + a * b
  #else
    sum.addingProduct(a, b)
  #endif
}

#if ISA_AVX512BF16
  @inline(__always)
  private func dotPairs(_ sum: F16, _ a: F16, _ b: F16) -> F16 {
    mm_dot_pairs(sum, unsafeBitCast(a, to: U16.self), unsafeBitCast(b, to: U16.self))
  }
#endif

#if ISA_AVX512 || ISA_AVX512BF16
  extension Kernels {
    static let matmulRows = 14
    static let matmulColumns = 32
  }

  private struct Row {
    var x = F16(repeating: 0)
    var y = F16(repeating: 0)

    @inline(__always)
    mutating func step(_ a: UnsafePointer<Float>, _ b0: F16, _ b1: F16, _ pairs: Bool) {
      let v = F16(repeating: a.pointee)
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
    func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool) {
      add(x, to: c, overwrite)
      add(y, to: c + 16, overwrite)
    }
  }

#else
  extension Kernels {
    #if ISA_AVX2
      static let matmulRows = 6
    #else
      static let matmulRows = 2
    #endif
    static let matmulColumns = 16
  }

  private struct Row {
    var x = F16(repeating: 0)

    @inline(__always)
    mutating func step(_ a: UnsafePointer<Float>, _ b0: F16) {
      x = multiplyAdd(x, F16(repeating: a.pointee), b0)
    }

    @inline(__always)
    func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool) { add(x, to: c, overwrite) }
  }
#endif

#if ISA_AVX512 || ISA_AVX512BF16
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
    func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool) {
      r0.put(c + 0 &* Kernels.matmulColumns, overwrite)
      r1.put(c + 1 &* Kernels.matmulColumns, overwrite)
      r2.put(c + 2 &* Kernels.matmulColumns, overwrite)
      r3.put(c + 3 &* Kernels.matmulColumns, overwrite)
      r4.put(c + 4 &* Kernels.matmulColumns, overwrite)
      r5.put(c + 5 &* Kernels.matmulColumns, overwrite)
      r6.put(c + 6 &* Kernels.matmulColumns, overwrite)
      r7.put(c + 7 &* Kernels.matmulColumns, overwrite)
      r8.put(c + 8 &* Kernels.matmulColumns, overwrite)
      r9.put(c + 9 &* Kernels.matmulColumns, overwrite)
      r10.put(c + 10 &* Kernels.matmulColumns, overwrite)
      r11.put(c + 11 &* Kernels.matmulColumns, overwrite)
      r12.put(c + 12 &* Kernels.matmulColumns, overwrite)
      r13.put(c + 13 &* Kernels.matmulColumns, overwrite)
    }
  }

  @inline(__always)
  private func tile14(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ words: Int, _ c: UnsafeMutablePointer<Float>,
    _ overwrite: Bool, _ pairs: Bool
  ) {
    var tile = Tile14()
    var next = b
    var word = 0
    while word < words {
      tile.step(a + word, next, pairs)
      next += Kernels.matmulColumns
      word &+= 1
    }
    tile.put(c, overwrite)
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
    func put(_ c: UnsafeMutablePointer<Float>, _ overwrite: Bool) {
      r0.put(c + 0 &* Kernels.matmulColumns, overwrite)
      r1.put(c + 1 &* Kernels.matmulColumns, overwrite)
      r2.put(c + 2 &* Kernels.matmulColumns, overwrite)
      r3.put(c + 3 &* Kernels.matmulColumns, overwrite)
      r4.put(c + 4 &* Kernels.matmulColumns, overwrite)
      r5.put(c + 5 &* Kernels.matmulColumns, overwrite)
      r6.put(c + 6 &* Kernels.matmulColumns, overwrite)
      r7.put(c + 7 &* Kernels.matmulColumns, overwrite)
    }
  }

  @inline(__always)
  private func tile8(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ words: Int, _ c: UnsafeMutablePointer<Float>,
    _ overwrite: Bool, _ pairs: Bool
  ) {
    var tile = Tile8()
    var next = b
    var word = 0
    while word < words {
      tile.step(a + word, next, pairs)
      next += Kernels.matmulColumns
      word &+= 1
    }
    tile.put(c, overwrite)
  }

#elseif ISA_AVX2
  private struct Tile6 {
    var r0 = Row(), r1 = Row(), r2 = Row(), r3 = Row(), r4 = Row(), r5 = Row()

    @inline(__always)
    mutating func step(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>) {
      let b0 = load(b)
      r0.step(a + 0 &* lanePitch, b0)
      r1.step(a + 1 &* lanePitch, b0)
      r2.step(a + 2 &* lanePitch, b0)
      r3.step(a + 3 &* lanePitch, b0)
      r4.step(a + 4 &* lanePitch, b0)
      r5.step(a + 5 &* lanePitch, b0)
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
    _ overwrite: Bool
  ) {
    var tile = Tile6()
    var next = b
    var word = 0
    while word < words {
      tile.step(a + word, next)
      next += Kernels.matmulColumns
      word &+= 1
    }
    tile.put(c, overwrite)
  }

#else
  private struct Tile2 {
    var r0 = Row(), r1 = Row()

    @inline(__always)
    mutating func step(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>) {
      let b0 = load(b)
      r0.step(a + 0 &* lanePitch, b0)
      r1.step(a + 1 &* lanePitch, b0)
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
      tile.step(a + word, next)
      next += Kernels.matmulColumns
      word &+= 1
    }
    tile.put(c, overwrite)
  }

#endif

extension Kernels {
  /// Multiplies one row panel by `panels` column panels; see `MatmulKernels.Multiply`. The sum of each output runs
  /// through the words in order, whatever the size of the tile.
  @inline(never)
  static func multiply(
    _ a: UnsafePointer<Float>, _ lanes: Int, _ b: UnsafePointer<Float>, _ panels: Int, _ panelPitch: Int,
    _ words: Int, _ c: UnsafeMutablePointer<Float>, _ overwrite: Bool, _ mode: Int32
  ) {
    var from = b
    var to = c
    for _ in 0..<panels {
      #if ISA_AVX512BF16
        if mode == 1 {
          if lanes <= 8 { tile8(a, from, words, to, overwrite, true) } else { tile14(a, from, words, to, overwrite, true) }
        } else {
          if lanes <= 8 { tile8(a, from, words, to, overwrite, false) } else { tile14(a, from, words, to, overwrite, false) }
        }
      #elseif ISA_AVX512
        if lanes <= 8 { tile8(a, from, words, to, overwrite, false) } else { tile14(a, from, words, to, overwrite, false) }
      #elseif ISA_AVX2
        tile6(a, from, words, to, overwrite)
      #else
        tile2(a, from, words, to, overwrite)
      #endif
      from += panelPitch
      to += matmulRows &* matmulColumns
    }
  }
}
