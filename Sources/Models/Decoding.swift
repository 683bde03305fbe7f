import Autograd
import Tensors

extension LanguageModel {
  /// Logits f32 [1, V] of the last of `new`, which continue the sequence in `cache`.
  /// - Throws: as `step(_:)`.
  func step(_ new: [Int32], cache: KeyValueCache) throws -> Tensor { try step([(new, cache)]) }

  /// Logits f32 [sequences, V] of the last new token of each sequence, whose other tokens are in its cache: one pass
  /// over the weights for all. Where a longer sequence has other rotary frequencies, its keys in the cache are of no
  /// use, and all of it is computed anew.
  /// - Throws: `ModelError.tooLong`, `.emptyInput`, `.tokenOutOfRange`; what a pass throws. The caches hold then what
  ///   they held before, or nothing where layers are recurrent: some have gone on, others not.
  func step(_ sequences: [(new: [Int32], cache: KeyValueCache)]) throws -> Tensor {
    do {
      return try advance(sequences)
    } catch {
      for (_, cache) in sequences { cache.abandonPass() }
      throw error
    }
  }

  private func advance(_ sequences: [(new: [Int32], cache: KeyValueCache)]) throws -> Tensor {
    try requireWhole("generate")
    return try GradientMode.disabled {
      let context = evaluation
      let caches = sequences.map(\.cache), texts = sequences.map { $0.cache.ids + $0.new }
      for (cache, text) in zip(caches, texts) where rotary.lengthClass(cache.length) != rotary.lengthClass(text.count) {
        cache.ids = []
      }
      let begins = caches.map(\.length)
      let new = zip(texts, begins).map { Array($0[$1...]) }
      let ends = new.reduce(into: [0]) { $0.append(($0.last ?? 0) + $1.count) }
      let hidden = try run(new.flatMap { $0 }, context, lengths: texts.map(\.count)) { tables, starts in
        for (cache, text) in zip(caches, texts) { try cache.reserve(text.count) }
        let positions = texts.indices.flatMap { i in (begins[i]..<texts[i].count).map { Int32(starts[i] + $0) } }
        return LayerGeometry(
          rotary: tables, positions: try Tensor(ids: positions, on: backend),
          segments: try Tensor(ids: ends.map { Int32($0) }, on: backend),
          cache: CachedSequences(caches, counts: new.map(\.count)), stream: stream, observer: nil)
      }
      for (cache, text) in zip(caches, texts) { cache.ids = text }
      let last = try ends.dropFirst().map { try hidden.narrowed(0, $0 - 1..<$0) }
      return try headLogits(try finished(last.count == 1 ? last[0] : try concatenate(last, axis: 0)), context)
    }
  }
}
