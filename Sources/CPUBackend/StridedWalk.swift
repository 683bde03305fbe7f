/// Walks several strided operands of one shape together, in runs along the last dimension.
///
/// Dimensions of size 1 are left out, and those that follow each other in memory in every operand are one, so that
/// packed operands, and those of which all elements are the same, are one run.
struct StridedWalk: Sendable {
  typealias Axis = (count: Int, strides: [Int])

  /// Elements of a whole run.
  let runCount: Int
  /// Of each operand, from one element of a run to the next.
  let runStrides: [Int]
  /// The dimensions over the runs, with the strides of each operand.
  let outer: [Axis]

  init(shape: [Int], strides: [[Int]]) {
    var axes: [Axis] = []
    for axis in shape.indices where shape[axis] != 1 {
      let next: Axis = (shape[axis], strides.map { $0[axis] })
      if let last = axes.last, zip(last.strides, next.strides).allSatisfy({ $0 == $1 * next.count }) {
        axes[axes.count - 1] = (last.count * next.count, next.strides)
      } else {
        axes.append(next)
      }
    }
    (runCount, runStrides) = axes.popLast() ?? (1, strides.map { _ in 1 })
    outer = axes
  }

  /// Where element `index` in row-major order lies in each operand.
  func offsets(at index: Int) -> [Int] {
    var offsets = runStrides.map { index % runCount * $0 }
    var rest = index / runCount
    for axis in outer.reversed() {
      for operand in offsets.indices { offsets[operand] += rest % axis.count * axis.strides[operand] }
      rest /= axis.count
    }
    return offsets
  }

  /// Calls `body` for elements `range` in row-major order, a run or a part of one at a time, with the offset of its
  /// first element in each operand and the number of elements.
  func forEachRun(_ range: Range<Int>, _ body: (_ offsets: [Int], _ count: Int) -> Void) {
    guard !range.isEmpty else { return }
    let start = range.lowerBound % runCount
    let first = min(range.count, runCount - start)
    body(offsets(at: range.lowerBound), first)
    var rest = range.count - first
    guard rest > 0 else { return }
    var row = range.lowerBound / runCount + 1
    var offsets = offsets(at: row * runCount)
    var index = outer.map { _ in 0 }
    for axis in outer.indices.reversed() {
      index[axis] = row % outer[axis].count
      row /= outer[axis].count
    }
    while true {
      body(offsets, min(rest, runCount))
      rest -= runCount
      guard rest > 0 else { return }
      var axis = outer.count - 1
      while true {
        let (count, strides) = outer[axis]
        index[axis] += 1
        for operand in strides.indices { offsets[operand] += strides[operand] }
        if index[axis] < count { break }
        for operand in strides.indices { offsets[operand] -= strides[operand] * count }
        index[axis] = 0
        axis -= 1
      }
    }
  }
}

/// Elements per chunk of a strided loop.
let stridedGrain = 8192
