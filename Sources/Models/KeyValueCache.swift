import Autograd
import Tensors

/// What generation keeps of the tokens so far: keys and values of layers with attention, [capacity, kvHeads * headDim]
/// in the compute dtype, and of recurrent layers the states and the rows that their convolutions still see.
package final class KeyValueCache {
  private let width: Int
  private let dtype: DType
  private let backend: any Backend
  private let limit: Int
  /// Keys and values by layer.
  private var keys: [Int: Tensor] = [:]
  private var values: [Int: Tensor] = [:]
  /// States, f32 [valueHeads, keyDim, valueDim], and last rows, [taps - 1, width], by layer.
  private var states: [Int: Tensor] = [:]
  private var tails: [Int: Tensor] = [:]
  /// The tokens already in the cache.
  var ids: [Int32] = []
  /// How many they are.
  package var length: Int { ids.count }
  /// Rows that there is room for in layers with attention.
  private var rows: Int

  package init(_ model: LanguageModel, capacity: Int) throws {
    let spec = model.spec
    width = spec.size(.keys)
    dtype = model.computeType
    backend = model.backend
    limit = spec.positionLimit
    rows = max(1, min(capacity, limit))
    for (index, layer) in spec.layers.enumerated() {
      if layer.isRecurrent, let numbers = spec.deltaNet {
        states[index] = try Tensor(
          empty: [numbers.valueHeads, numbers.keyDimension, numbers.valueDimension], on: backend)
        tails[index] = try Tensor(empty: [numbers.taps - 1, numbers.rows], dtype: dtype, on: backend)
      } else {
        keys[index] = try Tensor(empty: [rows, width], dtype: dtype, on: backend)
        values[index] = try Tensor(empty: [rows, width], dtype: dtype, on: backend)
      }
    }
  }

  /// Keeps the first tokens alone. The state of a recurrent layer holds all or none.
  func cut(to count: Int) {
    ids = states.isEmpty || count == length ? Array(ids.prefix(count)) : []
  }

  /// Forgets a pass that did not reach its end. Rows of keys beyond `length` count for nothing; a state has no way
  /// back.
  func abandonPass() {
    if !states.isEmpty { ids = [] }
  }

  /// Makes room for `count` tokens in all.
  /// - Throws: `tooLong` beyond the model's positions.
  func reserve(_ count: Int) throws {
    guard count <= limit else { throw ModelError.tooLong(tokens: count, limit: limit) }
    guard count > rows else { return }
    let grown = min(limit, max(count, 2 * rows))
    keys = try keys.mapValues { try copy($0, rows: grown) }
    values = try values.mapValues { try copy($0, rows: grown) }
    rows = grown
  }

  private func copy(_ old: Tensor, rows: Int) throws -> Tensor {
    let new = try Tensor(empty: [rows, width], dtype: dtype, on: backend)
    try backend.copy(try old.narrowed(0, 0..<length), into: try new.narrowed(0, 0..<length))
    return new
  }

  /// Appends this layer's new keys and values and attends to all of them.
  func attend(
    layer: Int, _ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape, into out: Tensor
  ) throws {
    guard let keys = keys[layer], let values = values[layer] else { throw ModelError.noAttention(layer: layer) }
    let range = length..<length + k.shape[0]
    try backend.copy(k, into: try keys.narrowed(0, range))
    try backend.copy(v, into: try values.narrowed(0, range))
    try backend.cachedAttention(
      q, keys: keys, values: values, length: range.upperBound, start: range.lowerBound, shape, into: out)
  }

  /// Goes on in a recurrent layer with new rows x [n, width], and keeps its state and last rows. `convolve` takes rows
  /// and the borders of sequences; `rule`, the delta rule, takes what that gives, the borders, and the state, which it
  /// overwrites.
  func recur(
    layer: Int, _ x: Tensor, _ numbers: DeltaNetNumbers, convolve: (Tensor, Tensor) throws -> Tensor,
    rule: (Tensor, Tensor, Tensor) throws -> Tensor
  ) throws -> Tensor {
    guard let state = states[layer], let tail = tails[layer] else { throw ModelError.noAttention(layer: layer) }
    if length == 0 { for tensor in [state, tail] { try backend.fill(tensor, 0) } }
    let (before, count) = (numbers.taps - 1, x.shape[0])
    let rows = before == 0 ? x : try concatenate([tail, x], axis: 0)
    let mixed = try convolve(rows, try Tensor(ids: [0, Int32(before + count)], on: backend))
    try backend.copy(try rows.narrowed(0, count..<count + before), into: tail)
    return try rule(
      try mixed.narrowed(0, before..<before + count), try Tensor(ids: [0, Int32(count)], on: backend), state)
  }
}
