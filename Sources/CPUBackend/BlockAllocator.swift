import CPlatform
import Glibc
import Synchronization
import Tensors

/// Gives out blocks of memory and keeps released ones for the next step, since first touch of fresh memory costs
/// ten to thirty times a warm write.
///
/// Sizes are rounded to classes an eighth apart, and a cached block up to a quarter larger serves a request, so a
/// step whose shapes repeat allocates nothing. What is cached never lets the total grow beyond `slack` times the
/// highest live total: batches of ever new lengths release old blocks instead of piling them up.
final class BlockAllocator: Sendable {
  private struct State {
    /// Released blocks by size class.
    var cache: [Int: [UInt]] = [:]
    var cachedByteCount = 0
    var liveByteCount = 0
    var peakByteCount = 0
  }

  private let state = Mutex(State())
  private static let slackNumerator = 9
  private static let slackDenominator = 8
  private static let freeAllowance = 32 << 20
  /// Blocks from this size on are aligned to 2 MiB and ask for huge pages.
  private static let hugeThreshold = 4 << 20

  /// The class of a request: multiples of 64 bytes up to 4 KiB, then eight classes per power of two.
  static func roundedByteCount(_ byteCount: Int) -> Int {
    guard byteCount > 4096 else { return max(64, (byteCount + 63) & ~63) }
    let step = 1 << max(6, Int.bitWidth - 1 - (byteCount - 1).leadingZeroBitCount - 3)
    return (byteCount + step - 1) & ~(step - 1)
  }

  /// A block of `size` bytes (already rounded), or nil when the system has none.
  func take(_ size: Int) -> UnsafeMutableRawPointer? {
    let (reused, stale) = state.withLock { state -> (UInt?, [UInt]) in
      state.liveByteCount += size
      state.peakByteCount = max(state.peakByteCount, state.liveByteCount)
      if let block = state.cache[size]?.popLast() {
        state.cachedByteCount -= size
        return (block, [])
      }
      return (nil, Self.evict(&state))
    }
    for block in stale { free(UnsafeMutableRawPointer(bitPattern: block)) }
    if let reused { return UnsafeMutableRawPointer(bitPattern: reused) }
    if let fresh = allocate(size) { return fresh }
    releaseCache()
    if let fresh = allocate(size) { return fresh }
    state.withLock { $0.liveByteCount -= size }
    return nil
  }

  func give(_ block: UnsafeMutableRawPointer, _ size: Int) {
    state.withLock { state in
      state.liveByteCount -= size
      state.cachedByteCount += size
      state.cache[size, default: []].append(UInt(bitPattern: block))
    }
  }

  /// Returns all cached blocks to the system.
  func releaseCache() {
    let blocks = state.withLock { state -> [UInt] in
      defer {
        state.cache = [:]
        state.cachedByteCount = 0
      }
      return state.cache.values.flatMap { $0 }
    }
    for block in blocks { free(UnsafeMutableRawPointer(bitPattern: block)) }
  }

  /// Picks cached blocks to release so that live and cached bytes stay within the allowance; largest first, since
  /// few calls then suffice.
  private static func evict(_ state: inout State) -> [UInt] {
    let allowed = state.peakByteCount / slackDenominator * slackNumerator + freeAllowance
    var stale: [UInt] = []
    guard state.liveByteCount + state.cachedByteCount > allowed else { return stale }
    for size in state.cache.keys.sorted(by: >) {
      while state.liveByteCount + state.cachedByteCount > allowed, let block = state.cache[size]?.popLast() {
        stale.append(block)
        state.cachedByteCount -= size
      }
      if state.cache[size]?.isEmpty ?? false { state.cache[size] = nil }
    }
    return stale
  }

  private func allocate(_ size: Int) -> UnsafeMutableRawPointer? {
    let isHuge = size >= Self.hugeThreshold
    var block: UnsafeMutableRawPointer?
    guard posix_memalign(&block, isHuge ? 2 << 20 : 64, size) == 0 else { return nil }
    if isHuge, let block { madvise(block, size, Int32(MADV_HUGEPAGE)) }
    return block
  }
}
