import Tensors

/// A number of an optimizer, or a few under one name, with what it may be.
public struct Hyperparameter: Sendable {
  /// As in Lua and in messages: "weight_decay".
  public let name: String
  /// How many numbers it is: 1, or 2 for "betas".
  public let count: Int
  /// Nil when it must be given.
  public let defaults: [Float]?
  /// What each of the numbers may be.
  public let range: NumberRange
  /// What it means, without its default and range.
  public let meaning: String

  /// A number of a rule; `defaults` are not checked before they are used.
  public init(
    _ name: String, count: Int = 1, defaults: [Float]?, range: NumberRange, _ meaning: String
  ) {
    self.name = name
    self.count = count
    self.defaults = defaults
    self.range = range
    self.meaning = meaning
  }

  /// The given numbers, or the defaults.
  /// - Throws: `OptimizerError.badOption` naming the number that is out of range, or that nothing is given.
  func checked(_ given: [Float]?) throws(OptimizerError) -> [Float] {
    guard let numbers = given ?? defaults else { throw .badOption(name: name, value: "missing", expected: expected) }
    guard numbers.count == count else {
      throw .badOption(name: name, value: "\(numbers.count) numbers", expected: expected)
    }
    for (index, number) in numbers.enumerated() where !range.contains(Double(number)) {
      let name = count == 1 ? name : "\(name)[\(index + 1)]"
      throw .badOption(
        name: name, value: String(number), expected: "a \(range.expected(insteadOf: Double(number)))")
    }
    return numbers
  }

  private var expected: String { count == 1 ? "a number \(range)" : "\(count) numbers \(range)" }
}

extension Hyperparameter {
  /// `lr`, which every rule has.
  public static let learningRate = Hyperparameter("lr", defaults: nil, range: .positive, "learning rate")
  /// `weight_decay`, at least 0, 0 by default, with what it means for a rule.
  public static func weightDecay(_ meaning: String) -> Hyperparameter {
    Hyperparameter("weight_decay", defaults: [0], range: .amount, meaning)
  }
}
