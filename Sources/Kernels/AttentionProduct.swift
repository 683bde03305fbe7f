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
  @inline(__always) func put(_ p: UnsafeMutablePointer<Float>, _ v: Vec16) {
    storeFloats(p, overwrite ? v : loadFloats(p) + v)
  }
  put(c, c00)
  put(c + 16, c01)
  put(c + 32, c02)
  put(c + 48, c03)
  let d1 = c + ldc
  put(d1, c10)
  put(d1 + 16, c11)
  put(d1 + 32, c12)
  put(d1 + 48, c13)
  let d2 = d1 + ldc
  put(d2, c20)
  put(d2 + 16, c21)
  put(d2 + 32, c22)
  put(d2 + 48, c23)
  let d3 = d2 + ldc
  put(d3, c30)
  put(d3 + 16, c31)
  put(d3 + 32, c32)
  put(d3 + 48, c33)
}

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
  storeFloats(c, overwrite ? sum : loadFloats(c) + sum)
}

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
