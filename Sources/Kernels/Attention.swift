import CPlatform
import Numerics

// Blockwise attention of one head. All blocks are converted to f32 in scratch memory and multiplied by one small
// product, C[m, n] (+)= A[m, k] B[k, n] with B's rows along the vector and A broadcast; K and V are transposed once
// per block where a product needs them that way. Widths are padded to 16 columns with zeros.

private let block = AttentionKernels.block

/// Four rows of C at a time against 64 columns: 16 accumulators, 4 loads and 4 broadcasts for 16 multiply-adds.
@inline(__always)
private func rows4(
  _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int, _ k: Int,
  _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ overwrite: Bool
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
    c00 = madd(a0, b0, c00)
    c01 = madd(a0, b1, c01)
    c02 = madd(a0, b2, c02)
    c03 = madd(a0, b3, c03)
    c10 = madd(a1, b0, c10)
    c11 = madd(a1, b1, c11)
    c12 = madd(a1, b2, c12)
    c13 = madd(a1, b3, c13)
    let a2 = splat(a[2 &* lda &+ i]), a3 = splat(a[3 &* lda &+ i])
    c20 = madd(a2, b0, c20)
    c21 = madd(a2, b1, c21)
    c22 = madd(a2, b2, c22)
    c23 = madd(a2, b3, c23)
    c30 = madd(a3, b0, c30)
    c31 = madd(a3, b1, c31)
    c32 = madd(a3, b2, c32)
    c33 = madd(a3, b3, c33)
    row += ldb
    i &+= 1
  }
  @inline(__always) func put(_ p: UnsafeMutablePointer<Float>, _ v: F16) {
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
  _ overwrite: Bool
) {
  var sum = splat(0)
  var i = 0
  while i < k {
    sum = madd(splat(a[i]), loadFloats(b + i &* ldb), sum)
    i &+= 1
  }
  storeFloats(c, overwrite ? sum : loadFloats(c) + sum)
}

/// C[m, n] (+)= A[m, k] B[k, n]; n is a multiple of 16.
@inline(never)
private func product(
  _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
  _ c: UnsafeMutablePointer<Float>, _ ldc: Int, _ overwrite: Bool
) {
  var column = 0
  while column &+ 64 <= n {
    var row = 0
    while row &+ 4 <= m {
      rows4(a + row &* lda, lda, b + column, ldb, k, c + (row &* ldc &+ column), ldc, overwrite)
      row &+= 4
    }
    while row < m {
      for part in 0..<4 {
        row1(a + row &* lda, b + (column &+ 16 &* part), ldb, k, c + (row &* ldc &+ column &+ 16 &* part), overwrite)
      }
      row &+= 1
    }
    column &+= 64
  }
  while column < n {
    for row in 0..<m { row1(a + row &* lda, b + column, ldb, k, c + (row &* ldc &+ column), overwrite) }
    column &+= 16
  }
}

/// Rows of a tensor as f32 [count, width], scaled, columns beyond headDim and rows beyond count (to a multiple of 16)
/// zero.
@inline(never)
private func loadRows(
  _ p: UnsafeRawPointer, _ type: Int32, _ stride: Int, _ first: Int, _ count: Int, _ headDim: Int, _ width: Int,
  _ scale: Float, _ target: UnsafeMutablePointer<Float>
) {
  let size = type == 0 ? 4 : 2
  for row in 0..<count {
    let source = p + (first &+ row) &* stride &* size
    var column = 0
    while column < width {
      storeFloats(
        target + (row &* width &+ column), element16(source, type, column, headDim &- column) * splat(scale))
      column &+= 16
    }
  }
  var rest = count &* width
  let end = ((count &+ 15) & ~15) &* width
  while rest < end {
    storeFloats(target + rest, splat(0))
    rest &+= 16
  }
}

/// target[width, 64] = transpose of source [count, width]; columns beyond count up to a multiple of 16 come out zero.
@inline(never)
private func transpose(
  _ source: UnsafePointer<Float>, _ count: Int, _ width: Int, _ target: UnsafeMutablePointer<Float>
) {
  var row = 0
  while row < count {
    var column = 0
    while column < width {
      mm_transpose16(source + (row &* width &+ column), width, target + (column &* block &+ row), block)
      column &+= 16
    }
    row &+= 16
  }
}

/// Keys of a block that query `position` sees: [low, high) relative to the block's first key.
@inline(__always)
private func visible(_ position: Int, _ key: Int, _ keys: Int, _ window: Int) -> (Int, Int) {
  let high = min(keys, position &- key &+ 1)
  let low = window > 0 ? max(0, position &- window &+ 1 &- key) : 0
  return (low, high)
}

