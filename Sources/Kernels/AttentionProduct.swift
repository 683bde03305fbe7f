import CPlatform

// The small product that attention is made of: C[m, n] (+)= A[m, k] B[k, n] with B's rows along the vector and A
// broadcast. With pairs a word holds two bfloat16 values that follow each other along k, and k counts words.

@inline(__always)
private func step(_ sum: Vec16, _ a: Vec16, _ b: Vec16, _ pairs: Bool) -> Vec16 {
  #if ISA_AVX512BF16
    if pairs { return mm_dot_pairs(sum, unsafeBitCast(a, to: Words16.self), unsafeBitCast(b, to: Words16.self)) }
  #endif
  return madd(a, b, sum)
}

@inline(__always)
private func put(_ p: UnsafeMutablePointer<Float>, _ v: Vec16, _ overwrite: Bool) {
  storeFloats(p, overwrite ? v : loadFloats(p) + v)
}

#if ISA_AVX512 || ISA_AVX512BF16
  /// Four rows of C at a time against 64 columns: 16 accumulators, 4 loads and 4 broadcasts for 16 multiply-adds.
  @inline(__always)
  private func rows4(
    _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int, _ k: Int,
    _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ overwrite: Bool, _ pairs: Bool
  ) {
    var c00 = splat(0), c01 = splat(0), c02 = splat(0), c03 = splat(0)
    var c10 = splat(0), c11 = splat(0), c12 = splat(0), c13 = splat(0)
    var c20 = splat(0), c21 = splat(0), c22 = splat(0), c23 = splat(0)
    var c30 = splat(0), c31 = splat(0), c32 = splat(0), c33 = splat(0)
    var row = b
    var i = 0
    while i < k {
      let b0 = loadFloats(row), b1 = loadFloats(row + 16), b2 = loadFloats(row + 32), b3 = loadFloats(row + 48)
      let a0 = splat(a[i]), a1 = splat(a[lda &+ i])
      c00 = step(c00, a0, b0, pairs)
      c01 = step(c01, a0, b1, pairs)
      c02 = step(c02, a0, b2, pairs)
      c03 = step(c03, a0, b3, pairs)
      c10 = step(c10, a1, b0, pairs)
      c11 = step(c11, a1, b1, pairs)
      c12 = step(c12, a1, b2, pairs)
      c13 = step(c13, a1, b3, pairs)
      let a2 = splat(a[2 &* lda &+ i]), a3 = splat(a[3 &* lda &+ i])
      c20 = step(c20, a2, b0, pairs)
      c21 = step(c21, a2, b1, pairs)
      c22 = step(c22, a2, b2, pairs)
      c23 = step(c23, a2, b3, pairs)
      c30 = step(c30, a3, b0, pairs)
      c31 = step(c31, a3, b1, pairs)
      c32 = step(c32, a3, b2, pairs)
      c33 = step(c33, a3, b3, pairs)
      row += ldb
      i &+= 1
    }
    put(c, c00, overwrite)
    put(c + 16, c01, overwrite)
    put(c + 32, c02, overwrite)
    put(c + 48, c03, overwrite)
    let d1 = c + ldc
    put(d1, c10, overwrite)
    put(d1 + 16, c11, overwrite)
    put(d1 + 32, c12, overwrite)
    put(d1 + 48, c13, overwrite)
    let d2 = d1 + ldc
    put(d2, c20, overwrite)
    put(d2 + 16, c21, overwrite)
    put(d2 + 32, c22, overwrite)
    put(d2 + 48, c23, overwrite)
    let d3 = d2 + ldc
    put(d3, c30, overwrite)
    put(d3 + 16, c31, overwrite)
    put(d3 + 32, c32, overwrite)
    put(d3 + 48, c33, overwrite)
  }
