import Glibc

/// Everything that can go wrong with tensors, as data; `description` is the one place where it is worded.
public enum TensorError: Error, Equatable, Sendable {
  case shapeMismatch(operation: String, lhs: [Int], rhs: [Int])
  case innerDimensions(operation: String, lhs: [Int], rhs: [Int])
  case badShape(operation: String, shape: [Int], reason: String)
  case elementCount(operation: String, from: [Int], to: [Int])
  case badDimension(operation: String, dimension: Int, rank: Int)
  case badIndex(operation: String, index: Int, count: Int)
  case badDType(operation: String, got: DType, expected: [DType])
  case dtypeMismatch(operation: String, lhs: DType, rhs: DType)
  case badValue(operation: String, name: String, value: String, expected: String)
  case outOfMemory(byteCount: Int, used: Int, limit: Int?)
  case notScalar(operation: String, shape: [Int])
  case noGraph(operation: String)
  case inPlaceOnGraph(operation: String)
  case spillFailed(content: SpillContent, path: String, operation: SpillOperation, code: Int32)
  case spillDamaged(content: SpillContent, path: String, offset: Int)
  case noThread(code: Int32)
  /// What a device cannot do.
  case unsupported(device: String, operation: String)
  /// Operands that lie on different devices, or on two backends of one.
  case otherDevice(operation: String, lhs: String, rhs: String)

  public enum SpillOperation: String, Sendable { case create, write, read }
}

extension TensorError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .shapeMismatch(let operation, let lhs, let rhs):
      "\(operation): shapes do not match: \(lhs) and \(rhs)"
    case .innerDimensions(let operation, let lhs, let rhs):
      "\(operation): inner dimensions differ: lhs \(lhs), rhs \(rhs)"
    case .badShape(let operation, let shape, let reason):
      "\(operation): shape \(shape) \(reason)"
    case .elementCount(let operation, let from, let to):
      "\(operation): cannot view \(from) as \(to): \(from.reduce(1, *)) elements against \(to.reduce(1, &*))"
    case .badDimension(let operation, let dimension, let rank):
      "\(operation): dimension \(dimension) does not exist, the tensor has \(rank)"
    case .badIndex(let operation, let index, let count):
      "\(operation): index \(index) is outside 1..\(count)" + (index == 0 ? "; tensors count from 1, as Lua does" : "")
    case .badDType(let operation, let got, let expected):
      "\(operation): dtype \(got.name) is not supported, expected \(expected.map(\.name).joined(separator: " or "))"
    case .dtypeMismatch(let operation, let lhs, let rhs):
      "\(operation): dtypes differ: \(lhs.name) and \(rhs.name); convert one with :to(\"\(lhs.name)\")"
    case .badValue(let operation, let name, let value, let expected):
      "\(operation): \(name) is \(value), expected \(expected)"
    case .outOfMemory(let byteCount, let used, let limit):
      (limit.map {
        "out of memory: \(Self.size(byteCount)) asked for, \(Self.size(used)) in use by the whole process, the limit "
          + "is \(Self.size($0)) (--memory, or the machine's); "
      } ?? "out of memory: the system has no \(Self.size(byteCount)) left (\(Self.size(used)) in use); ")
        + "lower micro_batch or max_length, set checkpointing = true, page the optimizer (paged = true, a smaller "
        + "budget) or load with stream = true; qlora-run --plan shows what each would change"
    case .notScalar(let operation, let shape):
      "\(operation): expected a tensor with one element, got shape \(shape)"
    case .noGraph(let operation):
      "\(operation): this tensor was not computed from anything with requires_grad"
    case .inPlaceOnGraph(let operation):
      "\(operation): in-place change of a tensor that takes part in a gradient computation; use the form without _"
    case .spillFailed(let content, let path, .create, let code):
      "cannot create a spill file for \(content.name) in \(path): \(String(cString: strerror(code))); "
        + "set \(content.option) to a directory that can be written and has room"
    case .spillFailed(let content, let path, .write, let code):
      "cannot write \(content.name) to the spill file in \(path): \(String(cString: strerror(code))); what is in memory "
        + "is unharmed: free space there, or set \(content.option) to a directory on another disk, and go on with --resume"
    case .spillFailed(let content, let path, .read, let code):
      "cannot read \(content.name) from the spill file in \(path): \(String(cString: strerror(code))); if the disk fails, "
        + "set \(content.option) to a directory on another one, and go on from the last checkpoint with --resume"
    case .spillDamaged(let content, let path, let offset):
      "the spill file in \(path) does not give back at offset \(offset) what was written there (\(content.name)): it was "
        + "cut short or changed while running; go on from the last checkpoint with --resume"
    case .noThread(let code):
      "the system gives no thread for reading and writing (\(String(cString: strerror(code)))); end other programs or "
        + "raise the limit (ulimit -u)"
    case .unsupported(let device, let operation):
      "the device \(device) does not support \(operation)"
    case .otherDevice(let operation, let lhs, let rhs):
      "\(operation): operands lie on different devices: lhs on \(lhs), rhs on "
        + (lhs == rhs ? "another backend of the same kind" : rhs)
    }
  }

  private static func size(_ byteCount: Int) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    var (value, unit) = (Double(byteCount), 0)
    while value >= 1024, unit < 4 { (value, unit) = (value / 1024, unit + 1) }
    // Rounded by hand: there is no printf here.
    return unit == 0 ? "\(byteCount) bytes" : "\(Double(Int(value * 100 + 0.5)) / 100) \(units[unit])"
  }
}
