import Synchronization

/// What a block of memory is for; the planner and the reports speak of these.
public enum MemoryCategory: Int, Sendable, CaseIterable {
  /// In this order: the base model; trained branches; their gradients; state of the optimizer; results of
  /// operations; scratch of one operation.
  case weights, adapters, gradients, optimizer, activations, workspace
  /// Pages of mapped files: a base that is used where it lies, or the window of a streamed one.
  case file
  /// Token ids of data sets.
  case samples

  /// The name in reports, for example `weights`.
  public var name: String { String(describing: self) }
}

/// Counts every live byte of a backend by category, with the highest total seen, and holds the limit set by
/// `--memory`.
///
/// The limit holds for the whole process. Live bytes are only a part of it: blocks have rounded sizes and are kept for
/// reuse, kernels have scratch, and there is the program. Call `require` before allocating. The backend and the program
/// register closures that measure the memory that the ledger does not track.
public final class MemoryLedger: Sendable {
  private struct Counts {
    var live = [Int](repeating: 0, count: MemoryCategory.allCases.count)
    var highest = [Int](repeating: 0, count: MemoryCategory.allCases.count)
    var total = 0
    var peak = 0
    var limit: Int?
    var backend: @Sendable () -> Int = { 0 }
    var reclaim: @Sendable () -> Void = {}
    var program: @Sendable (_ backend: Int) -> Int = { _ in 0 }
  }

  private let counts = Mutex(Counts())

  /// Empty books without a limit.
  public init() {}

  /// Adds a block of `byteCount` bytes to the books; the limit is not checked.
  public func charge(_ byteCount: Int, _ category: MemoryCategory) {
    counts.withLock { counts in
      counts.live[category.rawValue] += byteCount
      counts.highest[category.rawValue] = max(counts.highest[category.rawValue], counts.live[category.rawValue])
      counts.total += byteCount
      counts.peak = max(counts.peak, counts.total)
    }
  }

  /// Takes a block of `byteCount` bytes off the books.
  public func refund(_ byteCount: Int, _ category: MemoryCategory) {
    counts.withLock { counts in
      counts.live[category.rawValue] -= byteCount
      counts.total -= byteCount
    }
  }

  /// Called before the process grows by `byteCount`. What the backend keeps for reuse is given up first.
  /// - Throws: `TensorError.outOfMemory` when the limit would be exceeded.
  public func require(_ byteCount: Int) throws {
    let now = counts.withLock { $0 }
    if let used = use(now, without: byteCount, program: now.program) {
      throw TensorError.outOfMemory(byteCount: byteCount, used: used, limit: now.limit)
    }
  }

  /// Whether the process may grow by `byteCount`, where the program's part is what `program` measures instead, given
  /// the backend's. What the backend keeps for reuse is given up first.
  package func admits(_ byteCount: Int, program: (_ backend: Int) -> Int) -> Bool {
    use(counts.withLock { $0 }, without: byteCount, program: program) == nil
  }

  /// The bytes in use when the limit does not let another `byteCount` be; nil when it does.
  private func use(_ now: Counts, without byteCount: Int, program: (Int) -> Int) -> Int? {
    guard let limit = now.limit else { return nil }
    func used() -> Int {
      let blocks = now.backend()
      return blocks + now.live[MemoryCategory.file.rawValue] + program(blocks)
    }
    if byteCount <= limit - used() { return nil }
    now.reclaim()
    let used = used()
    return byteCount > limit - used ? used : nil
  }

  /// How to measure what blocks and scratch of the backend occupy, and how to make it give up what it keeps for reuse.
  public func measure(backend: @escaping @Sendable () -> Int, reclaim: @escaping @Sendable () -> Void) {
    counts.withLock { ($0.backend, $0.reclaim) = (backend, reclaim) }
  }

  /// How to measure what the program occupies besides, given what the backend does.
  public func measure(program: @escaping @Sendable (_ backend: Int) -> Int) {
    counts.withLock { $0.program = program }
  }

  /// Bytes of a category that are live now.
  public func live(_ category: MemoryCategory) -> Int { counts.withLock { $0.live[category.rawValue] } }
  /// The most bytes of a category that were live at once since the ledger was made.
  public func highest(_ category: MemoryCategory) -> Int { counts.withLock { $0.highest[category.rawValue] } }
  /// Live bytes of all categories.
  public var total: Int { counts.withLock { $0.total } }
  /// The highest `total` since the ledger was made or `resetPeak` was called.
  public var peak: Int { counts.withLock { $0.peak } }
  /// Sets `peak` to `total`.
  public func resetPeak() { counts.withLock { $0.peak = $0.total } }

  /// Most bytes that the process may have in memory, or nil.
  public var limit: Int? {
    get { counts.withLock { $0.limit } }
    set { counts.withLock { $0.limit = newValue } }
  }
}

/// Pages of files that will be in memory as long as this object lives, on the books of a backend.
public final class FilePages: Sendable {
  /// Bytes on the books.
  public let byteCount: Int
  private let memory: MemoryLedger

  /// Charges so many bytes to the category `file`.
  /// - Throws: `TensorError.outOfMemory` when they do not fit the limit.
  public init(_ byteCount: Int, on memory: MemoryLedger) throws {
    try memory.require(byteCount)
    memory.charge(byteCount, .file)
    self.byteCount = byteCount
    self.memory = memory
  }

  deinit { memory.refund(byteCount, .file) }
}
