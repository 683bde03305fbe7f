/// Keys and values that stay between calls of `generate`. A prompt that begins as the tokens before it is computed from
/// where it goes on; adapters that change empty it. Weights that are trained in place do not: make another then.
public final class KeptCache {
  private var cache: KeyValueCache?
  /// The adapters at the last call.
  private var adapters: AdaptersInUse?

  /// An empty one.
  public init() {}

  /// The tokens it holds.
  public var length: Int { cache?.length ?? 0 }

  /// Forgets everything.
  public func clear() {
    cache = nil
    adapters = nil
  }

  /// The cache for a prompt that may grow to `capacity` tokens; it lacks one token of the prompt at least.
  func resume(_ prompt: [Int32], capacity: Int, _ model: LanguageModel) throws -> KeyValueCache {
    let now = AdaptersInUse(model)
    if adapters?.isSame(as: now) != true || model.modules.contains(where: { !$0.hooks.isEmpty }) { clear() }
    adapters = now
    guard let cache else {
      let new = try KeyValueCache(model, capacity: capacity)
      cache = new
      return new
    }
    let shared = zip(cache.ids, prompt.dropLast()).prefix { $0 == $1 }.count
    // Keys that were computed under the rotary frequencies of a longer text are of no use to a shorter one.
    let isOfItsLength = model.rotary.lengthClass(cache.length) == model.rotary.lengthClass(prompt.count)
    cache.cut(to: isOfItsLength ? shared : 0)
    return cache
  }
}

/// The adapters that passes add; held, so that no other takes their place.
struct AdaptersInUse {
  private let adapters: [Adapter]

  init(_ model: LanguageModel) { adapters = model.usesAdapters ? model.adapters : [] }

  func isSame(as other: AdaptersInUse) -> Bool {
    adapters.count == other.adapters.count && zip(adapters, other.adapters).allSatisfy { $0 === $1 }
  }
}
