/// Summaries of a tensor that are small enough to print or draw.
extension Tensor {
  /// The `count` largest elements of each row of the last dimension and their positions from 0, descending; equal
  /// values in order of position, NaN first, as in sorting.
  package func largest(_ count: Int) throws -> (values: Tensor, positions: [Int]) {
    let width = shape.last ?? 1
    guard rank >= 1, width > 0 else {
      throw TensorError.badShape(operation: "topk", shape: shape, problem: .noLastDimension)
    }
    try (1...width).require(count, "k", operation: "topk")
    let elements = try floats()
    var values: [Float] = []
    var positions: [Int] = []
    for start in stride(from: 0, to: elements.count, by: width) {
      func precedes(_ a: Int, _ b: Int) -> Bool {
        elements[a] > elements[b] || elements[a].isNaN && !elements[b].isNaN
      }
      var best: [Int] = []
      // A short sorted list beats sorting a whole vocabulary; a long one does not.
      if count > 64 {
        best = Array((start..<start + width).sorted { precedes($0, $1) || !precedes($1, $0) && $0 < $1 }.prefix(count))
      } else {
        for index in start..<start + width {
          if best.count == count, !precedes(index, best[count - 1]) { continue }
          if best.count == count { best.removeLast() }
          let place = best.firstIndex { precedes(index, $0) } ?? best.count
          best.insert(index, at: place)
        }
      }
      values += best.map { elements[$0] }
      positions += best.map { $0 - start }
    }
    let wanted = Array(shape.dropLast()) + [count]
    return (try Tensor(values, shape: wanted, on: backend), positions)
  }

  /// Counts of the finite elements in equal bins over [low, high], by default their range; elements outside are left
  /// out, the upper border belongs to the last bin.
  package func histogram(bins: Int, low: Double? = nil, high: Double? = nil) throws -> Histogram {
    let elements = try floats()
    let finite = elements.lazy.filter(\.isFinite)
    let bottom = low ?? Double(finite.min() ?? 0)
    let top = high ?? Double(finite.max() ?? 0)
    var counts = [Int](repeating: 0, count: bins)
    let width = (top - bottom) / Double(bins)
    var outside = 0
    for element in elements {
      let value = Double(element)
      guard value >= bottom, value <= top else {
        outside += 1
        continue
      }
      counts[width > 0 ? min(bins - 1, Int((value - bottom) / width)) : 0] += 1
    }
    return Histogram(low: bottom, high: top, counts: counts, outside: outside)
  }

  package struct Histogram: Sendable {
    package let low: Double
    package let high: Double
    package let counts: [Int]
    /// Elements outside the range, NaN among them.
    package let outside: Int
  }

  /// A matrix as means over at most `rows` x `columns` cells of nearly equal size, f32; itself when it is that small.
  package func pooled(rows: Int, columns: Int) throws -> Tensor {
    guard rank == 2, elementCount > 0, rows > 0, columns > 0 else {
      throw TensorError.badShape(operation: "pooled", shape: shape, problem: .emptyMatrix)
    }
    let elements = try floats()
    let (height, width) = (min(rows, shape[0]), min(columns, shape[1]))
    var sums = [Double](repeating: 0, count: height * width)
    var counts = [Double](repeating: 0, count: height * width)
    for row in 0..<shape[0] {
      let target = row * height / shape[0] * width
      for column in 0..<shape[1] {
        let cell = target + column * width / shape[1]
        sums[cell] += Double(elements[row * shape[1] + column])
        counts[cell] += 1
      }
    }
    return try Tensor(zip(sums, counts).map { Float($0 / $1) }, shape: [height, width], on: backend)
  }
}
