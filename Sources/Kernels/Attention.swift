import CPlatform
import Numerics

// Blockwise attention of one head. All blocks are converted to f32 in scratch memory; K and V are transposed once per
// block where a product needs them that way. Widths are padded to 16 columns with zeros. bfloat16 tensors take the
// path of `AttentionPairs.swift` where the processor multiplies pairs.

private let block = AttentionKernels.block

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

extension Kernels {
  @inline(never)
  static func attentionForward(_ address: UnsafeRawPointer) {
    let task = address.assumingMemoryBound(to: AttentionTask.self).pointee
    if task.queryCount == 1 { return attentionRow(task) }
    #if ISA_AVX512BF16
      if task.type == 1, task.headDim & 1 == 0 { return attentionForwardPairs(task) }
    #endif
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
      for i in 0..<count { start(task, top + i, total + i) }
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
        attentionProduct(count, columns, width, queries, width, keys, block, scores, block, true)
        for i in 0..<count {
          let (low, high) = visible(task.queryOffset &+ first &+ i, key, width64, task.window)
          if task.softCap > 0 { capScores(scores + i &* block, columns, 1, task.softCap) }
          softmaxBlock(
            scores + i &* block, columns, low, high, top + i, total + i, sums + i &* width, width, 1)
        }
        attentionProduct(count, width, width64, scores, block, values, width, sums, width, false)
        key &+= block
      }
      finish(task, first, count, width, sums, top, total)
      first &+= block
    }
  }

  /// The backward pass, one function although longer than a screen: a block of keys uses its twelve buffers in turn,
  /// and a part of it would take all of them as arguments.
  @inline(never)
  static func attentionBackward(_ address: UnsafeRawPointer) {
    let task = address.assumingMemoryBound(to: AttentionTask.self).pointee
    #if ISA_AVX512BF16
      if task.type == 1, task.headDim & 1 == 0 { return attentionBackwardPairs(task) }
    #endif
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
        attentionProduct(count, columns, width, queries, width, keysT, block, p, block, true)
        attentionProduct(count, columns, width, outs, width, valuesT, block, ds, block, true)
        for i in 0..<count {
          let (low, high) = visible(task.queryOffset &+ first &+ i, key, keyCount, task.window)
          if task.softCap > 0 { capScores(p + i &* block, columns, 1, task.softCap) }
          weightBlock(
            p + i &* block, ds + i &* block, columns, low, high, lse[first &+ i], delta[first &+ i], 1, task.softCap)
        }
        for i in count &* block..<((count &+ 15) & ~15) &* block {
          p[i] = 0
          ds[i] = 0
        }
        turn(p, count, columns, turned)
        attentionProduct(keyCount, width, count, turned, block, outs, width, dValues, width, false)
        turn(ds, count, columns, turned)
        attentionProduct(keyCount, width, count, turned, block, queries, width, dKeys, width, false)
        attentionProduct(count, width, keyCount, ds, block, rows, width, dQueries + first &* width, width, false)
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

  package static func fill(attention table: UnsafeMutablePointer<AttentionKernels>) {
    table.initialize(
      to: AttentionKernels(
        forward: { Kernels.attentionForward($0) }, backward: { Kernels.attentionBackward($0) }))
  }
}
