/// An optimizer that was chosen, with its numbers and where its state lies.
public struct OptimizerOptions: Sendable {
  /// The optimizer.
  public let rule: OptimizerRule
  /// Bits of the state of parameters with 4096 elements or more; smaller ones keep the widest that the rule offers.
  public var bits: Int
  /// The numbers that are given, by the names of the rule's hyperparameters; the others have their defaults.
  public var values: [String: [Float]]
  /// Whether state beyond `budget` goes to a spill file.
  public var isPaged: Bool
  /// Most bytes of state in memory when paged.
  public var budget: Int
  /// Where the spill file is made.
  public var spillDirectory: String
  /// Most elements whose state is one page; a multiple of the block size of 8-bit state.
  public var pageElementCount = 1 << 18

  /// Options with these numbers, which `check` has not seen.
  /// - Parameters:
  ///   - rule: the optimizer.
  ///   - learningRate: the number named `lr`.
  ///   - bits: width of the state; nil takes the rule's first.
  ///   - values: the other numbers, such as `["betas": [0.9, 0.99]]`.
  ///   - isPaged: whether state beyond the budget goes to a file.
  ///   - budget: most bytes of state in memory when paged.
  ///   - spillDirectory: where the spill file is made.
  public init(
    _ rule: OptimizerRule, learningRate: Float, bits: Int? = nil, _ values: [String: [Float]] = [:],
    isPaged: Bool = false, budget: Int = 256 << 20, spillDirectory: String = "."
  ) {
    self.rule = rule
    self.bits = bits ?? rule.widths.first ?? 32
    self.values = values
    self.isPaged = isPaged
    self.budget = budget
    self.spillDirectory = spillDirectory
    self.learningRate = learningRate
  }

  /// The number named `lr`.
  public var learningRate: Float {
    get { values[Hyperparameter.learningRate.name]?.first ?? 0 }
    set { values[Hyperparameter.learningRate.name] = [newValue] }
  }

  /// Checks the numbers, the width of the state and the budget.
  /// - Throws: `OptimizerError.unknownOption` for a number that the rule does not have, `.badOption` for a value out of
  ///   its range, a number that is missing, bits that the rule does not offer and a budget below 1 byte when paged.
  public func check() throws(OptimizerError) {
    _ = try rule.values(values)
    _ = try rule.kernel(bits: bits)
    guard !isPaged || budget > 0 else {
      throw .badOption(name: "budget", value: String(budget), expected: "at least 1 byte")
    }
  }
}
