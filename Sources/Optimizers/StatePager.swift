import Glibc
import Tensors

/// Counters of a paged optimizer.
public struct PageStatistics: Sendable, Equatable {
  public var pageCount = 0
  public var residentPages = 0
  public var residentBytes = 0
  public var budget = 0
  /// Pages written out to make room.
  public var evictions = 0
  /// Pages that the step had to wait for.
  public var faults = 0
  /// Pages that were read ahead in time or nearly so.
  public var prefetched = 0
  public var bytesWritten = 0
  public var bytesRead = 0
}

/// Where the state of each page lives: all of it in memory, or within a budget with the rest in a file.
protocol StateStore: AnyObject {
  /// The bytes of a page, valid until `release`; zeros at first.
  func acquire(_ page: Int) throws -> UnsafeMutableRawPointer
  func release(_ page: Int, isDirty: Bool)
  var statistics: PageStatistics? { get }
}

/// All pages in memory.
final class ResidentStore: StateStore {
  private let blocks: [Tensor]

  init(byteCounts: [Int], backend: any Backend) throws {
    blocks = try byteCounts.map { try Tensor(full: [$0], value: 0, dtype: .u8, category: .optimizer, on: backend) }
  }

  func acquire(_ page: Int) -> UnsafeMutableRawPointer { blocks[page].address }
  func release(_ page: Int, isDirty: Bool) {}
  var statistics: PageStatistics? { nil }
}

/// Pages in a fixed number of slots, the rest in a spill file.
///
/// Pages are used in the order 0, 1, ... n - 1, 0, ... every step. So the page whose next use is farthest away is the
/// one just used, and it is what makes room (Belady's rule); the next page that is not resident is read ahead on the I/O
/// thread while the current one is computed with, and evicted pages are written behind. A failed write leaves its page in
/// memory and throws at the next use.
final class StatePager: StateStore, @unchecked Sendable {
  private enum Condition { case free, resident, reading, writing }

  private final class Slot: @unchecked Sendable {
    let bytes: UnsafeMutableRawPointer
    var page = -1
    var condition = Condition.free
    var isDirty = false
    var isPinned = false
    init(_ bytes: UnsafeMutableRawPointer) { self.bytes = bytes }
  }

  private let byteCounts: [Int]
  private let pageByteCount: Int
  private let slotLimit: Int
  private let backend: any Backend
  private let file: SpillFile
  private let thread: RequestThread
  private var memory: [Tensor] = []
  private var slots: [Slot] = []
  private var slotOfPage: [Int: Slot] = [:]
  /// Checksum of each page in the file; nil for one that is not there.
  private var written: [UInt64?]
  private var counters = PageStatistics()
  // Guards everything above against the I/O thread.
  private var mutex = pthread_mutex_t()
  private var changed = pthread_cond_t()
  private var failure: TensorError?

  /// - Throws: `budgetTooSmall` when two pages do not fit: one to compute with, one to read ahead.
  init(byteCounts: [Int], budget: Int, directory: String, backend: any Backend) throws {
    self.byteCounts = byteCounts
    self.backend = backend
    pageByteCount = byteCounts.max() ?? 64
    slotLimit = min(byteCounts.count, budget / pageByteCount)
    guard slotLimit >= min(2, byteCounts.count) else {
      throw OptimizerError.budgetTooSmall(budget: budget, minimum: 2 * pageByteCount)
    }
    file = try SpillFile(directory: directory, content: .optimizerState)
    thread = try RequestThread()
    written = Array(repeating: nil, count: byteCounts.count)
    counters.pageCount = byteCounts.count
    counters.budget = budget
    pthread_mutex_init(&mutex, nil)
    pthread_cond_init(&changed, nil)
  }

  var statistics: PageStatistics? {
    locked {
      var result = counters
      let used = slots.filter { $0.condition != .free }
      result.residentPages = used.count
      result.residentBytes = slots.count * pageByteCount
      result.bytesWritten = file.writtenByteCount
      result.bytesRead = file.readByteCount
      return result
    }
  }

  func acquire(_ page: Int) throws -> UnsafeMutableRawPointer {
    let slot = try resident(page)
    locked { slot.isPinned = true }
    try prefetch(after: page)
    return slot.bytes
  }

  func release(_ page: Int, isDirty: Bool) {
    locked {
      guard let slot = slotOfPage[page] else { return }
      slot.isPinned = false
      slot.isDirty = slot.isDirty || isDirty
    }
  }

  // MARK: Slots

