import Tensors

/// The loss that keeps the experts of a model equally busy (Fedus et al. 2021, equations 4 to 6), over all layers and
/// tokens of one pass as transformers adds it: experts * sum over the experts of f * P, with f the rows that an expert
/// got and P the sum of its probabilities, each divided by the tokens of all layers.
///
/// It needs no graph of its own: `added` records one operation behind everything else, and when the gradient comes to a
/// layer's routing, all of them have been counted.
public final class RouterBalance: @unchecked Sendable {
  private var counts: [Double] = []
  private var probabilities: [Double] = []
  private var tokens = 0
  /// Recomputed layers must not count twice.
  private var isComplete = false
  private var scale: Float?

  /// Nothing counted.
  public init() {}

  func add(_ values: [Float], _ chosen: [[Int]], experts: Int) {
    guard !isComplete else { return }
    if counts.isEmpty {
      counts = [Double](repeating: 0, count: experts)
      probabilities = counts
    }
    for expert in chosen.joined() { counts[expert] += 1 }
    for (index, value) in values.enumerated() { probabilities[index % experts] += Double(value) }
    tokens += chosen.count
  }

  /// The loss of what was counted; 0 of nothing.
  public var value: Double {
    guard tokens > 0 else { return 0 }
    let rows = Double(tokens)
    return Double(counts.count) * zip(counts, probabilities).reduce(0) { $0 + ($1.0 / rows) * ($1.1 / rows) }
  }

  /// The gradients of each expert's probabilities in every token; nil before a backward pass has come here.
  var slopes: [Float]? {
    guard let scale, tokens > 0 else { return nil }
    let factor = Double(scale) * Double(counts.count) / (Double(tokens) * Double(tokens))
    return counts.map { Float($0 * factor) }
  }

  /// loss + coefficient * value; no more is counted.
  /// - Parameters:
  ///   - coefficient: weight of this loss.
  ///   - loss: f32 [1].
  /// - Returns: the sum, f32 [1].
  /// - Throws: `TensorError.outOfMemory`; what the device reports.
  public func added(_ coefficient: Double, to loss: Tensor) throws -> Tensor {
    isComplete = true
    let sum = try Tensor(full: [1], value: coefficient * value, on: loss.backend)
    try loss.backend.accumulate(loss, scale: 1, into: sum, scale: 1)
    record("router_balance", inputs: [loss], output: sum) { gradient in
      self.scale = Float(coefficient * (try gradient.item()))
      return [gradient]
    }
    return sum
  }
}