extension Kernels {
  @inline(never)
  static func attentionForward(_ address: UnsafeRawPointer) {
    let task = address.assumingMemoryBound(to: AttentionTask.self).pointee
    let width = (task.headDim &+ 15) & ~15
    let queries = task.scratch
    let rows = queries + block &* width
    let keys = rows + block &* width
    let values = keys + block &* width
    let sums = values + block &* width
    let scores = sums + block &* width
    let top = scores + block &* block
    let total = top + block
    var first = 0
    while first < task.queryCount {
      let count = min(block, task.queryCount &- first)
      loadRows(task.q, task.type, task.queryStride, first, count, task.headDim, width, task.scale, queries)
      for i in 0..<count {
        top[i] = -Float.infinity
        total[i] = 0
      }
      for i in 0..<count &* width { sums[i] = 0 }
      let last = task.queryOffset &+ first &+ count
      let oldest = task.window > 0 ? max(0, task.queryOffset &+ first &- task.window &+ 1) : 0
      var key = oldest / block &* block
      while key < min(last, task.keyCount) {
        let width64 = min(block, min(last, task.keyCount) &- key)
        loadRows(task.k, task.type, task.keyStride, key, width64, task.headDim, width, 1, rows)
        transpose(rows, width64, width, keys)
        loadRows(task.v, task.type, task.keyStride, key, width64, task.headDim, width, 1, values)
        let columns = (width64 &+ 15) & ~15
        product(count, columns, width, queries, width, keys, block, scores, block, true)
        for i in 0..<count {
          let (low, high) = visible(task.queryOffset &+ first &+ i, key, width64, task.window)
          softmaxBlock(
            scores + i &* block, columns, low, high, top + i, total + i, sums + i &* width, width)
        }
        product(count, width, width64, scores, block, values, width, sums, width, false)
        key &+= block
      }
      finish(task, first, count, width, sums, top, total)
      first &+= block
    }
  }

  /// Turns a row of scores into weights exp(s - max), zero where not visible, and rescales what was summed before.
  @inline(__always)
  private static func softmaxBlock(
    _ s: UnsafeMutablePointer<Float>, _ columns: Int, _ low: Int, _ high: Int, _ top: UnsafeMutablePointer<Float>,
    _ total: UnsafeMutablePointer<Float>, _ sums: UnsafeMutablePointer<Float>, _ width: Int
  ) {
    for j in 0..<max(0, min(low, columns)) { s[j] = -Float.infinity }
    for j in max(0, min(high, columns))..<columns { s[j] = -Float.infinity }
    guard low < high else {
      for j in 0..<columns { s[j] = 0 }
      return
    }
    var peak = splat(-Float.infinity)
    var j = 0
    while j < columns {
      peak = larger(peak, loadFloats(s + j))
      j &+= 16
    }
    let new = max(top.pointee, largest(peak))
    var sum = splat(0)
    j = 0
    while j < columns {
      let weight = expVector(loadFloats(s + j) - splat(new))
      storeFloats(s + j, weight)
      sum = sum + weight
      j &+= 16
    }
    if top.pointee < new {
      let shrink = expVector(splat(top.pointee - new))
      total.pointee *= shrink[0]
      j = 0
      while j < width {
        storeFloats(sums + j, loadFloats(sums + j) * shrink)
        j &+= 16
      }
      top.pointee = new
    }
    total.pointee += mm_sum(sum)
  }

  @inline(__always)
  private static func finish(
    _ task: AttentionTask, _ first: Int, _ count: Int, _ width: Int, _ sums: UnsafeMutablePointer<Float>,
    _ top: UnsafeMutablePointer<Float>, _ total: UnsafeMutablePointer<Float>
  ) {
    let size = task.type == 0 ? 4 : 2
    for i in 0..<count {
      let target = task.out + (first &+ i) &* task.queryStride &* size
      let factor = splat(total[i] > 0 ? 1 / total[i] : 0)
      var j = 0
      while j < task.headDim {
        putElement16(target, task.type, j, task.headDim &- j, loadFloats(sums + (i &* width &+ j)) * factor)
        j &+= 16
      }
      if let lse = task.lse { lse[first &+ i] = top[i] + rows_log(total[i]) }
    }
  }

