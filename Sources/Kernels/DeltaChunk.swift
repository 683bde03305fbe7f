import CPlatform
import Numerics

/// One chunk of a gated delta rule in scratch memory: what its tokens do to each other and to the state (Yang et al.
/// 2024, "Gated Delta Networks", section 3.3).
///
/// With g the sums of decays from the start of the chunk, D[i, j] = exp(g_i - g_j) for j <= i, S the state before it
/// and U the values that are written, row by row:
///
///     (1 + L) U = beta * (V - exp(g) * (K S))      L[i, j] = beta_i D[i, j] (k_i . k_j) for j < i
///     out = exp(g) * (Q S) + (D * Q K^T) U         S' = exp(g_n) S + (exp(g_n - g) * K)^T U
struct DeltaChunk {
  typealias Floats = UnsafeMutablePointer<Float>

  let task: DeltaTask
  /// Widths of keys and values in scratch: multiples of 16, with zeros behind.
  let keys, values: Int
  /// [64, keys]; the transposed keys are [keys, 64].
  let q, k, dq, dk, kTransposed: Floats
  /// [64, values]; the transposed u is [values, 64].
  let v, w, ks, u, o, x, y, z, qs, r, uTransposed: Floats
  /// [64, 64]; `negative` is -L.
  let kk, qk, d, negative, p, ru, ou: Floats
  /// [64]
  let g, grown, rest, beta, qLength, kLength, dg, dBeta: Floats
  /// [values, keys]
  let sTransposed, dsTransposed: Floats
  /// [keys, values] of each member; of the way back for each chunk, and the gradients before them.
  let states: Floats

  /// Lays out the scratch of a task.
  @inline(__always)
  init(_ task: DeltaTask) {
    self.task = task
    (keys, values) = ((task.keyDim &+ 15) & ~15, (task.valueDim &+ 15) & ~15)
    var next = task.scratch
    @inline(__always) func take(_ count: Int) -> Floats {
      defer { next += count }
      return next
    }
    let (rows, wide) = (RecurrentKernels.chunk &* keys, RecurrentKernels.chunk &* values)
    (q, k, dq, dk, kTransposed) = (take(rows), take(rows), take(rows), take(rows), take(rows))
    (v, w, ks, u, o, x) = (take(wide), take(wide), take(wide), take(wide), take(wide), take(wide))
    (y, z, qs, r, uTransposed) = (take(wide), take(wide), take(wide), take(wide), take(wide))
    let square = RecurrentKernels.chunk &* RecurrentKernels.chunk
    (kk, qk, d, negative) = (take(square), take(square), take(square), take(square))
    (p, ru, ou) = (take(square), take(square), take(square))
    (g, grown, rest, beta) = (take(64), take(64), take(64), take(64))
    (qLength, kLength, dg, dBeta) = (take(64), take(64), take(64), take(64))
    (sTransposed, dsTransposed) = (take(keys &* values), take(keys &* values))
    states = next
  }

  var stateCount: Int { @inline(__always) get { keys &* values } }

  /// Calls `body` for each vector of a row of so many elements, a multiple of 16.
  @inline(__always)
  static func vectors(_ count: Int, _ body: (_ j: Int) -> Void) {
    var j = 0
    while j < count {
      body(j)
      j &+= 16
    }
  }

  /// Floats of rows of a tensor; columns behind `width` and rows from `n` to 64 are zero.
  @inline(never)
  func load(
    _ source: UnsafeRawPointer, _ stride: Int, _ first: Int, _ n: Int, _ width: Int, _ padded: Int, _ target: Floats
  ) {
    let size = task.type == 0 ? 4 : 2
    for row in 0..<RecurrentKernels.chunk {
      let from = source + (first &+ row) &* stride &* size
      Self.vectors(padded) { j in
        storeFloats(
          target + (row &* padded &+ j), row < n ? element16(from, task.type, j, width &- j) : splat(0))
      }
    }
  }

  @inline(never)
  func store(
    _ source: Floats, _ padded: Int, _ n: Int, _ width: Int, _ target: UnsafeMutableRawPointer, _ stride: Int,
    _ first: Int
  ) {
    let size = task.type == 0 ? 4 : 2
    for row in 0..<n {
      let to = target + (first &+ row) &* stride &* size
      @inline(always) func step(_ j: Int, _ rest: Int) {
        putElement16(to, task.type, j, rest, loadFloats(source + (row &* padded &+ j)))
      }
      forEachVector(width, step)
    }
  }

  /// Queries and keys of a chunk, brought to the length 1, and their products.
  @inline(never)
  func loadKeys(_ first: Int, _ n: Int) {
    load(task.q, task.stride, first, n, task.keyDim, keys, q)
    load(task.k, task.stride, first, n, task.keyDim, keys, k)
    for row in 0..<n {
      qLength[row] = normalise(q + row &* keys, task.queryScale)
      kLength[row] = normalise(k + row &* keys, 1)
    }
    transpose(k, RecurrentKernels.chunk, keys, kTransposed)
    smallProduct(kk, 64, k, keys, 1, kTransposed, 64, n, task.keyDim, 64, adds: false)
    smallProduct(qk, 64, q, keys, 1, kTransposed, 64, n, task.keyDim, 64, adds: false)
  }

