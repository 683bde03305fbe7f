import CPlatform
import Numerics
import Synchronization

/// Which matrices follow each other in products of few rows, so that a thread that waits may bring the next ones into
/// its caches.
///
/// A model multiplies by its matrices in the same order for each token: when one of those seen comes again, those that
/// followed it are expected in their order, until another one comes. Only addresses are kept, and an address is at
/// most prefetched, which never faults.
final class ReadAhead {
  struct Bytes: Equatable {
    var base: UnsafeRawPointer?
    var count = 0
  }

  /// What the products of one region read; of more than four the first four.
  typealias Group = (Bytes, Bytes, Bytes, Bytes)

  private var seen: [Group] = []
  /// Where the groups of `seen` are, by their first matrix, while they are learned.
  private var places: [UnsafeRawPointer?: Int] = [:]
  /// Which of `seen` is expected; nil while they are learned.
  private var expected: Int?
  /// Longer rounds are not learned.
  private static let most = 1 << 14

  /// Notes that these products come now, and says what is expected after them.
  func note(_ products: [RowProducts.Product], k: Int, _ expectation: Expectation) {
    func bytes(_ index: Int) -> Bytes { index < products.count ? Self.bytes(products[index].matrix, k) : Bytes() }
    let first = bytes(0)
    if let now = expected, seen[now].0 == first {
      expected = now + 1 == seen.count ? 0 : now + 1
    } else if expected == nil, let start = places[first.base] {
      seen.removeFirst(start)
      expected = 1 % seen.count
    } else {
      if expected != nil || seen.count >= Self.most {
        seen.removeAll()
        places.removeAll()
      }
      places[first.base] = seen.count
      seen.append((first, bytes(1), bytes(2), bytes(3)))
      expected = nil
    }
    expectation.set(expected.map { seen[$0] } ?? (Bytes(), Bytes(), Bytes(), Bytes()))
  }

  /// Where the rows of a matrix lie; of a quantized one the codes.
  private static func bytes(_ matrix: MatmulOperand, _ k: Int) -> Bytes {
    switch matrix.source {
    case .dense(let base, let type, let stride, _):
      Bytes(base: base, count: matrix.lanes * stride * type.byteCount)
    case .quantized(let weight, _): Bytes(base: UnsafeRawPointer(weight.pointee.codes), count: matrix.lanes * k / 2)
    case .blocks(let weight, _):
      Bytes(base: UnsafeRawPointer(weight.pointee.bytes), count: matrix.lanes * weight.pointee.pitch)
    }
  }
}

/// What will be read next, as threads see it that have nothing else to do.
final class Expectation: @unchecked Sendable {
  /// How far a thread came.
  struct Reader {
    let worker: Int
    let count: Int
    fileprivate var number = 0
    fileprivate var position = 0

    init(worker: Int, of count: Int) { (self.worker, self.count) = (worker, count) }
  }

  private struct Range: ~Copyable {
    let base = Atomic<UInt>(0)
    let count = Atomic<Int>(0)
  }

  /// Counts what was expected.
  private let number = Atomic<Int>(0)
  private let total = Atomic<Int>(0)
  private let ranges: UnsafeMutablePointer<Range>
  /// As many as a group has.
  private static let rangeCount = 4
  /// What a thread fetches in all, half of the second-level cache of most processors, and at once.
  private static let (most, piece) = (512 << 10, 1024)

  init() {
    ranges = .allocate(capacity: Self.rangeCount)
    for index in 0..<Self.rangeCount { (ranges + index).initialize(to: Range()) }
  }

  deinit {
    ranges.deinitialize(count: Self.rangeCount)
    ranges.deallocate()
  }

  /// Threads may be reading what was expected before; what they make of a mixture is a prefetch that is of no use.
  func set(_ group: ReadAhead.Group) {
    func store(_ bytes: ReadAhead.Bytes, _ index: Int) {
      ranges[index].base.store(UInt(bitPattern: bytes.base), ordering: .relaxed)
      ranges[index].count.store(bytes.count, ordering: .relaxed)
    }
    store(group.0, 0)
    store(group.1, 1)
    store(group.2, 2)
    store(group.3, 3)
    total.store(group.0.count + group.1.count + group.2.count + group.3.count, ordering: .relaxed)
    // One thread sets.
    number.store(number.load(ordering: .relaxed) + 1, ordering: .releasing)
  }

  /// Fetches some more, beginning with the thread's own share.
  /// - Returns: whether there was something left.
  func fetch(_ reader: inout Reader) -> Bool {
    let (number, total) = (number.load(ordering: .acquiring), total.load(ordering: .relaxed))
    if number != reader.number { (reader.number, reader.position) = (number, 0) }
    guard reader.position < min(total, Self.most) else { return false }
    var place = total * reader.worker / reader.count + reader.position
    if place >= total { place -= total }
    reader.position += Self.piece
    var index = 0
    while index < Self.rangeCount {
      let count = ranges[index].count.load(ordering: .relaxed)
      if place < count { break }
      (place, index) = (place - count, index + 1)
    }
    guard index < Self.rangeCount else { return true }
    let base = ranges[index].base.load(ordering: .relaxed) &+ UInt(bitPattern: place)
    for line in stride(from: 0, to: Self.piece, by: 64) {
      mm_prefetch(UnsafeRawPointer(bitPattern: base &+ UInt(line)))
    }
    return true
  }
}