  @inline(never)
  static func attentionBackward(_ address: UnsafeRawPointer) {
    let task = address.assumingMemoryBound(to: AttentionTask.self).pointee
    guard let dOut = task.dOut, let dq = task.dq, let dk = task.dk, let dv = task.dv, let lse = task.lse else { return }
    let width = (task.headDim &+ 15) & ~15
    let queries = task.scratch
    let rows = queries + block &* width
    let keysT = rows + block &* width
    let values = keysT + block &* width
    let valuesT = values + block &* width
    let outs = valuesT + block &* width
    let dKeys = outs + block &* width
    let dValues = dKeys + block &* width
    let p = dValues + block &* width
    let ds = p + block &* block
    let turned = ds + block &* block
    let dQueries = turned + block &* block
    let delta = dQueries + task.queryCount &* width
    for i in 0..<task.queryCount &* width { dQueries[i] = 0 }
    rowProducts(task, dOut, delta)

    var key = 0
    while key < task.keyCount {
      let keyCount = min(block, task.keyCount &- key)
      let columns = (keyCount &+ 15) & ~15
      loadRows(task.v, task.type, task.keyStride, key, keyCount, task.headDim, width, 1, values)
      transpose(values, keyCount, width, valuesT)
      loadRows(task.k, task.type, task.keyStride, key, keyCount, task.headDim, width, 1, rows)
      transpose(rows, keyCount, width, keysT)
      for i in 0..<block &* width {
        dKeys[i] = 0
        dValues[i] = 0
      }
      var first = max(0, key &- task.queryOffset) / block &* block
      while first < task.queryCount {
        let count = min(block, task.queryCount &- first)
        let oldest = task.window > 0 ? task.queryOffset &+ first &- task.window &+ 1 : 0
        if oldest >= key &+ keyCount { break }
        loadRows(task.q, task.type, task.queryStride, first, count, task.headDim, width, task.scale, queries)
        loadRows(dOut, task.type, task.queryStride, first, count, task.headDim, width, 1, outs)
        product(count, columns, width, queries, width, keysT, block, p, block, true)
        product(count, columns, width, outs, width, valuesT, block, ds, block, true)
        for i in 0..<count {
          let (low, high) = visible(task.queryOffset &+ first &+ i, key, keyCount, task.window)
          weightBlock(
            p + i &* block, ds + i &* block, columns, low, high, lse[first &+ i], delta[first &+ i])
        }
        for i in count &* block..<((count &+ 15) & ~15) &* block {
          p[i] = 0
          ds[i] = 0
        }
        turn(p, count, columns, turned)
        product(keyCount, width, count, turned, block, outs, width, dValues, width, false)
        turn(ds, count, columns, turned)
        product(keyCount, width, count, turned, block, queries, width, dKeys, width, false)
        product(count, width, keyCount, ds, block, rows, width, dQueries + first &* width, width, false)
        first &+= block
      }
      for row in 0..<keyCount {
        for column in 0..<task.headDim {
          dk[(key &+ row) &* task.headDim &+ column] = dKeys[row &* width &+ column]
          dv[(key &+ row) &* task.headDim &+ column] = dValues[row &* width &+ column]
        }
      }
      key &+= block
    }
    let size = task.type == 0 ? 4 : 2
    for row in 0..<task.queryCount {
      var j = 0
      while j < task.headDim {
        putElement16(
          dq + row &* task.queryStride &* size, task.type, j, task.headDim &- j,
          loadFloats(dQueries + (row &* width &+ j)) * splat(task.scale))
        j &+= 16
      }
    }
  }

  /// target[columns, 64] = transpose of a block [count, 64].
  @inline(__always)
  private static func turn(
    _ source: UnsafePointer<Float>, _ count: Int, _ columns: Int, _ target: UnsafeMutablePointer<Float>
  ) {
    var i = 0
    while i < count {
      var j = 0
      while j < columns {
        mm_transpose16(source + (i &* block &+ j), block, target + (j &* block &+ i), block)
        j &+= 16
      }
      i &+= 16
    }
  }

  /// p := exp(s - lse), ds := p * (dp - delta), both zero where not visible.
  @inline(__always)
  private static func weightBlock(
    _ p: UnsafeMutablePointer<Float>, _ ds: UnsafeMutablePointer<Float>, _ columns: Int, _ low: Int, _ high: Int,
    _ lse: Float, _ delta: Float
  ) {
    for j in 0..<max(0, min(low, columns)) { p[j] = -Float.infinity }
    for j in max(0, min(high, columns))..<columns { p[j] = -Float.infinity }
    var j = 0
    while j < columns {
      let weight = expVector(loadFloats(p + j) - splat(lse))
      storeFloats(p + j, weight)
      storeFloats(ds + j, weight * (loadFloats(ds + j) - splat(delta)))
      j &+= 16
    }
  }

  /// delta[i] = sum over columns of dOut[i] * out[i].
  @inline(__always)
  private static func rowProducts(
    _ task: AttentionTask, _ dOut: UnsafeRawPointer, _ delta: UnsafeMutablePointer<Float>
  ) {
    let size = task.type == 0 ? 4 : 2
    for row in 0..<task.queryCount {
      let offset = row &* task.queryStride &* size
      var sum = splat(0)
      var j = 0
      while j < task.headDim {
        let rest = task.headDim &- j
        sum = madd(
          element16(dOut + offset, task.type, j, rest),
          element16(UnsafeRawPointer(task.out) + offset, task.type, j, rest), sum)
        j &+= 16
      }
      delta[row] = mm_sum(sum)
    }
  }

  public static func fill(attention table: UnsafeMutablePointer<AttentionKernels>) {
    table.initialize(
      to: AttentionKernels(
        forward: { Kernels.attentionForward($0) }, backward: { Kernels.attentionBackward($0) }))
  }
}
