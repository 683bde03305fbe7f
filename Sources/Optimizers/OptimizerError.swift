/// What can go wrong with optimizers and their paged state, as data.
public enum OptimizerError: Error, Equatable, Sendable {
  /// An option, or an argument of a step, that is missing or out of its range.
  case badOption(name: String, value: String, expected: String)
  /// An option that this rule does not have; `known` are those it has.
  case unknownOption(rule: String, name: String, known: [String])
  /// A parameter that is not f32.
  case notF32(parameter: String, dtype: String)
  /// A parameter that is not contiguous.
  case notPacked(parameter: String)
  /// A tensor that is given twice: it would be updated twice in a step.
  case repeated(parameter: String)
  /// A budget, in bytes, that cannot hold two pages of state.
  case budgetTooSmall(budget: Int, minimum: Int)
  /// Stored state that does not belong to these parameters and this rule.
  case stateMismatch(path: String, what: String, expected: String, got: String)
  /// A gradient whose shape is not its parameter's.
  case gradientShape(parameter: String, expected: [Int], got: [Int])
  /// Some parameters have had this step and others not, for its update failed.
  case unfinishedStep(Int)
  /// A limit of the gradient norm that is 0, negative or NaN.
  case badGradientLimit(Double)
}

extension OptimizerError: CustomStringConvertible {
  /// The fault in words, with the values that caused it.
  public var description: String {
    switch self {
    case .badOption(let name, let value, let expected):
      "optimizer: \(name) is \(value), expected \(expected)"
    case .unknownOption(let rule, let name, let known):
      "optimizer: \(rule) has no option '\(name)'; it has \(known.joined(separator: ", "))"
    case .notF32(let parameter, let dtype):
      "optimizer: \(parameter) is \(dtype); trained parameters are f32"
    case .notPacked(let parameter):
      "optimizer: \(parameter) is a view with gaps; trained parameters are contiguous"
    case .repeated(let parameter):
      "optimizer: \(parameter) is given twice"
    case .budgetTooSmall(let budget, let minimum):
      "optimizer: a budget of \(budget) bytes cannot hold two pages of state; give at least \(minimum)"
    case .stateMismatch(let path, let what, let expected, let got):
      "\(path): \(what) is \(got), expected \(expected); the checkpoint belongs to another optimizer or selection"
    case .gradientShape(let parameter, let expected, let got):
      "optimizer: the gradient of \(parameter) has shape \(got), expected \(expected)"
    case .unfinishedStep(let step):
      "optimizer: the update of step \(step) stopped midway; call step again to finish it with the "
        + "same gradients, or go on from a checkpoint"
    case .badGradientLimit(let limit):
      "the largest gradient norm is \(limit), expected a number above 0; infinity only measures"
    }
  }
}
