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
///
/// A request that lives no longer than a step may get a piece of a larger cached block: gradients, which grow while
/// activations go, would else push these out, and be pushed out by them in the next step.
final class BlockAllocator: Sendable {
  struct Block: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let size: Int
    /// Bytes that have been written by now.
    fileprivate(set) var touched: Int
    /// What this is a piece of, whose `touched` counts.
    fileprivate var whole: Whole?
  }

  /// A block that is cut into pieces from its start; it is cached again when the last of them is given back.
  fileprivate final class Whole {
    var block: Block
    var used = 0
    var pieces = 0
    init(_ block: Block) { self.block = block }
  }

  private struct State {
    /// Released blocks by size class.
    var cache = [[Block]](repeating: [], count: BlockAllocator.sizeClass(1 << 62))
    /// The block that the next piece comes from.
    var open: Whole?
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
  /// Its user will write the first `touching` bytes; `require` is called before the memory written grows. A block that
  /// `isBrief` is given back within a step, and may be a piece of a cached one.
  /// - Throws: What `require` throws.
  func take(
    _ size: Int, touching: Int, isBrief: Bool = false, require: (Int) throws -> Void
  ) throws -> Block? {
    let (reused, stale, before, touched) = state.withLock { state in
      // The class itself, or one of the next two: at most a quarter larger.
      let first = Self.sizeClass(size)
      let block =
        Self.cached(first..<min(first + 3, state.cache.count), &state) ?? (isBrief ? Self.piece(size, &state) : nil)
      if block == nil { state.liveByteCount += size }
      let (before, touched) = Self.written(block, size, by: touching)
      return (block, block == nil ? Self.evict(&state) : [], before, touched)
    }
    for block in stale { release(block) }
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
    state.withLock { state in
      if let whole = block.whole { whole.block.touched = touched } else { block.touched = touched }
      // Only now: what was refused was never there.
      state.peakByteCount = max(state.peakByteCount, state.liveByteCount)
      state.resident += touched - before
      state.residentPeak = max(state.residentPeak, state.resident)
    }
    return block
  }

  /// Bytes written of a block, or of what it is a piece of, before and after its user writes the first `count`; without
  /// a block, of a fresh one.
  private static func written(_ block: Block?, _ size: Int, by count: Int) -> (before: Int, after: Int) {
    guard let block else { return (0, pages(count, of: size)) }
    let whole = block.whole?.block ?? block
    return (whole.touched, max(whole.touched, pages(block.base - whole.base + count, of: whole.size)))
  }

  /// A cached block of the first of these classes that has one.
  private static func cached(_ classes: Range<Int>, _ state: inout State) -> Block? {
    for number in classes {
      guard let block = state.cache[number].popLast() else { continue }
      state.cachedByteCount -= block.size
      state.liveByteCount += block.size
      return block
    }
    return nil
  }

  /// A piece of a cached block at least four times as large, so that at most a quarter of it stays unused.
  private static func piece(_ size: Int, _ state: inout State) -> Block? {
    guard size >= mappingThreshold else { return nil }
    if state.open.map({ $0.used + size > $0.block.size }) ?? true {
      guard let block = cached(sizeClass(4 * size)..<state.cache.count, &state) else { return nil }
      state.open = Whole(block)
    }
    guard let whole = state.open else { return nil }
    defer { (whole.used, whole.pieces) = (whole.used + size, whole.pieces + 1) }
    return Block(base: whole.block.base + whole.used, size: size, touched: 0, whole: whole)
  }

  func give(_ block: Block) {
    state.withLock { state in
      var block = block
      if let whole = block.whole {
        whole.pieces -= 1
        guard whole.pieces == 0 else { return }
        if state.open === whole { state.open = nil }
        block = whole.block
      }
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
    let allowed = allowed(state)
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

  /// What live and cached bytes may come to.
  private static func allowed(_ state: State) -> Int {
    max(state.peakByteCount, state.liveByteCount) / slackDenominator * slackNumerator + freeAllowance
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
