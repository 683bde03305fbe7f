import CPlatform
import Numerics

// The steps between the products of attention, on rows of f32 scores.

private let block = AttentionKernels.block

extension Kernels {
  /// Keys of a block that query `position` sees: [low, high) relative to the block's first key.
  @inline(__always)
  static func visible(_ position: Int, _ key: Int, _ keys: Int, _ window: Int) -> (Int, Int) {
    let high = min(keys, position &- key &+ 1)
    let low = window > 0 ? max(0, position &- window &+ 1 &- key) : 0
    return (low, high)
  }

  /// The state of a running softmax before any key: a sink's score is the first term of its sum.
  @inline(__always)
  static func start(
    _ task: AttentionTask, _ top: UnsafeMutablePointer<Float>, _ total: UnsafeMutablePointer<Float>
  ) {
    top.pointee = task.sink
    total.pointee = task.sink > -Float.infinity ? 1 : 0
  }

  /// s := cap * tanh(scale * s / cap)
  @inline(never)
  static func capScores(_ s: UnsafeMutablePointer<Float>, _ columns: Int, _ scale: Float, _ cap: Float) {
    let factor = splat(scale / cap)
    var j = 0
    while j < columns {
      storeFloats(s + j, tanhVector(loadFloats(s + j) * factor) * splat(cap))
      j &+= 16
    }
  }

  /// Turns a row of scores into weights exp(scale * s - max), zero where not visible, and rescales what was summed
  /// before.
  @inline(__always)
  static func softmaxBlock(
    _ s: UnsafeMutablePointer<Float>, _ columns: Int, _ low: Int, _ high: Int, _ top: UnsafeMutablePointer<Float>,
    _ total: UnsafeMutablePointer<Float>, _ sums: UnsafeMutablePointer<Float>, _ width: Int, _ scale: Float
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
    // The scale is positive, so the largest stays the largest.
    let new = max(top.pointee, largest(peak) * scale)
    var sum = splat(0)
    j = 0
    while j < columns {
      let weight = expVector(madd(loadFloats(s + j), splat(scale), splat(-new)))
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
  static func finish(
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

  /// p := exp(scale * s - lse), ds := p * (dp - delta), both zero where not visible. Of capped scores ds is taken
  /// through the cap as well: times 1 - (s / cap)^2.
  @inline(__always)
  static func weightBlock(
    _ p: UnsafeMutablePointer<Float>, _ ds: UnsafeMutablePointer<Float>, _ columns: Int, _ low: Int, _ high: Int,
    _ lse: Float, _ delta: Float, _ scale: Float, _ cap: Float
  ) {
    for j in 0..<max(0, min(low, columns)) { p[j] = -Float.infinity }
    for j in max(0, min(high, columns))..<columns { p[j] = -Float.infinity }
    var j = 0
    while j < columns {
      let score = loadFloats(p + j)
      let weight = expVector(madd(score, splat(scale), splat(-lse)))
      storeFloats(p + j, weight)
      var gradient = weight * (loadFloats(ds + j) - splat(delta))
      if cap > 0 {
        // A score that is not visible is minus infinity, whose weight is zero already.
        let t = larger(score * splat(1 / cap), splat(-1))
        gradient = gradient * (splat(1) - t * t)
      }
      storeFloats(ds + j, gradient)
      j &+= 16
    }
  }

  /// delta[i] = sum over columns of dOut[i] * out[i].
  @inline(__always)
  static func rowProducts(
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
}
