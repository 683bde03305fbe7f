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
    /// The bytes of each block that have been written by now.
    var touched: [UInt: Int] = [:]
    var resident = 0
    var residentPeak = 0
  }

  private let isRehearsal: Bool

  /// - Parameter isRehearsal: blocks are address space that nobody writes.
  init(isRehearsal: Bool = false) { self.isRehearsal = isRehearsal }

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

  /// The class of a request: multiples of 64 bytes up to 4 KiB, then eight classes per power of two.
  static func roundedByteCount(_ byteCount: Int) -> Int {
    guard byteCount > 4096 else { return max(64, (byteCount + 63) & ~63) }
    let step = 1 << max(6, Int.bitWidth - 1 - (byteCount - 1).leadingZeroBitCount - 3)
    return (byteCount + step - 1) & ~(step - 1)
  }

  /// A block of at least `size` bytes (already rounded) and the size it really has, or nil when the system has none.
  /// - Parameters:
  ///   - touching: bytes that its user will write.
  ///   - require: called before the memory written grows.
  func take(
    _ size: Int, touching: Int, require: (Int) throws -> Void
  ) throws -> (block: UnsafeMutableRawPointer, size: Int)? {
    let (reused, stale) = state.withLock { state -> ((UInt, Int)?, [(UInt, Int)]) in
      // The class itself, or one of the next two: at most a quarter larger.
      var candidate = size
      for _ in 0..<3 {
        if let block = state.cache[candidate]?.popLast() {
          state.cachedByteCount -= candidate
          Self.count(candidate, &state)
          return ((block, candidate), [])
        }
        candidate = Self.roundedByteCount(candidate + 1)
      }
      Self.count(size, &state)
      return (nil, Self.evict(&state))
    }
    for (block, byteCount) in stale { release(block, byteCount) }
    let (known, byteCount) = reused ?? (0, size)
    let growth = Self.pages(touching, of: byteCount) - (reused == nil ? 0 : state.withLock { $0.touched[known] ?? 0 })
    do {
      if growth > 0 { try require(growth) }
    } catch {
      // Where it came from: a fresh block was only counted.
      if let block = UnsafeMutableRawPointer(bitPattern: known) {
        give(block, byteCount)
      } else {
        state.withLock { $0.liveByteCount -= size }
      }
      throw error
    }
    if let block = UnsafeMutableRawPointer(bitPattern: known) {
      touch(known, touching, of: byteCount)
      return (block, byteCount)
    }
    for attempt in 0..<2 {
      if attempt == 1 { releaseCache() }
      if let fresh = allocate(size) {
        touch(UInt(bitPattern: fresh), touching, of: size)
        return (fresh, size)
      }
    }
    state.withLock { $0.liveByteCount -= size }
    return nil
  }

  private static func count(_ size: Int, _ state: inout State) {
    state.liveByteCount += size
    state.peakByteCount = max(state.peakByteCount, state.liveByteCount)
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
    let blocks = state.withLock { state -> [(UInt, Int)] in
      defer {
        state.cache = [:]
        state.cachedByteCount = 0
      }
      return state.cache.flatMap { size, blocks in blocks.map { ($0, size) } }
    }
    for (block, byteCount) in blocks { release(block, byteCount) }
  }

  /// Picks cached blocks to release so that live and cached bytes stay within the allowance; largest first, since
  /// few calls then suffice. Those of the heap stay: freed among others that live on, they would be holes in it.
  private static func evict(_ state: inout State) -> [(UInt, Int)] {
    let allowed = state.peakByteCount / slackDenominator * slackNumerator + freeAllowance
    var stale: [(UInt, Int)] = []
    guard state.liveByteCount + state.cachedByteCount > allowed else { return stale }
    for size in state.cache.keys.sorted(by: >) where size >= mappingThreshold {
      while state.liveByteCount + state.cachedByteCount > allowed, let block = state.cache[size]?.popLast() {
        stale.append((block, size))
        state.cachedByteCount -= size
      }
      if state.cache[size]?.isEmpty ?? false { state.cache[size] = nil }
    }
    return stale
  }

  /// Large blocks are mappings of their own: the C library's heap would be fragmented by their many sizes, and would
  /// give nothing back.
  private func allocate(_ size: Int) -> UnsafeMutableRawPointer? {
    guard AddressSpace.hasRoom(for: size) else { return nil }
    guard size >= Self.mappingThreshold else {
      var block: UnsafeMutableRawPointer?
      return posix_memalign(&block, 64, size) == 0 ? block : nil
    }
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | (isRehearsal ? MAP_NORESERVE : 0)
    let block = mmap(nil, size, PROT_READ | PROT_WRITE, flags, -1, 0)
    guard let block, block != MAP_FAILED else { return nil }
    if size >= Self.hugeThreshold, !isRehearsal { madvise(block, size, Int32(MADV_HUGEPAGE)) }
    return block
  }

  private func release(_ block: UInt, _ size: Int) {
    guard let address = UnsafeMutableRawPointer(bitPattern: block) else { return }
    state.withLock { $0.resident -= $0.touched.removeValue(forKey: block) ?? 0 }
    if size >= Self.mappingThreshold { munmap(address, size) } else { free(address) }
  }

  // MARK: Resident memory

  /// Bytes written in blocks that are in use or cached, and the highest since `resetResidentPeak`.
  var resident: (now: Int, peak: Int) { state.withLock { ($0.resident, $0.residentPeak) } }

  func resetResidentPeak() { state.withLock { $0.residentPeak = $0.resident } }

  /// Memory comes in pages when it is first written, in huge ones where they were asked for.
  private static func pages(_ byteCount: Int, of size: Int) -> Int {
    let page = size >= hugeThreshold ? 2 << 20 : size >= mappingThreshold ? 4096 : 64
    return min(size, (byteCount + page - 1) / page * page)
  }

  private func touch(_ block: UInt, _ byteCount: Int, of size: Int) {
    let pages = Self.pages(byteCount, of: size)
    state.withLock { state in
      let before = state.touched[block] ?? 0
      guard pages > before else { return }
      state.touched[block] = pages
      state.resident += pages - before
      state.residentPeak = max(state.residentPeak, state.resident)
    }
  }
}
