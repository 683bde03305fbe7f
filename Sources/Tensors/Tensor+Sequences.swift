/// Tensors of numbers that follow each other, and integers counted on.
extension Tensor {
  /// f32 [n]: `start`, `start + step`, ... as long as they are before `stop`, each computed in double precision.
  /// - Throws: `TensorError.badValue` when the three give no range of fewer than 10^9 numbers;
  ///   `TensorError.outOfMemory`.
  public convenience init(from start: Double, to stop: Double, by step: Double = 1, on backend: any Backend) throws {
    let count = ((stop - start) / step).rounded(.up)
    guard step != 0, count.isFinite, abs(count) < 1e9 else {
      throw TensorError.badValue(
        operation: "arange", name: "start, stop and step", value: "\(start), \(stop) and \(step)",
        expected: "a range of fewer than 10^9 numbers")
    }
    // The numbers are there twice for a moment; Swift ends a program whose arrays get no memory.
    let byteCount = 8 * max(0, Int(count))
    try backend.memory.require(byteCount)
    guard AddressSpace.hasRoom(for: byteCount) else {
      throw TensorError.outOfMemory(byteCount: byteCount, used: backend.memory.total, limit: nil)
    }
    try self.init((0..<max(0, Int(count))).map { Float(start + Double($0) * step) }, on: backend)
  }

  /// The unit matrix, f32 [size, size].
  /// - Throws: `TensorError.badValue` for a size outside 0...32768; `TensorError.outOfMemory`.
  public convenience init(identity size: Int, on backend: any Backend) throws {
    guard (0...32768).contains(size) else {
      throw TensorError.badValue(operation: "eye", name: "size", value: "\(size)", expected: "0 to 32768")
    }
    try self.init(full: [size, size], value: 0, on: backend)
    let diagonal = Tensor(storage: storage, dtype: .f32, shape: [size], strides: [size + 1])
    try backend.fill(diagonal, 1)
  }

  /// An i64 tensor with the given elements in row-major order.
  /// - Throws: `TensorError.elementCount` when the shape holds another number of them; `TensorError.badShape`;
  ///   `TensorError.outOfMemory`.
  public convenience init(integers values: [Int], shape: [Int]? = nil, on backend: any Backend) throws {
    let shape = shape ?? [values.count]
    guard try Shape.elementCount(shape, operation: "tensor") == values.count else {
      throw TensorError.elementCount(operation: "tensor", from: [values.count], to: shape)
    }
    try self.init(empty: shape, dtype: .i64, on: backend)
    try values.withUnsafeBytes { try write($0) }
  }

  /// i64 of the same shape: every element of an integer tensor plus `amount`, wrapping at 64 bits.
  /// - Throws: `TensorError.badDType` for floats; `TensorError.outOfMemory`.
  public func shifted(by amount: Int) throws -> Tensor {
    try Tensor(integers: try integers().map { $0 &+ amount }, shape: shape, on: backend)
  }
}
