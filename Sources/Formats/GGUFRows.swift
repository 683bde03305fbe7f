import Tensors

/// Encodes the rows of a matrix in the order of a GGUF file, some at a time.
package struct GGUFRows {
  package let type: GGMLType
  /// Elements of a row; a multiple of the format's block.
  package let columns: Int
  /// The stored row of each row; nil where it is the same.
  package let order: ((Int) -> Int)?
  /// The stored column of each column; nil where it is the same.
  package let columnOrder: ((Int) -> Int)?
  /// What is stored of each element; nil where it is the element.
  package let change: ((Float) -> Float)?

  package init(
    type: GGMLType, columns: Int, order: ((Int) -> Int)? = nil, columnOrder: ((Int) -> Int)? = nil,
    change: ((Float) -> Float)? = nil
  ) {
    self.type = type
    self.columns = columns
    self.order = order
    self.columnOrder = columnOrder
    self.change = change
  }

  private static let pieceLength = 1 << 18

  /// Hands the bytes of all rows to `sink`, in pieces.
  package func encode(
    _ values: UnsafeBufferPointer<Float>, _ sink: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    guard let base = values.baseAddress, columns > 0 else { return }
    let rows = values.count / columns
    var origin = Array(0..<rows)
    if let order { for row in 0..<rows { origin[order(row)] = row } }
    let height = min(rows, max(1, Self.pieceLength / columns))
    let pitch = columns / type.blockSize * type.blockBytes
    var source = [Float](repeating: 0, count: height * columns)
    var bytes = [UInt8](repeating: 0, count: height * pitch)
    for first in stride(from: 0, to: rows, by: height) {
      let count = min(height, rows - first)
      try source.withUnsafeMutableBufferPointer { source in
        guard let start = source.baseAddress else { return }
        for row in 0..<count {
          let (target, values) = (start + row * columns, base + origin[first + row] * columns)
          if let columnOrder {
            for column in 0..<columns { target[columnOrder(column)] = values[column] }
          } else {
            target.update(from: values, count: columns)
          }
        }
        if let change { for index in 0..<count * columns { start[index] = change(start[index]) } }
        try bytes.withUnsafeMutableBytes { bytes in
          guard let target = bytes.baseAddress else { return }
          BlockEncoder.run(type, start, blocks: count * columns / type.blockSize, into: target)
          try sink(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(bytes)[..<(count * pitch)]))
        }
      }
    }
  }

  /// The index of the first element that is no finite number; nil where all are.
  package static func firstNonFinite(_ values: UnsafeBufferPointer<Float>) -> Int? {
    values.firstIndex { !$0.isFinite }
  }
}

extension WeightSource {
  /// Sums over the elements of a tensor: the square of the difference from `values`, and the square of `values`.
  package func squaredError(
    _ name: String, from values: UnsafeBufferPointer<Float>
  ) throws(FormatError) -> (error: Double, size: Double) {
    let read = try read(name)
    var (error, size) = (0.0, 0.0)
    for index in 0..<min(read.count, values.count) {
      let difference = Double(values[index] - read[index])
      error += difference * difference
      size += Double(values[index]) * Double(values[index])
    }
    return (error, size)
  }
}
