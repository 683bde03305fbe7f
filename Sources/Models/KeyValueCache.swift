import Tensors

/// Keys and values of the tokens so far, per layer [capacity, kvHeads * headDim] in the compute dtype.
package final class KeyValueCache {
  private let width: Int
  private let dtype: DType
  private let backend: any Backend
  private let limit: Int
  private var keys: [Tensor]
  private var values: [Tensor]
  /// The tokens already in the cache.
  var ids: [Int32] = []
  /// How many they are.
  package var length: Int { ids.count }

  package init(_ model: LanguageModel, capacity: Int) throws {
    let spec = model.spec
    width = spec.size(.keys)
    dtype = model.computeType
    backend = model.backend
    limit = spec.positionLimit
    let rows = max(1, min(capacity, limit))
    keys = []
    values = []
    for _ in 0..<spec.layerCount {
      keys.append(try Tensor(empty: [rows, width], dtype: dtype, on: backend))
      values.append(try Tensor(empty: [rows, width], dtype: dtype, on: backend))
    }
  }

  /// Makes room for `count` tokens in all.
  /// - Throws: `tooLong` beyond the model's positions.
  func reserve(_ count: Int) throws {
    guard count <= limit else { throw ModelError.tooLong(tokens: count, limit: limit) }
    guard let rows = keys.first?.shape[0], count > rows else { return }
    let grown = min(limit, max(count, 2 * rows))
    for layer in keys.indices {
      keys[layer] = try copy(keys[layer], rows: grown)
      values[layer] = try copy(values[layer], rows: grown)
    }
  }

  private func copy(_ old: Tensor, rows: Int) throws -> Tensor {
    let new = try Tensor(empty: [rows, width], dtype: dtype, on: backend)
    try backend.copy(try old.narrowed(0, 0..<length), into: try new.narrowed(0, 0..<length))
    return new
  }

  /// Appends this layer's new keys and values and attends to all of them.
  func attend(layer: Int, _ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape) throws -> Tensor {
    let range = length..<length + k.shape[0]
    try backend.copy(k, into: try keys[layer].narrowed(0, range))
    try backend.copy(v, into: try values[layer].narrowed(0, range))
    let out = try Tensor(empty: q.shape, dtype: q.dtype, on: backend)
    try backend.cachedAttention(
      q, keys: keys[layer], values: values[layer], length: range.upperBound, start: range.lowerBound, shape, into: out)
    return out
  }
}
