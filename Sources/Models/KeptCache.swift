/// Keys and values that stay between calls of `generate`. A prompt that begins as the tokens before it is computed from
/// where it goes on; adapters that change empty it. Weights that are trained in place do not: make another then.
public final class KeptCache {
  private var cache: KeyValueCache?
  /// The adapters at the last call, and whether passes added them; held, so that no other takes their place.
  private var adapters: [Adapter] = []
  private var usedAdapters = true

  /// An empty one.
  public init() {}

  /// The tokens it holds.
  public var length: Int { cache?.length ?? 0 }

  /// Forgets everything.
  public func clear() {
    cache = nil
    adapters = []
  }

  /// The cache for a prompt that may grow to `capacity` tokens, and the part of the prompt that it lacks: one token at
  /// least.
  func resume(_ prompt: [Int32], capacity: Int, _ model: LanguageModel) throws -> (
    cache: KeyValueCache, pending: [Int32]
  ) {
    let now = model.adapters
    let isSame =
      now.count == adapters.count && zip(now, adapters).allSatisfy { $0 === $1 }
      && usedAdapters == model.usesAdapters && !model.modules.contains { !$0.hooks.isEmpty }
    if !isSame { clear() }
    (adapters, usedAdapters) = (now, model.usesAdapters)
    guard let cache else {
      let new = try KeyValueCache(model, capacity: capacity)
      cache = new
      return (new, prompt)
    }
    let shared = zip(cache.ids, prompt.dropLast()).prefix { $0 == $1 }.count
    // Keys that were computed under the rotary frequencies of a longer text are of no use to a shorter one.
    let isOfItsLength = model.rotary.lengthClass(cache.length) == model.rotary.lengthClass(prompt.count)
    cache.cut(to: isOfItsLength ? shared : 0)
    return (cache, Array(prompt[cache.length...]))
  }
}
