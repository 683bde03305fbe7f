/// A strided view of a storage block, with the slots that automatic differentiation uses.
///
/// Shapes are row-major; strides and offset count elements. Tensors are cheap references: views share storage.
/// Operations are in Autograd (differentiable) and in `Backend` (destination passing).
public final class Tensor: @unchecked Sendable {
  /// The block that holds the elements.
  public let storage: Storage
  /// The type of the elements.
  public let dtype: DType
  /// Elements along each dimension; empty for a single number.
  public let shape: [Int]
  /// The first element's place in the storage, in elements.
  public let offset: Int
  /// Strides that the shape does not tell; nil when it is row-major, as nearly every tensor.
  let ownStrides: [Int]?

  /// Whether a gradient is wanted for this tensor (a leaf that is trained) or flows through it (a result).
  public var requiresGradient = false
  /// Sum of the gradients that backward passes brought to this leaf.
  public var gradient: Tensor?
  /// The operation that produced this tensor; set and read by Autograd only.
  public var producer: AnyObject?
  /// Whether this is a gradient that its rule made for one input and holds no longer, so that a leaf may keep it; set
  /// and read by Autograd only.
  public var isHandedOver = false

  /// A view of a block; nil `strides` are row-major. Whether it lies inside the block is not checked.
  public init(storage: Storage, dtype: DType, shape: [Int], strides: [Int]? = nil, offset: Int = 0) {
    self.storage = storage
    self.dtype = dtype
    self.shape = shape
    self.ownStrides = strides
    self.offset = offset
  }

  /// A new tensor with undefined contents.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.badShape` for a negative dimension, more than eight of them, or
  ///   more than 2^46 elements.
  public convenience init(
    empty shape: [Int], dtype: DType = .f32, category: MemoryCategory = .activations, on backend: any Backend
  ) throws {
    let count = try Shape.elementCount(shape, operation: "tensor")
    let storage = try backend.allocate(byteCount: count * dtype.byteCount, category: category)
    self.init(storage: storage, dtype: dtype, shape: shape)
  }

  /// A new tensor filled with one value.
  /// - Throws: `TensorError.outOfMemory`, `TensorError.badShape`; what the device reports.
  public convenience init(
    full shape: [Int], value: Double, dtype: DType = .f32, category: MemoryCategory = .activations,
    on backend: any Backend
  ) throws {
    try self.init(empty: shape, dtype: dtype, category: category, on: backend)
    try backend.fill(self, value)
  }

  /// A new f32 tensor with the given elements in row-major order, without a shape [n].
  /// - Throws: `TensorError.elementCount` when the shape holds another number of them; `TensorError.badShape`;
  ///   `TensorError.outOfMemory`; what the device reports.
  public convenience init(
    _ values: [Float], shape: [Int]? = nil, category: MemoryCategory = .activations, on backend: any Backend
  ) throws {
    let shape = shape ?? [values.count]
    let count = try Shape.elementCount(shape, operation: "tensor")
    guard count == values.count else {
      throw TensorError.elementCount(operation: "tensor", from: [values.count], to: shape)
    }
    try self.init(empty: shape, dtype: .f32, category: category, on: backend)
    try values.withUnsafeBytes { try write($0) }
  }

  /// A new i32 tensor with the given elements in row-major order, for token ids, labels and positions.
  /// - Throws: `TensorError.elementCount` when the shape holds another number of them; `TensorError.badShape`;
  ///   `TensorError.outOfMemory`; what the device reports.
  public convenience init(
    ids values: [Int32], shape: [Int]? = nil, category: MemoryCategory = .activations, on backend: any Backend
  ) throws {
    let shape = shape ?? [values.count]
    guard try Shape.elementCount(shape, operation: "tensor") == values.count else {
      throw TensorError.elementCount(operation: "tensor", from: [values.count], to: shape)
    }
    try self.init(empty: shape, dtype: .i32, category: category, on: backend)
    try values.withUnsafeBytes { try write($0) }
  }

  /// The backend of the storage.
  public var backend: any Backend { storage.backend }
  /// The number of dimensions.
  public var rank: Int { shape.count }
  /// The product of the dimensions; 1 without any.
  public var elementCount: Int { shape.reduce(1, *) }
  /// Bytes of the elements, packed.
  public var byteCount: Int { elementCount * dtype.byteCount }

  /// Elements from one index to the next along each dimension.
  public var strides: [Int] { ownStrides ?? Shape.rowMajorStrides(shape) }
  /// Elements from one row to the next, whatever lies in a row: the stride of the first dimension, 1 without any.
  public var rowStride: Int { ownStrides?.first ?? shape.dropFirst().reduce(1) { $0 * max(1, $1) } }

  /// Whether the elements lie packed in row-major order.
  public var isContiguous: Bool {
    guard let ownStrides else { return true }
    var expected = 1
    for axis in shape.indices.reversed() where shape[axis] != 1 {
      if ownStrides[axis] != expected { return shape.contains(0) }
      expected *= shape[axis]
    }
    return true
  }

  /// The elements in row-major order as f32 values, rounded where they are not.
  /// - Throws: `TensorError.outOfMemory`; what the device reports.
  public func floats() throws -> [Float] {
    let source = try dtype == .f32 ? contiguous() : converted(to: .f32)
    return try source.withHostBytes { Array($0.bindMemory(to: Float.self)) }
  }

  /// The elements of an integer tensor in row-major order.
  /// - Throws: `TensorError.badDType` for floats; `TensorError.outOfMemory`; what the device reports.
  public func integers() throws -> [Int] {
    let source = try contiguous()
    switch dtype {
    case .i64: return try source.withHostBytes { $0.bindMemory(to: Int64.self).map(Int.init) }
    case .i32: return try source.withHostBytes { $0.bindMemory(to: Int32.self).map(Int.init) }
    case .u8: return try source.withHostBytes { $0.map(Int.init) }
    default: throw TensorError.badDType(operation: "integers", got: dtype, expected: [.i64, .i32, .u8])
    }
  }

  /// The double-precision numbers whose bits the elements of an i64 tensor hold, as `Backend.sumOfSquares` leaves them.
  /// - Throws: `TensorError.badDType` for other dtypes; `TensorError.outOfMemory`; what the device reports.
  public func doubles() throws -> [Double] {
    guard dtype == .i64 else { throw TensorError.badDType(operation: "doubles", got: dtype, expected: [.i64]) }
    return try contiguous().withHostBytes { $0.bindMemory(to: UInt64.self).map(Double.init(bitPattern:)) }
  }

  /// The only element as a number.
  /// - Throws: `TensorError.notScalar` unless there is one element; `TensorError.outOfMemory`; what the device reports.
  public func item() throws -> Double {
    guard elementCount == 1 else { throw TensorError.notScalar(operation: "item", shape: shape) }
    if dtype.isFloat { return Double(try floats()[0]) }
    return Double(try integers()[0])
  }
}
