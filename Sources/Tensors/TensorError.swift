import Glibc

/// Everything that can go wrong with tensors, as data; `description` is the one place where it is worded.
public enum TensorError: Error, Equatable, Sendable {
  /// Operands whose shapes have to be equal or to broadcast, and do not.
  case shapeMismatch(operation: String, lhs: [Int], rhs: [Int])
  /// Matrices whose dimensions of the contraction differ.
  case innerDimensions(operation: String, lhs: [Int], rhs: [Int])
  /// A shape that the operation does not take.
  case badShape(operation: String, shape: [Int], problem: ShapeProblem)
  /// A shape for another number of elements than there are.
  case elementCount(operation: String, from: [Int], to: [Int])
  /// A dimension, from 0, that a tensor of `rank` dimensions does not have.
  case badDimension(operation: String, dimension: Int, rank: Int)
  /// An index, from 0, outside 0..<count.
  case badIndex(operation: String, index: Int, count: Int)
  /// A dtype that the operation does not take.
  case badDType(operation: String, got: DType, expected: [DType])
  /// Operands whose dtypes have to be equal, and are not.
  case dtypeMismatch(operation: String, lhs: DType, rhs: DType)
  /// An argument outside its range.
  case badValue(operation: String, name: String, value: String, expected: String)
  /// `byteCount` bytes more than the limit allows, or than the system has when `limit` is nil; `used` bytes are in use.
  case outOfMemory(byteCount: Int, used: Int, limit: Int?)
  /// A tensor that has to have one element, and has not.
  case notScalar(operation: String, shape: [Int])
  /// A tensor without the graph that a backward pass needs.
  case noGraph(operation: String)
  /// An earlier backward pass has used what the operations had recorded.
  case graphConsumed(operation: String)
  /// A change in place of a tensor that takes part in a gradient computation.
  case inPlaceOnGraph(operation: String)
  /// A tensor was changed in place that the gradient of a recorded operation is computed from.
  case changedInPlace(operation: String, recorded: String)
  /// A spill file that cannot be made, written or read, with the system's error code; `path` is its directory.
  case spillFailed(content: SpillContent, path: String, operation: SpillOperation, code: Int32)
  /// A spill file that does not give back what was written at byte `offset`; `path` is its directory.
  case spillDamaged(content: SpillContent, path: String, offset: Int)
  /// No thread for reading and writing, with the system's error code.
  case noThread(code: Int32)
  /// What a device cannot do.
  case unsupported(device: String, operation: String)
  /// Operands that lie on different devices, or on two backends of one.
  case otherDevice(operation: String, lhs: String, rhs: String)
  /// The program was asked to stop; see `Interruption`.
  case interrupted

  /// What was done to a spill file when it failed.
  public enum SpillOperation: String, Sendable { case create, write, read }

  /// Why an operation does not take a shape.
  public enum ShapeProblem: Sendable, Equatable {
    /// More than `limit` dimensions.
    case tooManyDimensions(limit: Int)
    /// A dimension below 0.
    case negativeDimension
    /// More than a single -1 that follows from the other dimensions.
    case unknownDimensions
    /// More than 2^46 elements, or so many if the dimensions of size 0 were left out.
    case tooManyElements
    /// Another number of dimensions than 2.
    case notAMatrix
    /// Another number of dimensions than 2, or no elements.
    case emptyMatrix
    /// No elements along the dimension that is reduced.
    case nothingToReduce
    /// No dimensions, or a last one of size 0.
    case noLastDimension
    /// Elements that do not lie packed.
    case notContiguous
  }
}

