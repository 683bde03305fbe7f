import Tensors

/// Counters of a paged optimizer.
package struct PageStatistics: Sendable, Equatable {
  package var pageCount = 0
  package var residentPages = 0
  package var residentBytes = 0
  package var budget = 0
  /// Pages that made room for others, whether they had to be written or not.
  package var evictions = 0
  /// Pages that the step had to wait for.
  package var faults = 0
  /// Pages that were read ahead in time or nearly so.
  package var prefetched = 0
  package var bytesWritten = 0
  package var bytesRead = 0
}

/// Pages in a fixed number of slots, the rest in a spill file.
///
/// Pages are used in the order 0, 1, ... n - 1, 0, ... every step. So the page whose next use is farthest away is the
/// one just used, and it is what makes room (Belady's rule). The next pages that are not in memory are brought in on
/// the I/O thread while the current one is computed with: one request writes what a slot holds and reads what it will
/// hold. A failed write leaves its page in memory and throws at the next use.
final class StatePager: StateStore, @unchecked Sendable {
  private final class Slot: @unchecked Sendable {
    let block: StateBlock
    /// The page it holds, or will hold once the request under way is done.
    var page: Int?
    var isBusy = false
    var isDirty = false
    var isPinned = false
    /// Brought in ahead and not used since.
    var isAhead = false
    init(_ bytes: Tensor) { block = StateBlock(bytes) }
    /// The first bytes, as many as a page has.
    func bytes(_ count: Int) -> Tensor {
      Tensor(storage: block.bytes.storage, dtype: .u8, shape: [count])
    }
  }

  private let byteCounts: [Int]
  private let pageByteCount: Int
  /// Pages after the current one that are brought in.
  private let depth: Int
  private let backend: any Backend
  private let file: SpillFile
  private let thread: RequestThread
  /// All there will be, made at once: what does not fit is told before the first step and not within one.
  private let slots: [Slot]
  private var slotOfPage: [Int: Slot] = [:]
  /// Whether a page was sent to the file; else, when no slot has it, it is all zeros: one that was never changed is not
  /// written.
  private var isOut: [Bool]
  /// Checksum of each page in the file.
  private var checksums: [UInt64?]
  private var counters = PageStatistics()
  // Guards everything above against the I/O thread.
  private let monitor = Monitor()
  private var failure: TensorError?

  /// Allocates the slots, as many pages as `budget` bytes hold, and opens the file.
  /// - Throws: `OptimizerError.budgetTooSmall` when two pages do not fit: one to compute with, one to read ahead;
  ///   `TensorError.outOfMemory`, `.spillFailed`, `.noThread`.
  init(byteCounts: [Int], budget: Int, directory: String, backend: any Backend) throws {
    self.byteCounts = byteCounts
    let pageByteCount = byteCounts.max() ?? 64
    self.pageByteCount = pageByteCount
    let count = min(byteCounts.count, budget / pageByteCount)
    guard count >= min(2, byteCounts.count) else {
      throw OptimizerError.budgetTooSmall(budget: budget, minimum: 2 * pageByteCount)
    }
    slots = try (0..<count).map { _ in
      Slot(try Tensor(empty: [pageByteCount], dtype: .u8, category: .optimizer, on: backend))
    }
    self.backend = backend
    depth = max(1, min(3, count / 4))
    file = try SpillFile(directory: directory, content: .optimizerState)
    thread = try RequestThread()
    isOut = Array(repeating: false, count: byteCounts.count)
    checksums = Array(repeating: nil, count: byteCounts.count)
    counters.pageCount = byteCounts.count
    counters.budget = budget
  }

  var statistics: PageStatistics? {
    monitor.locked {
      var result = counters
      result.residentPages = slotOfPage.count
      result.residentBytes = slots.count * pageByteCount
      result.bytesWritten = file.writtenByteCount
      result.bytesRead = file.readByteCount
      return result
    }
  }

