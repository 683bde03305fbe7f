#if ISA_AVX512BF16
  import CPlatform
  import Numerics

  // Attention of bfloat16 tensors with products of bfloat16 pairs and f32 sums, as flash attention does it: Q, K, V
  // and dO enter as they lie in memory, weights P and their gradients dS are rounded to bfloat16 for the product that
  // follows. A word is two values along the contraction of its product: along the head for Q K^T and dO V^T, along
  // keys or queries for the others.

  private let block = AttentionKernels.block
  private let pairs = AttentionKernels.block / 2

  /// Rows of a head as words [count, words], zero beyond headDim and, up to a multiple of 16 rows, beyond count.
  @inline(never)
  private func copyRows(
    _ p: UnsafeRawPointer, _ stride: Int, _ first: Int, _ count: Int, _ headDim: Int, _ words: Int,
    _ target: UnsafeMutablePointer<Float>
  ) {
    for row in 0..<count {
      let source = p + 2 &* (first &+ row) &* stride
      let to = UnsafeMutableRawPointer(target + row &* words)
      to.copyMemory(from: source, byteCount: 2 &* headDim)
      for word in headDim / 2..<words { target[row &* words &+ word] = 0 }
    }
    for word in count &* words..<((count &+ 15) & ~15) &* words { target[word] = 0 }
  }

  /// target[words, 64] = transpose of [count, words].
  @inline(never)
  private func transposeWords(
    _ source: UnsafePointer<Float>, _ count: Int, _ words: Int, _ target: UnsafeMutablePointer<Float>
  ) {
    var row = 0
    while row < count {
      var word = 0
      while word < words {
        mm_transpose16(source + (row &* words &+ word), words, target + (word &* block &+ row), block)
        word &+= 16
      }
      row &+= 16
    }
  }

  @inline(__always)
  private func loadWords(_ p: UnsafePointer<Float>) -> Words16 { UnsafeRawPointer(p).loadUnaligned(as: Words16.self) }

  @inline(__always)
  private func storeWords(_ p: UnsafeMutablePointer<Float>, _ v: Words16) {
    UnsafeMutableRawPointer(p).storeBytes(of: v, as: Words16.self)
  }

  /// target[count / 2, 2 * words]: values of rows 2j and 2j + 1 side by side, so that rows are the contraction.
  @inline(never)
  private func zipRows(
    _ source: UnsafePointer<Float>, _ count: Int, _ words: Int, _ target: UnsafeMutablePointer<Float>
  ) {
    let sixteen = Words16(repeating: 16)
    let upper = Words16(repeating: 0xFFFF_0000)
    for pair in 0..<(count &+ 1) / 2 {
      let even = source + 2 &* pair &* words
      var word = 0
      while word < words {
        let (a, b) = (loadWords(even + word), loadWords(even + (words &+ word)))
        let first = (a & ~upper) | (b &<< sixteen)
        let second = (a &>> sixteen) | (b & upper)
        let to = target + 2 &* (pair &* words &+ word)
        storeWords(to, rd_zip_low(first, second))
        storeWords(to + 16, rd_zip_high(first, second))
        word &+= 16
      }
    }
  }

  /// Words [count, 32] of f32 rows [count, 64]: pairs along a row.
  @inline(__always)
  private func narrowRows(
    _ source: UnsafePointer<Float>, _ count: Int, _ columns: Int, _ target: UnsafeMutablePointer<Float>
  ) {
    for row in 0..<count {
      var column = 0
      while column < columns {
        let from = source + (row &* block &+ column)
        // Columns come in sixteens; the upper half of the last 32 may be missing.
        let second = column &+ 16 < columns ? loadFloats(from + 16) : splat(0)
        storeWords(target + (row &* pairs &+ column / 2), mm_row_words(loadFloats(from), second))
        column &+= 32
      }
    }
  }

  /// Words [columns, 32] of f32 rows [count, 64]: pairs of rows, transposed. Rows up to a multiple of 32 are zeroed.
  @inline(__always)
  private func turnRows(
    _ source: UnsafeMutablePointer<Float>, _ count: Int, _ columns: Int, _ between: UnsafeMutablePointer<Float>,
    _ target: UnsafeMutablePointer<Float>
  ) {
    let rows = (count &+ 31) & ~31
    for row in count..<rows {
      for column in 0..<columns { source[row &* block &+ column] = 0 }
    }
    for pair in 0..<rows / 2 {
      var column = 0
      while column < columns {
        let from = source + (2 &* pair &* block &+ column)
        storeWords(between + (pair &* block &+ column), mm_pair_words(loadFloats(from), loadFloats(from + block)))
        column &+= 16
      }
    }
    var pair = 0
    while pair < rows / 2 {
      var column = 0
      while column < columns {
        mm_transpose16(between + (pair &* block &+ column), block, target + (column &* pairs &+ pair), pairs)
        column &+= 16
      }
      pair &+= 16
    }
  }

  extension Kernels {
    /// Padded words of a row: 16 at a time.
    @inline(__always)
    private static func wordCount(_ headDim: Int) -> Int { (headDim &+ 31) / 32 &* 16 }

    @inline(never)
    static func attentionForwardPairs(_ task: AttentionTask) {
      let words = wordCount(task.headDim)
      let width = 2 &* words
      let queries = task.scratch
      let rows = queries + block &* words
      let keys = rows + block &* words
      let values = keys + block &* words
      let sums = values + block &* words
      let scores = sums + block &* width
      let weights = scores + block &* block
      let top = weights + block &* pairs
      let total = top + block
      // Capped scores are scaled before the cap.
      let scale = task.softCap > 0 ? 1 : task.scale
      var first = 0
      while first < task.queryCount {
        let count = min(block, task.queryCount &- first)
        copyRows(task.q, task.queryStride, first, count, task.headDim, words, queries)
        for i in 0..<count { start(task, top + i, total + i) }
        for i in 0..<count &* width { sums[i] = 0 }
        let last = task.queryOffset &+ first &+ count
        let oldest = task.window > 0 ? max(0, task.queryOffset &+ first &- task.window &+ 1) : 0
        var key = oldest / block &* block
        while key < min(last, task.keyCount) {
          let keyCount = min(block, min(last, task.keyCount) &- key)
          let columns = (keyCount &+ 15) & ~15
          copyRows(task.k, task.keyStride, key, keyCount, task.headDim, words, rows)
          transposeWords(rows, keyCount, words, keys)
          copyRows(task.v, task.keyStride, key, keyCount, task.headDim, words, rows)
          zipRows(rows, keyCount, words, values)
          attentionPairProduct(count, columns, task.headDim / 2, queries, words, keys, block, scores, block, true)
          for i in 0..<count {
            let (low, high) = visible(task.queryOffset &+ first &+ i, key, keyCount, task.window)
            if task.softCap > 0 { capScores(scores + i &* block, columns, task.scale, task.softCap) }
            softmaxBlock(
              scores + i &* block, columns, low, high, top + i, total + i, sums + i &* width, width, scale)
          }
          narrowRows(scores, count, columns, weights)
          attentionPairProduct(count, width, (keyCount &+ 1) / 2, weights, pairs, values, width, sums, width, false)
          key &+= block
        }
        finish(task, first, count, width, sums, top, total)
        first &+= block
      }
    }

    /// The backward pass on pairs of bfloat16, longer than a screen for the reason that `attentionBackward` gives.
    @inline(never)
    static func attentionBackwardPairs(_ task: AttentionTask) {
      guard let dOut = task.dOut, let dq = task.dq, let dk = task.dk, let dv = task.dv, let lse = task.lse else {
        return
      }
      let words = wordCount(task.headDim)
      let width = 2 &* words
      let rows = task.scratch
      let keysT = rows + block &* words
      let keyPairs = keysT + block &* words
      let valuesT = keyPairs + block &* words
      let queries = valuesT + block &* words
      let queryPairs = queries + block &* words
      let outs = queryPairs + block &* words
      let outPairs = outs + block &* words
      let dKeys = outPairs + block &* words
      let dValues = dKeys + block &* width
      let p = dValues + block &* width
      let ds = p + block &* block
      let between = ds + block &* block
      let turned = between + block &* pairs
      let narrow = turned + block &* pairs
      let dQueries = narrow + block &* pairs
      let delta = dQueries + task.queryCount &* width
      let scale = task.softCap > 0 ? 1 : task.scale
      for i in 0..<task.queryCount &* width { dQueries[i] = 0 }
      rowProducts(task, dOut, delta)

      var key = 0
      while key < task.keyCount {
        let keyCount = min(block, task.keyCount &- key)
        let columns = (keyCount &+ 15) & ~15
        copyRows(task.v, task.keyStride, key, keyCount, task.headDim, words, rows)
        transposeWords(rows, keyCount, words, valuesT)
        copyRows(task.k, task.keyStride, key, keyCount, task.headDim, words, rows)
        transposeWords(rows, keyCount, words, keysT)
        zipRows(rows, keyCount, words, keyPairs)
        for i in 0..<block &* width {
          dKeys[i] = 0
          dValues[i] = 0
        }
        var first = max(0, key &- task.queryOffset) / block &* block
        while first < task.queryCount {
          let count = min(block, task.queryCount &- first)
          let oldest = task.window > 0 ? task.queryOffset &+ first &- task.window &+ 1 : 0
          if oldest >= key &+ keyCount { break }
          copyRows(task.q, task.queryStride, first, count, task.headDim, words, queries)
          zipRows(queries, count, words, queryPairs)
          copyRows(dOut, task.queryStride, first, count, task.headDim, words, outs)
          zipRows(outs, count, words, outPairs)
          attentionPairProduct(count, columns, task.headDim / 2, queries, words, keysT, block, p, block, true)
          attentionPairProduct(count, columns, task.headDim / 2, outs, words, valuesT, block, ds, block, true)
          for i in 0..<count {
            let (low, high) = visible(task.queryOffset &+ first &+ i, key, keyCount, task.window)
            if task.softCap > 0 { capScores(p + i &* block, columns, task.scale, task.softCap) }
            weightBlock(
              p + i &* block, ds + i &* block, columns, low, high, lse[first &+ i], delta[first &+ i], scale,
              task.softCap)
          }
          let queryWords = (count &+ 1) / 2
          turnRows(p, count, columns, between, turned)
          attentionPairProduct(keyCount, width, queryWords, turned, pairs, outPairs, width, dValues, width, false)
          turnRows(ds, count, columns, between, turned)
          attentionPairProduct(keyCount, width, queryWords, turned, pairs, queryPairs, width, dKeys, width, false)
          narrowRows(ds, count, columns, narrow)
          attentionPairProduct(
            count, width, (keyCount &+ 1) / 2, narrow, pairs, keyPairs, width, dQueries + first &* width, width, false)
          first &+= block
        }
        for row in 0..<keyCount {
          for column in 0..<task.headDim {
            dk[(key &+ row) &* task.headDim &+ column] = dKeys[row &* width &+ column] * task.scale
            dv[(key &+ row) &* task.headDim &+ column] = dValues[row &* width &+ column]
          }
        }
        key &+= block
      }
      for row in 0..<task.queryCount {
        forEachVector(task.headDim) { j, rest in
          putElement16(
            dq + 2 &* row &* task.queryStride, 1, j, rest,
            loadFloats(dQueries + (row &* width &+ j)) * splat(task.scale))
        }
      }
    }
  }
#endif
