import Autograd
import Tensors

/// What a model does with one text, to look at.
extension LanguageModel {
  /// -log p of each token after the first, given those before it: f32 [T - 1].
  /// In nats.
  /// - Throws: `ModelError.tooFewTokens` for fewer than two; as `logits`: `ModelError.headerOnly`, `.tokenOutOfRange`,
  ///   `.tooLong`, `TensorError.outOfMemory`, what hooks and adapters throw.
  public func tokenLosses(_ ids: [Int32]) throws -> Tensor {
    guard ids.count > 1 else { throw ModelError.tooFewTokens(operation: "token_losses", minimum: 2) }
    let logits = try logits(ids).narrowed(0, 0..<ids.count - 1)
    let losses = try Tensor(empty: [ids.count - 1], on: backend)
    try backend.crossEntropy(
      logits, labels: try Tensor(ids: Array(ids.dropFirst()), on: backend), losses: losses, gradientScale: nil)
    return losses
  }

  /// Attention weights softmax(scale * Q K^T) of one layer, soft-capped where the model does so, causal and within its
  /// window: f32 [heads, T, T], row = query, column = key. What a sink takes is missing from the sum of a row.
  /// Quadratic in T, so for short texts.
  ///
  /// Q and K are those of the forward pass; only the product that the attention kernel never forms
  /// is computed here, in f32.
  /// - Throws: `ModelError.noSuchLayer`, `.noAttention` for a recurrent layer; as `logits`: `ModelError.headerOnly`,
  ///   `.emptyInput`, `.tokenOutOfRange`, `.tooLong`, `TensorError.outOfMemory`, what hooks and adapters throw.
  public func attentionMaps(_ ids: [Int32], layer: Int) throws -> Tensor {
    guard (0..<spec.layerCount).contains(layer) else {
      throw ModelError.noSuchLayer(layer: layer, count: spec.layerCount)
    }
    guard !spec.layers[layer].isRecurrent else { throw ModelError.noAttention(layer: layer) }
    let (queries, keys) = try queriesAndKeys(ids, layer: layer)
    let (count, heads, width) = (ids.count, spec.headCount, spec.headDimension)
    let shared = heads / spec.keyValueHeadCount
    let maps = try Tensor(empty: [heads, count, count], on: backend)
    for head in 0..<heads {
      let column = head / shared * width
      let q = try queries.narrowed(1, head * width..<(head + 1) * width).copied()
      let k = try keys.narrowed(1, column..<column + width).copied()
      try backend.matmul(
        q, transposeA: false, k, transposeB: true, alpha: spec.queryKeyScale, beta: 0,
        into: try maps.selected(0, head), precision: .f32)
    }
    if let cap = spec.scoreCap { try backend.softCap(maps, Float(cap), into: maps) }
    try hideInvisibleKeys(maps, window: spec.layers[layer].window ?? 0)
    guard let sinks = spec.modules.attention.sinks else { return try softmax(of: maps) }
    guard let scores = module("\(spec.outerNames.layers)\(layer).\(sinks.name)")?.weight else {
      throw ModelError.notLoaded(module: sinks.name)
    }
    // One more key, which has a weight and no value.
    let wide = try Tensor(empty: [heads, count, count + 1], on: backend)
    try backend.copy(maps, into: try wide.narrowed(2, 0..<count))
    let column = try scores.floats().flatMap { Array(repeating: $0, count: count) }
    try backend.copy(
      try Tensor(column, shape: [heads, count, 1], on: backend), into: try wide.narrowed(2, count..<count + 1))
    return try softmax(of: wide).narrowed(2, 0..<count).copied()
  }

  private func softmax(of scores: Tensor) throws -> Tensor {
    let weights = try Tensor(empty: scores.shape, on: backend)
    try backend.softmax(scores, into: weights, logarithm: false)
    return weights
  }

  /// What attention of one layer gets: f32 [T, heads * headDim] and [T, kvHeads * headDim].
  private func queriesAndKeys(_ ids: [Int32], layer: Int) throws -> (Tensor, Tensor) {
    var caught: (Tensor, Tensor)?
    _ = try logits(ids) { index, queries, keys in
      if index == layer { caught = (try queries.converted(to: .f32), try keys.converted(to: .f32)) }
    }
    guard let caught else { throw ModelError.headerOnly(operation: "attention") }
    return caught
  }
}

/// Sets the scores of later keys, and of those before the window, to -infinity.
private func hideInvisibleKeys(_ scores: Tensor, window: Int) throws {
  let count = scores.shape[2]
  try scores.withMutableHostBytes { bytes in
    let values = bytes.bindMemory(to: Float.self)
    for row in 0..<scores.shape[0] * count {
      let query = row % count
      for key in 0..<count where key > query || window > 0 && query - key >= window {
        values[row * count + key] = -.infinity
      }
    }
  }
}
