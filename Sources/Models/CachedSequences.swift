import Autograd
import Tensors

/// The caches of the sequences that one pass continues, each with its rows of the pass: projections and feed-forward
/// layers see all rows at once, attention and recurrent layers those of each sequence with its own past.
struct CachedSequences {
  private let parts: [(cache: KeyValueCache, rows: Range<Int>)]

  /// `counts` are the rows of the pass by sequence, in their order.
  init(_ caches: [KeyValueCache], counts: [Int]) {
    var start = 0
    parts = zip(caches, counts).map { cache, count in
      defer { start += count }
      return (cache, start..<start + count)
    }
  }

  /// Appends each sequence's new keys and values of a layer, and attends to all of its own.
  func attend(layer: Int, _ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape) throws -> Tensor {
    let out = try Tensor(empty: q.shape, dtype: q.dtype, on: q.backend)
    for (cache, rows) in parts {
      func own(_ x: Tensor) throws -> Tensor { parts.count == 1 ? x : try x.narrowed(0, rows) }
      try cache.attend(layer: layer, try own(q), try own(k), try own(v), shape, into: try own(out))
    }
    return out
  }

  /// Goes on in a recurrent layer with rows x [n, width]. `rule`, the delta rule, takes what `convolve` makes of a
  /// sequence's rows, which rows of x they are, their borders, and the state.
  func recur(
    layer: Int, _ x: Tensor, _ numbers: DeltaNetNumbers, convolve: (Tensor, Tensor) throws -> Tensor,
    rule: (_ mixed: Tensor, _ rows: Range<Int>, _ segments: Tensor, _ state: Tensor) throws -> Tensor
  ) throws -> Tensor {
    let made = try parts.map { cache, rows in
      try cache.recur(layer: layer, try x.narrowed(0, rows), numbers, convolve: convolve) { mixed, segments, state in
        try rule(mixed, rows, segments, state)
      }
    }
    return made.count == 1 ? made[0] : try concatenate(made, axis: 0)
  }
}
