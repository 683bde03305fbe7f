/// Geometry of attention over packed sequences.
public struct AttentionShape: Sendable {
  /// Heads of queries, a multiple of `kvHeads`.
  public let heads: Int
  /// Heads of keys and values; query head h reads number h * kvHeads / heads.
  public let kvHeads: Int
  /// Elements of a head in a row.
  public let headDim: Int
  /// Start of each sequence in the packed batch, and the end of the last: i32 [sequences + 1].
  public let segments: Tensor
  /// A query sees the key of its own position and the window - 1 before it; 0 sees all before it.
  public let window: Int
  /// The factor of the products of queries and keys, before a soft cap.
  public let scale: Float
  /// Scores become softCap * tanh(scale * s / softCap) before the softmax (Gemma 2); 0 leaves them as they are.
  public let softCap: Float
  /// f32 [heads]: a score of each head that takes part in its softmax and has no value (gpt-oss); nil has none.
  public let sinks: Tensor?

  /// A geometry; without a `scale` that is 1 / sqrt(headDim).
  public init(
    heads: Int, kvHeads: Int, headDim: Int, segments: Tensor, window: Int = 0, scale: Float? = nil,
    softCap: Float = 0, sinks: Tensor? = nil
  ) {
    self.heads = heads
    self.kvHeads = kvHeads
    self.headDim = headDim
    self.segments = segments
    self.window = window
    self.scale = scale ?? 1 / Float(headDim).squareRoot()
    self.softCap = softCap
    self.sinks = sinks
  }
}
