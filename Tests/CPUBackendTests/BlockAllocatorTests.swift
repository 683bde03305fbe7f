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

/// Pieces of cached blocks, for what lives no longer than a step.
struct BlockPieceTests {
  private let allocator = BlockAllocator()
  private let piece = 20 << 10
  private let whole = 80 << 10

  private func take(_ size: Int, isBrief: Bool = true) throws -> BlockAllocator.Block {
    try #require(try allocator.take(size, touching: size, isBrief: isBrief) { _ in })
  }

  @Test func aBlockIsCutAndComesBackWhenItsLastPieceIsGiven() throws {
    let cached = try take(whole, isBrief: false)
    allocator.give(cached)
    let pieces = try (0..<4).map { _ in try take(piece) }
    #expect(pieces.map { $0.base - cached.base } == (0..<4).map { $0 * piece })
    #expect(allocator.peak == whole && allocator.resident.now == whole)
    // The fifth has no room there, and what is kept longer takes a block of its own.
    let fifth = try take(piece)
    #expect(!(cached.base..<cached.base + whole).contains(fifth.base))
    for piece in pieces.dropLast() { allocator.give(piece) }
    let other = try take(whole)
    #expect(other.base != cached.base)
    allocator.give(pieces[3])
    #expect(try take(whole, isBrief: false).base == cached.base)
    #expect(allocator.resident.now == 2 * whole + fifth.size)
  }

  @Test func whatIsKeptAndWhatIsLargeGetNoPiece() throws {
    let cached = try take(whole, isBrief: false)
    allocator.give(cached)
    #expect(try take(piece, isBrief: false).base != cached.base)
    #expect(try take(2 * piece).base != cached.base)
    #expect(try take(piece).base == cached.base)
  }

  @Test func aPieceCountsThePagesThatItWritesFirst() throws {
    let cached = try #require(try allocator.take(whole, touching: 0) { _ in })
    allocator.give(cached)
    var asked: [Int] = []
    let first = try #require(try allocator.take(piece, touching: 5000, isBrief: true) { asked.append($0) })
    let second = try #require(try allocator.take(piece, touching: piece, isBrief: true) { asked.append($0) })
    #expect(second.base - first.base == piece)
    #expect(asked == [8192, 2 * piece - 8192] && allocator.resident.now == 2 * piece)
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
