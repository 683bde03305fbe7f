/// What a number may be: those from a lower to an upper bound, each with or without the bound itself. NaN is in no
/// range, an infinity only where it is a bound that belongs to the range.
public struct NumberRange: Sendable, Hashable {
  /// The lower bound; the negative infinity for none.
  public let lower: Double
  /// Whether `lower` is one of them.
  public let includesLower: Bool
  /// The upper bound; the infinity for none.
  public let upper: Double
  /// Whether `upper` is one of them.
  public let includesUpper: Bool

  /// The finite numbers above `lower`, or from it on, and below `upper`.
  public init(from lower: Double, including includesLower: Bool, below upper: Double = .infinity) {
    self.init(lower: lower, includesLower: includesLower, upper: upper, includesUpper: false)
  }

  /// The numbers from a bound to another, both included.
  public init(_ bounds: ClosedRange<Double>) {
    self.init(lower: bounds.lowerBound, includesLower: true, upper: bounds.upperBound, includesUpper: true)
  }

  /// All but NaN and the infinities.
  public static let finite = NumberRange(from: -.infinity, including: false)
  /// Above 0.
  public static let positive = NumberRange(from: 0, including: false)
  /// At least 0.
  public static let amount = NumberRange(from: 0, including: true)
  /// [0, 1): the part of a running mean that stays.
  public static let rate = NumberRange(from: 0, including: true, below: 1)
  /// [0, 1]: a share or a probability.
  public static let share = NumberRange(0...1)
  /// Above 0, and the infinity, which limits nothing.
  public static let limit = NumberRange(lower: 0, includesLower: false, upper: .infinity, includesUpper: true)

  private init(lower: Double, includesLower: Bool, upper: Double, includesUpper: Bool) {
    (self.lower, self.includesLower, self.upper, self.includesUpper) = (lower, includesLower, upper, includesUpper)
  }

  /// False for NaN.
  public func contains(_ number: Double) -> Bool {
    (number > lower || includesLower && number == lower) && (number < upper || includesUpper && number == upper)
  }
}

extension NumberRange: CustomStringConvertible {
  /// What follows "a number" in messages: "above 0", "of at least 0", "in [0, 1)".
  public var description: String {
    switch (lower.isFinite, upper.isFinite) {
    case (false, false): "that is finite"
    case (true, false): (includesLower ? "of at least " : "above ") + Self.text(lower)
    case (false, true): (includesUpper ? "of at most " : "below ") + Self.text(upper)
    case (true, true):
      "in \(includesLower ? "[" : "(")\(Self.text(lower)), \(Self.text(upper))\(includesUpper ? "]" : ")")"
    }
  }

  /// A bound without the fraction of a whole number; one beyond the integers keeps its exponent.
  private static func text(_ bound: Double) -> String { Int(exactly: bound).map(String.init) ?? String(bound) }
}

extension NumberRange {
  /// What is said to be expected where a number is not one of these: "number above 0", and "finite number above 0"
  /// where it is the infinity, which is above 0 too.
  package func expected(insteadOf number: Double) -> String {
    number == .infinity && lower.isFinite && upper == .infinity ? "finite number \(self)" : "number \(self)"
  }

  /// Checks an argument of an operation.
  /// - Throws: `TensorError.badValue` with the name, the value and the range for a number that is not in it.
  package func require(_ number: Double, _ name: String, operation: String) throws(TensorError) {
    guard contains(number) else {
      let expected = expected(insteadOf: number)
      throw .badValue(operation: operation, name: name, value: "\(number)", expected: "a \(expected)")
    }
  }
}

extension ClosedRange<Int> {
  /// Checks an argument of an operation.
  /// - Throws: `TensorError.badValue` with the name, the value and the range for a number that is not in it.
  package func require(_ number: Int, _ name: String, operation: String) throws(TensorError) {
    guard contains(number) else {
      let expected = upperBound == .max ? "at least \(lowerBound)" : "\(lowerBound) to \(upperBound)"
      throw .badValue(operation: operation, name: name, value: "\(number)", expected: expected)
    }
  }
}
