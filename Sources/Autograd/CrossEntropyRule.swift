import Tensors

/// Rows of logits that exist at a time: 128 rows of a 49152-token vocabulary are 25 MB, and products of 128 rows
/// already run at the speed of large ones.
private let rowsPerChunk = 128

/// The summed cross-entropy of the next-token targets, without ever holding all logits.
///
/// loss = scale * sum over t of -log softmax(h[t] W^T)[labels[t]], rows with a negative label count nothing.
/// 128 rows of logits exist at a time. The gradient of `hidden` (and of a trained dense head) is computed in the same
/// pass over each chunk of rows, since the logits are at hand (as in Liger's fused linear cross-entropy), and scaled in
/// the backward pass.
/// - Parameters:
///   - hidden: [T, D] f32 or bf16, contiguous.
///   - head: [V, D].
///   - labels: i32 [T], the target of each row, below V.
///   - scale: what multiplies the sum.
///   - softCap: logits become softCap * tanh(logits / softCap) (Gemma 2); 0 leaves them as they are.
///   - precision: bf16 rounds the operands of the products; f32 does not.
/// - Returns: f32 [1].
/// - Throws: `TensorError.badDType` for labels that are not i32, `.shapeMismatch` for another number of them than rows,
///   `.badIndex` for one that is not below V; `.otherDevice`, `.outOfMemory`; what the device reports.
public func linearCrossEntropy(
  _ hidden: Tensor, head: LinearWeight, labels: Tensor, scale: Float, softCap: Float = 0, precision: DType
) throws -> Tensor {
  try linearCrossEntropy(
    hidden, head: head, labels: labels, losses: [LossRows(rows: 0..<hidden.shape[0], scale: scale)], softCap: softCap,
    precision: precision)
}

/// Rows that have a loss of their own.
public struct LossRows: Sendable {
  /// The rows.
  public let rows: Range<Int>
  /// What multiplies the sum over them.
  public let scale: Float

  /// The loss of these rows.
  public init(rows: Range<Int>, scale: Float) {
    self.rows = rows
    self.scale = scale
  }
}

/// `linearCrossEntropy` of several ranges of rows, each with a loss of its own: the head is read once for all.
///
/// The ranges adjoin and are all rows, so that each row has one loss. A trained head belongs to one loss.
/// - Returns: f32 [losses].
/// - Throws: as for one loss; `TensorError.badValue` for other ranges and for several with a trained head.
public func linearCrossEntropy(
  _ hidden: Tensor, head: LinearWeight, labels: Tensor, losses parts: [LossRows], softCap: Float = 0,
  precision: DType
) throws -> Tensor {
  let backend = try hidden.backend(for: "linear_cross_entropy", with: head.anchor, labels)
  let tokens = hidden.shape[0]
  let vocabulary = head.shape[0]
  try checkTargets(labels, rows: tokens, classes: vocabulary, operation: "linear_cross_entropy")
  let ends = [0] + parts.map(\.rows.upperBound)
  guard zip(ends, parts).allSatisfy({ $0 == $1.rows.lowerBound }), ends.last == tokens else {
    throw TensorError.badValue(
      operation: "linear_cross_entropy", name: "rows", value: "\(parts.map(\.rows))",
      expected: "adjoining ranges of all \(tokens)")
  }
  var denseHead: Tensor?
  if case .dense(let matrix) = head, matrix.requiresGradient { denseHead = matrix }
  if denseHead != nil {
    try (1...1).require(parts.count, "losses", operation: "linear_cross_entropy with a trained head")
  }
  let recording = isRecording(hidden, denseHead)
  let losses = try Tensor(empty: [tokens], dtype: .f32, on: backend)
  let dHidden = recording ? try Tensor(empty: hidden.shape, dtype: hidden.dtype, on: backend) : nil
  let dHead = recording && denseHead != nil ? try Tensor(full: head.shape, value: 0, on: backend) : nil
  func rowsOfLogits() throws -> Tensor {
    try Tensor(empty: [min(tokens, rowsPerChunk), vocabulary], dtype: .f32, category: .workspace, on: backend)
  }
  let logits = try rowsOfLogits()
  // The way back through the cap needs the capped logits, which the cross-entropy overwrites.
  let capped = softCap > 0 ? try rowsOfLogits() : nil

  for start in stride(from: 0, to: tokens, by: rowsPerChunk) {
    let range = start..<min(start + rowsPerChunk, tokens)
    let rows = try hidden.narrowed(0, range)
    let chunk = try logits.narrowed(0, 0..<range.count)
    try head.multiply(rows, transposed: false, into: chunk, precision: precision)
    let scores = try capped?.narrowed(0, 0..<range.count)
    if let scores {
      try backend.softCap(chunk, softCap, into: chunk)
      try backend.copy(chunk, into: scores)
    }
    for part in parts {
      let own = part.rows.clamped(to: range)
      if own.isEmpty { continue }
      try backend.crossEntropy(
        try (scores ?? chunk).narrowed(0, own.lowerBound - start..<own.upperBound - start),
        labels: try labels.narrowed(0, own), losses: try losses.narrowed(0, own),
        gradientScale: recording ? part.scale : nil)
    }
    if recording, let scores { try backend.softCapBackward(scores, chunk, softCap, into: chunk) }
    if let dHidden {
      try head.multiply(chunk, transposed: true, into: try dHidden.narrowed(0, range), precision: precision)
    }
    if let dHead {
      try backend.matmul(
        chunk, transposeA: true, rows, transposeB: false, alpha: 1, beta: 1, into: dHead, precision: precision)
    }
  }
  let sums = try Tensor(empty: [parts.count], dtype: .f32, on: backend)
  for (index, part) in parts.enumerated() {
    let (own, sum) = (try losses.narrowed(0, part.rows), try sums.narrowed(0, index..<index + 1))
    try backend.reduce(.sum, own, outer: 1, count: part.rows.count, inner: 1, into: sum)
    try backend.accumulate(sum, scale: part.scale, into: sum, scale: 0)
  }

  record("linear_cross_entropy", inputs: [hidden, denseHead], output: sums) { dLoss in
    let dLoss = try dLoss.contiguous()
    if let dHead { try backend.scale(dHead, by: dLoss) }
    for (index, part) in parts.enumerated() {
      guard let own = try dHidden?.narrowed(0, part.rows) else { continue }
      try backend.scale(own, by: try dLoss.narrowed(0, index..<index + 1))
    }
    return [dHidden, dHead]
  }
  return sums
}

/// A target that is no class would be read and written beside its row.
func checkTargets(_ labels: Tensor, rows: Int, classes: Int, operation: String) throws {
  guard labels.dtype == .i32 else {
    throw TensorError.badDType(operation: operation, got: labels.dtype, expected: [.i32])
  }
  guard labels.shape == [rows] else {
    throw TensorError.shapeMismatch(operation: operation, lhs: [rows], rhs: labels.shape)
  }
  // A rehearsal computes nothing, and there is nothing in its memory.
  if isRehearsal(labels) { return }
  for label in try labels.integers() where label >= classes {
    throw TensorError.badIndex(operation: operation, index: label, count: classes)
  }
}
