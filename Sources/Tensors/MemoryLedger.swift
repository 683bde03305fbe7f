import Synchronization

/// What a block of memory is for; the planner and the reports speak of these.
public enum MemoryCategory: Int, Sendable, CaseIterable {
  case weights, adapters, gradients, optimizer, activations, workspace

  public var name: String { String(describing: self) }
}

/// Counts every live byte of a backend by category, with the highest total seen, and holds the limit set by
/// `--memory`.
public final class MemoryLedger: Sendable {
  private struct Counts {
    var live = [Int](repeating: 0, count: MemoryCategory.allCases.count)
    var total = 0
    var peak = 0
    var limit: Int?
  }

  private let counts = Mutex(Counts())

  public init() {}

  /// Adds a block to the books.
  /// - Throws: `outOfMemory` before anything is allocated when the limit would be exceeded.
  public func charge(_ byteCount: Int, _ category: MemoryCategory) throws {
    try counts.withLock { counts in
      if let limit = counts.limit, counts.total + byteCount > limit {
        throw TensorError.outOfMemory(byteCount: byteCount, live: counts.total, limit: limit)
      }
      counts.live[category.rawValue] += byteCount
      counts.total += byteCount
      counts.peak = max(counts.peak, counts.total)
    }
  }

  public func refund(_ byteCount: Int, _ category: MemoryCategory) {
    counts.withLock { counts in
      counts.live[category.rawValue] -= byteCount
      counts.total -= byteCount
    }
  }

  public func live(_ category: MemoryCategory) -> Int { counts.withLock { $0.live[category.rawValue] } }
  public var total: Int { counts.withLock { $0.total } }
  public var peak: Int { counts.withLock { $0.peak } }
  public func resetPeak() { counts.withLock { $0.peak = $0.total } }

  /// Most bytes that may be live at once, or nil.
  public var limit: Int? {
    get { counts.withLock { $0.limit } }
    set { counts.withLock { $0.limit = newValue } }
  }
}
