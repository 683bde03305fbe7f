import Testing

@testable import CPUBackend

/// Blocks of memory that are kept for reuse.
struct BlockAllocatorTests {
  @Test func classesOfSizesAreNumberedWithoutGaps() {
    var number = 0
    var size = BlockAllocator.roundedByteCount(1)
    while size < 1 << 50 {
      #expect(BlockAllocator.sizeClass(size) == number)
      size = BlockAllocator.roundedByteCount(size + 1)
      number += 1
    }
    #expect(number > 64 + 8 * 36)
  }

  @Test func aReleasedBlockServesAtMostAQuarterLessAndNothingLarger() throws {
    for size in [65 << 10, 1 << 20, 5 << 20] {
      let allocator = BlockAllocator()
      func take(_ byteCount: Int) throws -> BlockAllocator.Block {
        try #require(
          try allocator.take(BlockAllocator.roundedByteCount(byteCount), touching: byteCount) { _ in })
      }
      let block = try take(size)
      allocator.give(block)
      let larger = try take(block.size + 1)
      #expect(larger.base != block.base)
      let smaller = try take(block.size * 7 / 10)
      #expect(smaller.base != block.base)
      let fitting = try take(block.size * 9 / 10)
      #expect(fitting.base == block.base)
      #expect(fitting.size == block.size)
      #expect(fitting.touched == block.touched)
      allocator.releaseCache()
      for block in [larger, smaller, fitting] { allocator.give(block) }
      allocator.releaseCache()
      #expect(allocator.resident.now == 0)
    }
  }
}

/// What is refused leaves no trace on the books.
struct RefusedBlockTests {
  private struct Refused: Error {}

  /// The peak says what may be kept for reuse: were it that of a refused request, nothing would be given back.
  @Test func aRefusedRequestDoesNotRaiseThePeak() throws {
    let allocator = BlockAllocator()
    let size = BlockAllocator.roundedByteCount(1 << 20)
    #expect(throws: Refused.self) {
      try allocator.take(BlockAllocator.roundedByteCount(1 << 33), touching: 1 << 33) { _ in throw Refused() }
    }
    #expect(allocator.resident.now == 0 && allocator.peak == 0)
    let block = try #require(try allocator.take(size, touching: size) { _ in })
    #expect(allocator.peak == size && allocator.resident.now == size)
    allocator.give(block)
    // A block of the cache goes back there.
    let bare = BlockAllocator()
    let cached = try #require(try bare.take(size, touching: 0) { _ in })
    bare.give(cached)
    #expect(throws: Refused.self) { try bare.take(size, touching: size) { _ in throw Refused() } }
    let again = try #require(try bare.take(size, touching: 0) { _ in })
    #expect(again.base == cached.base && bare.peak == size && bare.resident.now == 0)
    bare.give(again)
    allocator.releaseCache()
  }
}