#else
  /// Six rows of C against 16 columns: 12 accumulators of the 16 registers of AVX2, 24 of the 32 of NEON.
  @inline(__always)
  private func rows6(
    _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int, _ k: Int,
    _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ overwrite: Bool
  ) {
    var c0 = splat(0), c1 = splat(0), c2 = splat(0), c3 = splat(0), c4 = splat(0), c5 = splat(0)
    var row = b
    var i = 0
    while i < k {
      let v = loadFloats(row)
      c0 = madd(splat(a[i]), v, c0)
      c1 = madd(splat(a[lda &+ i]), v, c1)
      c2 = madd(splat(a[2 &* lda &+ i]), v, c2)
      c3 = madd(splat(a[3 &* lda &+ i]), v, c3)
      c4 = madd(splat(a[4 &* lda &+ i]), v, c4)
      c5 = madd(splat(a[5 &* lda &+ i]), v, c5)
      row += ldb
      i &+= 1
    }
    put(c, c0, overwrite)
    put(c + ldc, c1, overwrite)
    put(c + 2 &* ldc, c2, overwrite)
    put(c + 3 &* ldc, c3, overwrite)
    put(c + 4 &* ldc, c4, overwrite)
    put(c + 5 &* ldc, c5, overwrite)
  }

  /// Four rows of C against 16 columns, of which six leave a rest: 64 rows are ten times six and four.
  @inline(__always)
  private func rows4(
    _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int, _ k: Int,
    _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ overwrite: Bool
  ) {
    var c0 = splat(0), c1 = splat(0), c2 = splat(0), c3 = splat(0)
    var row = b
    var i = 0
    while i < k {
      let v = loadFloats(row)
      c0 = madd(splat(a[i]), v, c0)
      c1 = madd(splat(a[lda &+ i]), v, c1)
      c2 = madd(splat(a[2 &* lda &+ i]), v, c2)
      c3 = madd(splat(a[3 &* lda &+ i]), v, c3)
      row += ldb
      i &+= 1
    }
    put(c, c0, overwrite)
    put(c + ldc, c1, overwrite)
    put(c + 2 &* ldc, c2, overwrite)
    put(c + 3 &* ldc, c3, overwrite)
  }

  /// Two rows of C against 16 columns: 8 accumulators of the baseline's 16 registers.
  @inline(__always)
  private func rows2(
    _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int, _ k: Int,
    _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ overwrite: Bool
  ) {
    var c0 = splat(0), c1 = splat(0)
    var row = b
    var i = 0
    while i < k {
      let v = loadFloats(row)
      c0 = madd(splat(a[i]), v, c0)
      c1 = madd(splat(a[lda &+ i]), v, c1)
      row += ldb
      i &+= 1
    }
    put(c, c0, overwrite)
    put(c + ldc, c1, overwrite)
  }
#endif

/// One row of C against 16 columns, for what is left over.
@inline(__always)
private func row1(
  _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ ldb: Int, _ k: Int, _ c: UnsafeMutablePointer<Float>,
  _ overwrite: Bool, _ pairs: Bool
) {
  var sum = splat(0)
  var i = 0
  while i < k {
    sum = step(sum, splat(a[i]), loadFloats(b + i &* ldb), pairs)
    i &+= 1
  }
  put(c, sum, overwrite)
}

#if ISA_AVX512 || ISA_AVX512BF16
  @inline(__always)
  private func run(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
    _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ overwrite: Bool, _ pairs: Bool
  ) {
    var column = 0
    while column &+ 64 <= n {
      var row = 0
      while row &+ 4 <= m {
        rows4(a + row &* lda, lda, b + column, ldb, k, c + (row &* ldc &+ column), ldc, overwrite, pairs)
        row &+= 4
      }
      while row < m {
        for part in 0..<4 {
          let first = column &+ 16 &* part
          row1(a + row &* lda, b + first, ldb, k, c + (row &* ldc &+ first), overwrite, pairs)
        }
        row &+= 1
      }
      column &+= 64
    }
    while column < n {
      for row in 0..<m { row1(a + row &* lda, b + column, ldb, k, c + (row &* ldc &+ column), overwrite, pairs) }
      column &+= 16
    }
  }
#else
  @inline(__always)
  private func run(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
    _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ overwrite: Bool, _ pairs: Bool
  ) {
    var column = 0
    while column < n {
      var row = 0
      #if !ISA_BASELINE
        while row &+ 6 <= m {
          rows6(a + row &* lda, lda, b + column, ldb, k, c + (row &* ldc &+ column), ldc, overwrite)
          row &+= 6
        }
        if row &+ 4 <= m {
          rows4(a + row &* lda, lda, b + column, ldb, k, c + (row &* ldc &+ column), ldc, overwrite)
          row &+= 4
        }
      #endif
      while row &+ 2 <= m {
        rows2(a + row &* lda, lda, b + column, ldb, k, c + (row &* ldc &+ column), ldc, overwrite)
        row &+= 2
      }
      if row < m { row1(a + row &* lda, b + column, ldb, k, c + (row &* ldc &+ column), overwrite, pairs) }
      column &+= 16
    }
  }
#endif

extension Kernels {
  /// C[m, n] (+)= A[m, k] B[k, n]; n is a multiple of 16.
  @inline(never)
  static func attentionProduct(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
    _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ overwrite: Bool
  ) {
    run(m, n, k, a, lda, b, ldb, c, ldc, overwrite, false)
  }

  #if ISA_AVX512BF16
    /// The same with words of two bfloat16 values.
    @inline(never)
    static func attentionPairProduct(
      _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
      _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ overwrite: Bool
    ) {
      run(m, n, k, a, lda, b, ldb, c, ldc, overwrite, true)
    }
  #endif
}
