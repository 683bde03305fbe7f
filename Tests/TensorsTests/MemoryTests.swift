import Glibc
import Synchronization
import Testing

@testable import Tensors

/// What the limit on memory counts, and what it asks for before it refuses.
@Suite(.serialized) struct MemoryTests {
  private final class Parts: Sendable {
    let kept = Atomic(0)
  }

  @Test func theLimitIsOnAllThatTheProcessHolds() throws {
    let (memory, parts) = (MemoryLedger(), Parts())
    memory.limit = 100
    memory.measure(
      backend: { 30 + parts.kept.load(ordering: .relaxed) }, reclaim: { parts.kept.store(0, ordering: .relaxed) })
    memory.measure(program: { blocks in blocks == 30 ? 20 : 21 })
    var pages: FilePages? = try FilePages(10, on: memory)
    try memory.require(40)
    #expect(throws: TensorError.outOfMemory(byteCount: 41, used: 60, limit: 100)) { try memory.require(41) }
    #expect(throws: TensorError.outOfMemory(byteCount: 41, used: 60, limit: 100)) { try FilePages(41, on: memory) }
    #expect(memory.live(.file) == 10)
    // What is kept for reuse is given up before anything is refused, and not before.
    parts.kept.store(25, ordering: .relaxed)
    try memory.require(14)
    #expect(parts.kept.load(ordering: .relaxed) == 25)
    try memory.require(40)
    #expect(parts.kept.load(ordering: .relaxed) == 0)
    #expect(pages?.byteCount == 10)
    pages = nil
    try memory.require(50)
    memory.limit = nil
    try memory.require(.max)
  }

  private static var addressLimit: rlimit {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
    return limit
  }

  /// A limit far above what the process has, so that nothing else fails of it.
  @Test(.enabled(if: addressLimit.rlim_cur > 1 << 44, "the limit on addresses (ulimit -v) is lower already"))
  func addressesAreKeptForTheHeap() {
    var before = Self.addressLimit
    var limit = before
    limit.rlim_cur = 1 << 44
    setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
    defer { setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &before) }
    // Other threads may map a little meanwhile, so four MiB on either side of the twelve that stay.
    let room = (1 << 44) - AddressSpace.used
    #expect(AddressSpace.hasRoom(for: room - (16 << 20)))
    #expect(!AddressSpace.hasRoom(for: room - (8 << 20)))
    #expect(!AddressSpace.hasRoom(for: 1 << 45) && !AddressSpace.hasRoom(for: .max))
  }
}
