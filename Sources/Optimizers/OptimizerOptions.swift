/// An optimizer that was chosen, with its numbers and where its state lies.
public struct OptimizerOptions: Sendable {
  public let rule: OptimizerRule
  /// Of the state of large parameters; those below 4096 elements keep the widest that the rule offers.
  public var bits: Int
  /// The numbers that are given, by the names of the rule's hyperparameters; the others have their defaults.
  public var values: [String: [Float]]
  public var isPaged: Bool
  /// Most bytes of state in memory when paged.
  public var budget: Int
  public var spillDirectory: String
  /// Most elements whose state is one page; a multiple of the block size of 8-bit state.
  public var pageElementCount = 1 << 18

  /// - Parameters:
  ///   - bits: nil takes the rule's first.
  ///   - values: the other numbers, such as `["betas": [0.9, 0.99]]`.
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

  /// - Throws: `OptimizerError.unknownOption` for a number that the rule does not have, `.badOption` for a value out of
  ///   its range.
  public func check() throws(OptimizerError) {
    _ = try rule.values(values)
    _ = try rule.kernel(bits: bits)
    guard !isPaged || budget > 0 else {
      throw .badOption(name: "budget", value: String(budget), expected: "at least 1 byte")
    }
  }
}
