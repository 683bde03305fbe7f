import Autograd
import Tensors

/// What a module computes with for a while in the place of its own weight and bias: made anew each time, so that of all
/// modules one is in memory.
package final class StandIn {
  private let make: () throws -> (weight: LinearWeight, bias: Tensor?)
  private var made: Tensor??

  /// - Parameter make: gives a weight of the module's shape and the bias f32 [out], nil where the module has none.
  init(_ make: @escaping () throws -> (weight: LinearWeight, bias: Tensor?)) { self.make = make }

  /// Both; the weight is a new one.
  func operand() throws -> (weight: LinearWeight, bias: Tensor?) {
    let both = try make()
    made = .some(both.bias)
    return both
  }

  /// The bias, which is kept.
  func bias() throws -> Tensor? { try made ?? operand().bias }
}

extension Module {
  /// What a product takes now: what stands in for the module, or its own.
  /// - Throws: `ModelError.notLoaded`; what making it throws, such as `TensorError.outOfMemory`.
  func operand() throws -> (weight: LinearWeight, bias: Tensor?) {
    try window?.enter(self)
    if let standIn { return try standIn.operand() }
    guard let weight = linearWeight else { throw ModelError.notLoaded(module: name) }
    return (weight, bias)
  }

  /// The bias that belongs to `operand`.
  /// - Throws: as `operand`.
  func operandBias() throws -> Tensor? { try standIn?.bias() ?? bias }

  /// Hands over the weight of `operand` in `dtype`, row-major, in one or more pieces.
  /// - Throws: as `operand`, and what `sink` throws.
  func write(in dtype: DType, _ sink: (UnsafeRawBufferPointer) throws -> Void) throws {
    // What is no matrix is small, and vectors have no rows.
    guard kind == .linear || kind == .embedding else { return try stored(in: dtype).withHostBytes { try sink($0) } }
    let weight = try operand().weight
    guard case .dense(let matrix) = weight else { return try weight.stored(in: dtype).withHostBytes { try sink($0) } }
    try matrix.inRowBlocks { try $0.converted(to: dtype, category: .workspace).withHostBytes { try sink($0) } }
  }

  /// The weight of `operand` in `dtype`.
  /// - Throws: as `operand`.
  func stored(in dtype: DType) throws -> Tensor {
    let isMatrix = kind == .linear || kind == .embedding
    return try isMatrix ? operand().weight.stored(in: dtype) : loadedWeight().converted(to: dtype)
  }
}

extension LinearWeight {
  /// A new tensor in `dtype`.
  fileprivate func stored(in dtype: DType) throws -> Tensor {
    switch self {
    case .dense(let weight): try weight.converted(to: dtype)
    case .quantized(let operand): try operand.dequantized(to: dtype)
    case .blocks(let operand): try operand.dequantized(to: dtype)
    }
  }
}

extension Tensor {
  /// Calls `body` with views of the rows of a matrix, some millions of elements each.
  func inRowBlocks(_ body: (Tensor) throws -> Void) throws {
    let rows = max(1, (1 << 22) / max(1, shape[1]))
    for start in stride(from: 0, to: shape[0], by: rows) {
      try body(try narrowed(0, start..<min(start + rows, shape[0])))
    }
  }
}
