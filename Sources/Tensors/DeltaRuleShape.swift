/// Geometry of the gated delta rule over packed sequences (Yang et al. 2024).
///
/// A row of the input holds the queries of all key heads, then their keys, then the values of all value heads. Value
/// head h reads key head h * keyHeads / valueHeads.
public struct DeltaRuleShape: Sendable {
  /// Heads of queries and keys; a divisor of `valueHeads`.
  public let keyHeads: Int
  /// Heads of values, each with a state of its own.
  public let valueHeads: Int
  /// Elements of a query and of a key.
  public let keyDim: Int
  /// Elements of a value.
  public let valueDim: Int
  /// Start of each sequence in the packed batch, and the end of the last: i32 [sequences + 1].
  public let segments: Tensor

  /// A geometry with these numbers.
  public init(keyHeads: Int, valueHeads: Int, keyDim: Int, valueDim: Int, segments: Tensor) {
    self.keyHeads = keyHeads
    self.valueHeads = valueHeads
    self.keyDim = keyDim
    self.valueDim = valueDim
    self.segments = segments
  }

  /// Columns of the input.
  public var width: Int { 2 * keyHeads * keyDim + valueHeads * valueDim }
  /// Columns of the output.
  public var valueWidth: Int { valueHeads * valueDim }
  /// The factor of the queries once they have the length 1.
  public var queryScale: Float { 1 / Float(keyDim).squareRoot() }
  /// Added to the squared length of queries and keys before they are divided by its root.
  public static let epsilon: Float = 1e-6
}