  func acquire(_ page: Int) throws -> StateBlock {
    try monitor.locked {
      try throwFailure()
      var hasWaited = false
      while true {
        if let slot = slotOfPage[page], !slot.isBusy {
          if hasWaited { counters.faults += 1 } else if slot.isAhead { counters.prefetched += 1 }
          slot.isAhead = false
          slot.isPinned = true
          readAhead(of: page)
          return slot.block
        }
        if slotOfPage[page] == nil {
          guard let slot = emptiestSlot(for: page) else {
            throw OptimizerError.budgetTooSmall(budget: counters.budget, minimum: 2 * pageByteCount)
          }
          if !slot.isBusy { bring(page, into: slot) }
        }
        hasWaited = hasWaited || isOut[page]
        while slots.contains(where: \.isBusy), slotOfPage[page]?.isBusy ?? true { monitor.wait() }
        try throwFailure()
      }
    }
  }

  func release(_ page: Int, isDirty: Bool) {
    monitor.locked {
      guard let slot = slotOfPage[page] else { return }
      slot.isPinned = false
      slot.isDirty = slot.isDirty || isDirty
    }
  }

  // MARK: Slots; all of it with the lock held

  private func throwFailure() throws {
    if let failure {
      self.failure = nil
      throw failure
    }
  }

  /// Starts to bring in the next pages in use order, where that takes no page which is used before them.
  private func readAhead(of page: Int) {
    let count = byteCounts.count
    for distance in 1...depth where distance < count {
      let next = (page + distance) % count
      guard slotOfPage[next] == nil else { continue }
      guard let slot = emptiestSlot(for: page), !slot.isBusy else { return }
      if let old = slot.page, (old - page + count) % count <= distance { return }
      slot.isAhead = true
      bring(next, into: slot)
    }
  }

  /// A slot without a page, or that of the page whose next use is farthest from `page`; a busy one when only such are
  /// left, nil when all are pinned.
  private func emptiestSlot(for page: Int) -> Slot? {
    if let slot = slots.first(where: { $0.page == nil }) { return slot }
    let count = byteCounts.count
    func distance(_ slot: Slot) -> Int { ((slot.page ?? page) - page + count) % count }
    let idle = slots.filter { !$0.isPinned && !$0.isBusy }
    return idle.max { distance($0) < distance($1) } ?? slots.first(where: \.isBusy)
  }

  /// Replaces what an idle slot holds.
  private func bring(_ page: Int, into slot: Slot) {
    let old = slot.page
    let writesOld = old != nil && slot.isDirty
    if let old {
      counters.evictions += 1
      slotOfPage[old] = nil
      if writesOld { isOut[old] = true }
    }
    let readsNew = isOut[page]
    slot.page = page
    slotOfPage[page] = slot
    slot.isDirty = false
    guard writesOld || readsNew else {
      do throws(TensorError) {
        try backend.zero(slot.bytes(byteCounts[page]))
      } catch {
        failure = error
        drop(slot)
      }
      return
    }
    slot.isBusy = true
    thread.submit { [self, slot] in exchange(writesOld ? old : nil, readsNew, page, slot) }
  }

  /// On the I/O thread, without the lock: writes the old page, then reads the new one or clears the memory for it.
  private func exchange(_ old: Int?, _ readsNew: Bool, _ page: Int, _ slot: Slot) {
    func finish(_ body: () -> Void) {
      monitor.locked {
        body()
        slot.isBusy = false
        monitor.broadcast()
      }
    }
    if let old {
      do throws(TensorError) {
        let checksum = try file.write(slot.bytes(byteCounts[old]), at: old * pageByteCount)
        monitor.locked { checksums[old] = checksum }
      } catch {
        // The page stays where it is, complete, and what the file has of it is no page any more.
        return finish {
          failure = error
          checksums[old] = nil
          slotOfPage[page] = nil
          slot.page = old
          (slot.isDirty, slot.isAhead) = (true, false)
          slotOfPage[old] = slot
        }
      }
    }
    let target = slot.bytes(byteCounts[page])
    do throws(TensorError) {
      guard readsNew else {
        try backend.zero(target)
        return finish {}
      }
      // A page whose own write has failed meanwhile is still in its slot, and the failure is told.
      guard let checksum = monitor.locked({ checksums[page] }) else {
        return finish { drop(slot) }
      }
      try file.read(into: target, at: page * pageByteCount, checksum: checksum)
      finish {}
    } catch {
      finish {
        failure = error
        drop(slot)
      }
    }
  }

  private func drop(_ slot: Slot) {
    if let page = slot.page, slotOfPage[page] === slot { slotOfPage[page] = nil }
    slot.page = nil
    (slot.isDirty, slot.isAhead) = (false, false)
  }
}
