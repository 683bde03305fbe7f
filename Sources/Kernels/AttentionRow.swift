import CPlatform
import Numerics

// Attention of one query, as in generation: keys and values are read once, from where they lie, for all heads of a
// task. Packing them for a product, as the blocks of many queries do, would cost more than the product.

private let block = AttentionKernels.block

extension Kernels {
  @inline(never)
  static func attentionRow(_ task: AttentionTask) {
    switch task.type {
    case 0: attentionRow(task, 0)
    case 1: attentionRow(task, 1)
    default: attentionRow(task, 2)
    }
  }

  @inline(__always)
  private static func attentionRow(_ task: AttentionTask, _ type: Int32) {
    let size = type == 0 ? 4 : 2
    let width = (task.headDim &+ 15) & ~15
    // Of each head: its query, the sums of values, the greatest score and the sum of weights.
    let share = 2 &* width &+ 16
    let scores = task.scratch + task.memberCount &* share
    for member in 0..<task.memberCount {
      let one = head(task, member)
      let query = task.scratch + member &* share
      forEachVector(task.headDim) { j, rest in
        storeFloats(query + j, element16(one.q, type, j, rest))
        storeFloats(query + width + j, splat(0))
      }
      start(one, query + 2 &* width, query + (2 &* width &+ 1))
    }
    var (key, end) = visible(task.queryOffset, 0, task.keyCount, task.window)
    while key < end {
      let count = min(block, end &- key)
      let columns = (count &+ 15) & ~15
      let offset = key &* task.keyStride &* size
      for member in 0..<task.memberCount {
        let words = task.q + member &* task.headDim &* size
        let query = task.scratch + member &* share
        let sums = query + width, top = sums + width
        for i in 0..<count {
          scores[i] = rowDot(query, task.k + (offset &+ i &* task.keyStride &* size), words, task.headDim, type)
        }
        if task.softCap > 0 { capScores(scores, columns, task.scale, task.softCap) }
        softmaxBlock(scores, columns, 0, count, top, top + 1, sums, width, task.softCap > 0 ? 1 : task.scale)
        addRows(scores, count, task.v + offset, task.keyStride &* size, task.headDim, sums, type)
      }
      key &+= count
    }
    for member in 0..<task.memberCount {
      let sums = task.scratch + (member &* share &+ width)
      finish(head(task, member), 0, 1, width, sums, sums + width, sums + (width &+ 1))
    }
  }

  /// The task of one head of a group.
  @inline(__always)
  private static func head(_ task: AttentionTask, _ member: Int) -> AttentionTask {
    guard task.memberCount > 1 else { return task }
    let offset = member &* task.headDim &* (task.type == 0 ? 4 : 2)
    var one = task
    one.q = task.q + offset
    one.out = task.out + offset
    if let sinks = task.sinks { one.sink = sinks[member] }
    return one
  }

  /// query . key; `words` is the query as it lies in memory.
  @inline(__always)
  private static func rowDot(
    _ query: UnsafePointer<Float>, _ key: UnsafeRawPointer, _ words: UnsafeRawPointer, _ count: Int, _ type: Int32
  ) -> Float {
    var sum = splat(0)
    #if ISA_AVX512BF16
      if type == 1, count & 31 == 0 {
        var j = 0
        while j < count {
          let (a, b) = (words + 2 &* j, key + 2 &* j)
          sum = mm_dot_pairs(sum, a.loadUnaligned(as: Words16.self), b.loadUnaligned(as: Words16.self))
          j &+= 32
        }
        return mm_sum(sum)
      }
    #endif
    forEachVector(count) { j, rest in sum = madd(element16(key, type, j, rest), loadFloats(query + j), sum) }
    return mm_sum(sum)
  }

  /// Of 64 columns how many `addRows` takes at a time.
  @inline(__always)
  private static var columnsAtOnce: Int {
    #if ISA_AVX512 || ISA_AVX512BF16
      64
    #else
      32
    #endif
  }

  /// sums[j] += weights[i] * rows[i, j]
  @inline(__always)
  private static func addRows(
    _ weights: UnsafePointer<Float>, _ count: Int, _ rows: UnsafeRawPointer, _ pitch: Int, _ width: Int,
    _ sums: UnsafeMutablePointer<Float>, _ type: Int32
  ) {
    var first = 0
    // Some vectors at a time, of even and of odd rows: a sum waits for the one before it. Four are the registers of
    // AVX-512; elsewhere they would be twice as many as there are.
    while first < width & ~63 {
      var even = (splat(0), splat(0), splat(0), splat(0))
      var odd = even
      @inline(__always) func add(_ sum: inout (Vec16, Vec16, Vec16, Vec16), _ i: Int) {
        let (weight, row) = (splat(weights[i]), rows + i &* pitch)
        sum.0 = madd(element16(row, type, first, 16), weight, sum.0)
        sum.1 = madd(element16(row, type, first &+ 16, 16), weight, sum.1)
        guard columnsAtOnce == 64 else { return }
        sum.2 = madd(element16(row, type, first &+ 32, 16), weight, sum.2)
        sum.3 = madd(element16(row, type, first &+ 48, 16), weight, sum.3)
      }
      var i = 0
      while i &+ 2 <= count {
        add(&even, i)
        add(&odd, i &+ 1)
        i &+= 2
      }
      if i < count { add(&even, i) }
      let to = sums + first
      storeFloats(to, loadFloats(to) + (even.0 + odd.0))
      storeFloats(to + 16, loadFloats(to + 16) + (even.1 + odd.1))
      first &+= columnsAtOnce
      guard columnsAtOnce == 64 else { continue }
      storeFloats(to + 32, loadFloats(to + 32) + (even.2 + odd.2))
      storeFloats(to + 48, loadFloats(to + 48) + (even.3 + odd.3))
    }
    while first < width {
      var sum = loadFloats(sums + first)
      for i in 0..<count {
        sum = madd(element16(rows + i &* pitch, type, first, width &- first), splat(weights[i]), sum)
      }
      storeFloats(sums + first, sum)
      first &+= 16
    }
  }
}
