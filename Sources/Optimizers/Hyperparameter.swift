/// A number of an optimizer, or a few under one name, with what it may be.
public struct Hyperparameter: Sendable {
  /// As in Lua and in messages: "weight_decay".
  public let name: String
  /// How many numbers it is: 1, or 2 for "betas".
  public let count: Int
  /// Nil when it must be given.
  public let defaults: [Float]?
  /// What each of the numbers may be.
  public let range: HyperparameterRange
  /// What it means, without its default and range.
  public let meaning: String

  /// A number of a rule; `defaults` are not checked before they are used.
  public init(
    _ name: String, count: Int = 1, defaults: [Float]?, range: HyperparameterRange, _ meaning: String
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
    for (index, number) in numbers.enumerated() where !range.contains(number) {
      let name = count == 1 ? name : "\(name)[\(index + 1)]"
      throw .badOption(name: name, value: String(number), expected: "a number \(range)")
    }
    return numbers
  }

  private var expected: String { count == 1 ? "a number \(range)" : "\(count) numbers \(range)" }
}

/// The finite numbers from a lower to an upper bound.
public struct HyperparameterRange: Sendable, CustomStringConvertible {
  /// The lower bound.
  public let lower: Float
  /// Whether `lower` is one of them.
  public let includesLower: Bool
  /// Not one of them.
  public let upper: Float

  /// The finite numbers above `lower`, or from it on, and below `upper`.
  public init(from lower: Float, including includesLower: Bool, below upper: Float = .infinity) {
    self.lower = lower
    self.includesLower = includesLower
    self.upper = upper
  }

  /// Above 0.
  public static let positive = HyperparameterRange(from: 0, including: false)
  /// At least 0.
  public static let amount = HyperparameterRange(from: 0, including: true)
  /// [0, 1): the part of a running mean that stays.
  public static let rate = HyperparameterRange(from: 0, including: true, below: 1)

  /// False for NaN and the infinities.
  public func contains(_ number: Float) -> Bool {
    number.isFinite && (number > lower || includesLower && number == lower) && number < upper
  }

  /// In words for messages: "above 0", "of at least 0", "in [0, 1)".
  public var description: String {
    func text(_ bound: Float) -> String { bound == bound.rounded() ? String(Int(bound)) : String(bound) }
    guard upper.isFinite else { return (includesLower ? "of at least " : "above ") + text(lower) }
    return "in \(includesLower ? "[" : "(")\(text(lower)), \(text(upper)))"
  }
}

extension Hyperparameter {
  /// `lr`, which every rule has.
  public static let learningRate = Hyperparameter("lr", defaults: nil, range: .positive, "learning rate")
  /// `weight_decay`, at least 0, 0 by default, with what it means for a rule.
  public static func weightDecay(_ meaning: String) -> Hyperparameter {
    Hyperparameter("weight_decay", defaults: [0], range: .amount, meaning)
  }
}
