/// What can go wrong with optimizers and their paged state, as data.
public enum OptimizerError: Error, Equatable, Sendable {
  case badOption(name: String, value: String, expected: String)
  case notF32(parameter: String, dtype: String)
  case budgetTooSmall(budget: Int, minimum: Int)
  case spillFailed(path: String, operation: String, code: Int32)
  case spillTruncated(path: String, offset: Int, byteCount: Int, got: Int)
  case stateMismatch(path: String, what: String, expected: String, got: String)
  case gradientShape(parameter: String, expected: [Int], got: [Int])
}

extension OptimizerError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .badOption(let name, let value, let expected):
      "optimizer: \(name) is \(value), expected \(expected)"
    case .notF32(let parameter, let dtype):
      "optimizer: \(parameter) is \(dtype); trained parameters are f32"
    case .budgetTooSmall(let budget, let minimum):
      "optimizer: a budget of \(budget) bytes cannot hold two pages of state; give at least \(minimum)"
    case .spillFailed(let path, let operation, let code):
      "optimizer: cannot \(operation) the spill file in \(path): \(errorText(code)); the state in memory is unharmed, "
        + "free space or set spill to a directory on another disk"
    case .spillTruncated(let path, let offset, let byteCount, let got):
      "optimizer: the spill file in \(path) gave \(got) of \(byteCount) bytes at offset \(offset); it was truncated while "
        + "running, resume from the last checkpoint"
    case .stateMismatch(let path, let what, let expected, let got):
      "\(path): \(what) is \(got), expected \(expected); the checkpoint belongs to another optimizer or selection"
    case .gradientShape(let parameter, let expected, let got):
      "optimizer: the gradient of \(parameter) has shape \(got), expected \(expected)"
    }
  }
}