extension TensorError: CustomStringConvertible {
  /// One line that begins with the operation where there is one; byte counts in binary units.
  public var description: String {
    switch self {
    case .shapeMismatch(let operation, let lhs, let rhs):
      "\(operation): shapes do not match: \(lhs) and \(rhs)"
    case .innerDimensions(let operation, let lhs, let rhs):
      "\(operation): inner dimensions differ: lhs \(lhs), rhs \(rhs)"
    case .interrupted:
      "interrupted"
    case .badShape(let operation, let shape, let problem):
      "\(operation): shape \(shape) \(problem)"
    case .elementCount(let operation, let from, let to):
      "\(operation): cannot view \(from) as \(to): \(from.reduce(1, &*)) elements against \(to.reduce(1, &*))"
    case .badDimension(let operation, let dimension, let rank):
      "\(operation): dimension \(dimension) does not exist, the tensor has \(rank), counted from 0"
    case .badIndex(let operation, let index, let count):
      "\(operation): index \(index) is outside 0..<\(count)"
    case .badDType(let operation, let got, let expected):
      "\(operation): dtype \(got.name) is not supported, expected \(expected.map(\.name).joined(separator: " or "))"
    case .dtypeMismatch(let operation, let lhs, let rhs):
      "\(operation): dtypes differ: \(lhs.name) and \(rhs.name)"
    case .badValue(let operation, let name, let value, let expected):
      "\(operation): \(name) is \(value), expected \(expected)"
    case .outOfMemory(let byteCount, let used, let limit):
      limit.map {
        "out of memory: \(byteText(byteCount)) asked for, \(byteText(used)) in use by the whole process, the limit "
          + "is \(byteText($0))"
      } ?? "out of memory: the system has no \(byteText(byteCount)) left (\(byteText(used)) in use)"
    case .notScalar(let operation, let shape):
      "\(operation): expected a tensor with one element, got shape \(shape)"
    case .noGraph(let operation):
      "\(operation): this tensor was not computed from anything that wants a gradient"
    case .graphConsumed(let operation):
      "\(operation): an earlier backward pass has used what was recorded; a second one needs a new forward pass"
    case .inPlaceOnGraph(let operation):
      "\(operation): in-place change of a tensor that takes part in a gradient computation"
    case .changedInPlace(let operation, let recorded):
      "\(operation): a tensor that the gradient of \(recorded) is computed from was changed in place after it was used"
    case .spillFailed(let content, let path, .create, let code):
      "cannot create a spill file for \(content.name) in \(path): \(String(cString: strerror(code)))"
    case .spillFailed(let content, let path, .write, let code):
      "cannot write \(content.name) to the spill file in \(path): \(String(cString: strerror(code))); "
        + "what is in memory is unharmed"
    case .spillFailed(let content, let path, .read, let code):
      "cannot read \(content.name) from the spill file in \(path): \(String(cString: strerror(code)))"
    case .spillDamaged(let content, let path, let offset):
      "the spill file in \(path) does not give back at offset \(offset) what was written "
        + "there (\(content.name)): it was cut short or changed while running"
    case .noThread(let code):
      "the system gives no thread for reading and writing (\(String(cString: strerror(code))))"
    case .unsupported(let device, let operation):
      "the device \(device) does not support \(operation)"
    case .otherDevice(let operation, let lhs, let rhs):
      "\(operation): operands lie on different devices: lhs on \(lhs), rhs on "
        + (lhs == rhs ? "another backend of the same kind" : rhs)
    }
  }
}

extension TensorError.ShapeProblem: CustomStringConvertible {
  /// What follows the shape in the text of `badShape`, for example "is not a matrix".
  public var description: String {
    switch self {
    case .tooManyDimensions(let limit): "has more than \(limit) dimensions"
    case .negativeDimension: "has a negative dimension"
    case .unknownDimensions: "has more negative dimensions than one of -1, which follows from the others"
    case .tooManyElements: "has too many elements"
    case .notAMatrix: "is not a matrix"
    case .emptyMatrix: "is not a matrix with elements"
    case .nothingToReduce: "has nothing to reduce"
    case .noLastDimension: "has no last dimension"
    case .notContiguous: "is not contiguous"
    }
  }
}