  private func locked<R>(_ body: () throws -> R) rethrows -> R {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    return try body()
  }

  private func throwFailure() throws {
    if let failure {
      self.failure = nil
      throw failure
    }
  }

  /// The slot that holds a page, read now if need be.
  private func resident(_ page: Int) throws -> Slot {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    try throwFailure()
    if let slot = slotOfPage[page] {
      if slot.condition == .reading { counters.prefetched += 1 }
      while slot.condition == .reading || slot.condition == .writing, slot.page == page {
        pthread_cond_wait(&changed, &mutex)
      }
      try throwFailure()
      if slot.page == page, slot.condition == .resident { return slot }
    }
    counters.faults += written[page] == nil ? 0 : 1
    let slot = try emptySlot(for: page, wait: true)!
    try load(page, into: slot, readAhead: false)
    while slot.condition == .reading { pthread_cond_wait(&changed, &mutex) }
    try throwFailure()
    return slot
  }

  /// Starts reading the next page in use order, if a slot can be had without waiting.
  private func prefetch(after page: Int) throws {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    let next = (page + 1) % byteCounts.count
    guard next != page, slotOfPage[next] == nil, written[next] != nil else { return }
    guard let slot = try emptySlot(for: next, wait: false) else { return }
    try load(next, into: slot, readAhead: true)
  }

  /// A free slot, made by evicting the resident page whose next use is farthest; called with the lock held.
  private func emptySlot(for page: Int, wait: Bool) throws -> Slot? {
    while true {
      if let slot = slots.first(where: { $0.condition == .free }) { return slot }
      if slots.count < slotLimit {
        let block = try Tensor(empty: [pageByteCount], dtype: .u8, category: .optimizer, on: backend)
        memory.append(block)
        slots.append(Slot(block.address))
        continue
      }
      evictFarthest(from: page)
      if slots.contains(where: { $0.condition == .free }) { continue }
      guard wait else { return nil }
      guard slots.contains(where: { $0.condition == .writing || $0.condition == .reading }) else {
        try throwFailure()
        throw OptimizerError.budgetTooSmall(budget: counters.budget, minimum: 2 * pageByteCount)
      }
      pthread_cond_wait(&changed, &mutex)
      try throwFailure()
    }
  }

  private func evictFarthest(from page: Int) {
    guard !slots.contains(where: { $0.condition == .writing }) else { return }
    let count = byteCounts.count
    let candidates = slots.filter { $0.condition == .resident && !$0.isPinned }
    guard let slot = candidates.max(by: { ($0.page - page + count) % count < ($1.page - page + count) % count })
    else { return }
    counters.evictions += 1
    guard slot.isDirty else { return forget(slot) }
    slot.condition = .writing
    let (pageNumber, bytes) = (slot.page, UInt(bitPattern: slot.bytes))
    thread.submit { [self, slot] in
      let source = UnsafeRawPointer(bitPattern: bytes)!
      let result = Result { () throws(TensorError) in
        try file.write(source, byteCounts[pageNumber], at: pageNumber * pageByteCount)
      }
      locked {
        switch result {
        case .success(let checksum):
          written[pageNumber] = checksum
          slot.isDirty = false
          forget(slot)
        case .failure(let error):
          // The page stays where it is, complete.
          slot.condition = .resident
          failure = error
        }
        pthread_cond_broadcast(&changed)
      }
    }
  }

  private func forget(_ slot: Slot) {
    slotOfPage[slot.page] = nil
    slot.page = -1
    slot.condition = .free
  }

  /// Fills a slot from the file on the I/O thread, or with zeros when the page was never written.
  private func load(_ page: Int, into slot: Slot, readAhead: Bool) throws {
    slot.page = page
    slot.isDirty = false
    slotOfPage[page] = slot
    guard let checksum = written[page] else {
      memset(slot.bytes, 0, byteCounts[page])
      // A page that was never written must reach the file when it is evicted.
      slot.isDirty = true
      slot.condition = .resident
      return
    }
    slot.condition = .reading
    let bytes = UInt(bitPattern: slot.bytes)
    thread.submit { [self, slot] in
      let target = UnsafeMutableRawPointer(bitPattern: bytes)!
      let result = Result { () throws(TensorError) in
        try file.read(target, byteCounts[page], at: page * pageByteCount, checksum: checksum)
      }
      locked {
        switch result {
        case .success: slot.condition = .resident
        case .failure(let error):
          failure = error
          forget(slot)
        }
        pthread_cond_broadcast(&changed)
      }
    }
  }
}
