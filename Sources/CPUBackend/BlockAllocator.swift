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
  struct Block: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let size: Int
    /// Bytes that have been written by now.
    fileprivate(set) var touched: Int
  }

  private struct State {
    /// Released blocks by size class.
    var cache = [[Block]](repeating: [], count: BlockAllocator.sizeClass(1 << 62))
    var cachedByteCount = 0
    var liveByteCount = 0
    var peakByteCount = 0
    var resident = 0
    var residentPeak = 0
  }

  /// Where large blocks come from when nothing is computed with them.
  private let addresses: AddressArena?

  /// - Parameter isRehearsal: blocks are address space that hardly anybody writes.
  init(isRehearsal: Bool = false) { addresses = isRehearsal ? AddressArena() : nil }

  // Blocks in use keep their allocator alive.
  deinit { releaseCache() }

  private let state = Mutex(State())
  private static let slackNumerator = 33
  private static let slackDenominator = 32
  private static let freeAllowance = 8 << 20
  /// Blocks from this size on are mapped, not taken from the heap.
  private static let mappingThreshold = 16 << 10
  /// Blocks from this size on ask for huge pages.
  private static let hugeThreshold = 4 << 20

  /// The size of a request's class: multiples of 64 bytes up to 4 KiB, then eight classes per power of two.
  static func roundedByteCount(_ byteCount: Int) -> Int {
    guard byteCount > 4096 else { return max(64, (byteCount + 63) & ~63) }
    let step = 1 << max(6, Int.bitWidth - 1 - (byteCount - 1).leadingZeroBitCount - 3)
    return (byteCount + step - 1) & ~(step - 1)
  }

  /// The number of a class, by its size.
  static func sizeClass(_ size: Int) -> Int {
    guard size > 4096 else { return size / 64 - 1 }
    let power = Int.bitWidth - 1 - (size - 1).leadingZeroBitCount
    return 64 + 8 * (power - 12) + (size - (1 << power)) / (1 << (power - 3)) - 1
  }

  /// A block of at least `size` bytes (already rounded), or nil when the system has none.
  ///
  /// Its user will write the first `touching` bytes; `require` is called before the memory written grows.
  /// - Throws: What `require` throws.
  func take(_ size: Int, touching: Int, require: (Int) throws -> Void) throws -> Block? {
    let (reused, stale) = state.withLock { state -> (Block?, [Block]) in
      // The class itself, or one of the next two: at most a quarter larger.
      let first = Self.sizeClass(size)
      for number in first..<min(first + 3, state.cache.count) {
        if let block = state.cache[number].popLast() {
          state.cachedByteCount -= block.size
          state.liveByteCount += block.size
          return (block, [])
        }
      }
      state.liveByteCount += size
      return (nil, Self.evict(&state))
    }
    for block in stale { release(block) }
    let before = reused?.touched ?? 0
    let touched = max(before, Self.pages(touching, of: reused?.size ?? size))
    do {
      if touched > before { try require(touched - before) }
    } catch {
      // Where it came from: a fresh block was only counted.
      if let reused { give(reused) } else { state.withLock { $0.liveByteCount -= size } }
      throw error
    }
    guard var block = reused ?? fresh(size) else {
      state.withLock { $0.liveByteCount -= size }
      return nil
    }
    block.touched = touched
    state.withLock { state in
      // Only now: what was refused was never there.
      state.peakByteCount = max(state.peakByteCount, state.liveByteCount)
      state.resident += touched - before
      state.residentPeak = max(state.residentPeak, state.resident)
    }
    return block
  }

  func give(_ block: Block) {
    state.withLock { state in
      state.liveByteCount -= block.size
      state.cachedByteCount += block.size
      state.cache[Self.sizeClass(block.size)].append(block)
    }
  }

  /// Returns all cached blocks to the system.
  func releaseCache() {
    let blocks = state.withLock { state -> [Block] in
      defer {
        state.cache = Array(repeating: [], count: state.cache.count)
        state.cachedByteCount = 0
      }
      return state.cache.flatMap { $0 }
    }
    for block in blocks { release(block) }
  }

  /// Picks cached blocks to release so that live and cached bytes stay within the allowance; largest first, since
  /// few calls then suffice. Those of the heap stay: freed among others that live on, they would be holes in it.
  private static func evict(_ state: inout State) -> [Block] {
    let highest = max(state.peakByteCount, state.liveByteCount)
    let allowed = highest / slackDenominator * slackNumerator + freeAllowance
    var stale: [Block] = []
    guard state.liveByteCount + state.cachedByteCount > allowed else { return stale }
    for number in (sizeClass(mappingThreshold)..<state.cache.count).reversed() {
      while state.liveByteCount + state.cachedByteCount > allowed, let block = state.cache[number].popLast() {
        stale.append(block)
        state.cachedByteCount -= block.size
      }
    }
    return stale
  }

  private func fresh(_ size: Int) -> Block? {
    if let base = allocate(size) { return Block(base: base, size: size, touched: 0) }
    releaseCache()
    return allocate(size).map { Block(base: $0, size: size, touched: 0) }
  }

  /// Large blocks are mappings of their own: the C library's heap would be fragmented by their many sizes, and would
  /// give nothing back.
  private func allocate(_ size: Int) -> UnsafeMutableRawPointer? {
    guard size >= Self.mappingThreshold else {
      var block: UnsafeMutableRawPointer?
      return AddressSpace.hasRoom(for: size) && posix_memalign(&block, 64, size) == 0 ? block : nil
    }
    if let addresses { return addresses.take(size) }
    guard AddressSpace.hasRoom(for: size) else { return nil }
    let block = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let block, block != MAP_FAILED else { return nil }
    if size >= Self.hugeThreshold { madvise(block, size, Int32(MADV_HUGEPAGE)) }
    return block
  }

  private func release(_ block: Block) {
    state.withLock { $0.resident -= block.touched }
    if block.size < Self.mappingThreshold {
      free(block.base)
    } else if addresses == nil {
      munmap(block.base, block.size)
    }
  }

  // MARK: Resident memory

  /// Bytes written in blocks that are in use or cached, and the highest since `resetResidentPeak`.
  var resident: (now: Int, peak: Int) { state.withLock { ($0.resident, $0.residentPeak) } }

  /// The highest sum of the blocks in use at once.
  var peak: Int { state.withLock { $0.peakByteCount } }

  func resetResidentPeak() { state.withLock { $0.residentPeak = $0.resident } }

  /// Memory comes in pages when it is first written, in huge ones where they were asked for.
  private static func pages(_ byteCount: Int, of size: Int) -> Int {
    let page = size >= hugeThreshold ? 2 << 20 : size >= mappingThreshold ? 4096 : 64
    return min(size, (byteCount + page - 1) / page * page)
  }
}