  /// Returns the factor that brings a row to the length 1; the row becomes `scale` times that.
  @inline(__always)
  private func normalise(_ row: Floats, _ scale: Float) -> Float {
    let factor = 1 / (dot(row, row, keys) + task.epsilon).squareRoot()
    Self.vectors(keys) { j in storeFloats(row + j, loadFloats(row + j) * splat(factor * scale)) }
    return factor
  }

  @inline(__always)
  func dot(_ a: Floats, _ b: Floats, _ count: Int) -> Float {
    var sum = splat(0)
    Self.vectors(count) { j in sum = madd(loadFloats(a + j), loadFloats(b + j), sum) }
    return mm_sum(sum)
  }

  /// target[columns, rows] of source [rows, columns], both multiples of 16.
  @inline(never)
  func transpose(_ source: Floats, _ rows: Int, _ columns: Int, _ target: Floats) {
    var row = 0
    while row < rows {
      Self.vectors(columns) { column in
        mm_transpose16(source + (row &* columns &+ column), columns, target + (column &* rows &+ row), rows)
      }
      row &+= 16
    }
  }

  /// What a member writes, from the state before the chunk: `v`, `w` = V - exp(g) * (K S), and `u`.
  @inline(never)
  func solve(_ member: Int, _ first: Int, _ n: Int, _ state: Floats) {
    let size = task.type == 0 ? 4 : 2
    load(task.v + member &* task.valueDim &* size, task.stride, first, n, task.valueDim, values, v)
    setDecays(member, first, n)
    smallProduct(ks, values, k, keys, 1, state, values, n, task.keyDim, values, adds: false)
    for row in 0..<RecurrentKernels.chunk {
      let at = row &* values
      Self.vectors(values) { j in
        let difference = row < n ? loadFloats(v + at + j) - splat(grown[row]) * loadFloats(ks + at + j) : splat(0)
        storeFloats(w + at + j, difference)
        storeFloats(u + at + j, splat(beta[row]) * difference)
      }
    }
    for row in 0..<n {
      Self.vectors(64) { j in
        let at = row &* 64 &+ j
        storeFloats(negative + at, splat(-beta[row]) * loadFloats(d + at) * loadFloats(kk + at))
        storeFloats(p + at, loadFloats(d + at) * loadFloats(qk + at))
      }
      negative[row &* 65] = 0
    }
    // Blocks of 16 rows: the rows before them all at once, those of the block one after the other.
    var block = 0
    while block < n {
      let end = min(n, block &+ 16)
      smallProduct(
        u + block &* values, values, negative + block &* 64, 64, 1, u, values, end &- block, block, values, adds: true)
      for row in block..<end {
        for other in block..<row { addRow(u + row &* values, negative[row &* 64 &+ other], u + other &* values) }
      }
      block = end
    }
  }

  @inline(__always)
  func addRow(_ target: Floats, _ factor: Float, _ source: Floats) {
    Self.vectors(values) { j in
      storeFloats(target + j, madd(splat(factor), loadFloats(source + j), loadFloats(target + j)))
    }
  }

  /// Sums of decays, their exponentials, and `d`.
  @inline(never)
  private func setDecays(_ member: Int, _ first: Int, _ n: Int) {
    var sum: Float = 0
    for row in 0..<64 {
      let at = (first &+ row) &* task.headStride &+ member
      if row < n { sum += task.decay[at] }
      g[row] = sum
      beta[row] = row < n ? task.beta[at] : 0
    }
    Self.vectors(64) { j in
      storeFloats(grown + j, expVector(loadFloats(g + j)))
      storeFloats(rest + j, expVector(splat(sum) - loadFloats(g + j)))
    }
    let lanes = Vec16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    for row in 0..<n {
      Self.vectors(64) { j in
        let later = (lanes + splat(Float(j))) .> splat(Float(row))
        let decay = expVector((splat(g[row]) - loadFloats(g + j)).replacing(with: 0, where: later))
        storeFloats(d + (row &* 64 &+ j), decay.replacing(with: 0, where: later))
      }
    }
  }

  /// The state behind the chunk, in place.
  @inline(never)
  func advance(_ state: Floats, _ n: Int) {
    scaleRows(u, rest, n, x)
    let factor = grown[n &- 1]
    Self.vectors(stateCount) { j in storeFloats(state + j, splat(factor) * loadFloats(state + j)) }
    smallProduct(state, values, k, 1, keys, x, values, task.keyDim, n, values, adds: true)
  }

  /// target = factor of the row * source, of [n, values].
  @inline(__always)
  func scaleRows(_ source: Floats, _ factors: Floats, _ n: Int, _ target: Floats) {
    for row in 0..<n {
      Self.vectors(values) { j in
        let at = row &* values &+ j
        storeFloats(target + at, splat(factors[row]) * loadFloats(source + at))
      }
    }
  }
}
