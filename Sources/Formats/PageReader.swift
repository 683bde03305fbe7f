import Glibc
import Synchronization
import Tensors

/// Brings ranges of mapped files into memory on a thread of its own, in the order they are asked for, and tells when
/// they are there. A range that cannot be read (a failing disk, a file cut short) is an error code here, where the
/// touch of a page would end the process.
package final class PageReader {
  private let thread: RequestThread
  private var reads: [Int: (request: PendingRequest, state: State)] = [:]

  /// What a read tells, and is told, while it is under way.
  private final class State: Sendable {
    let code = Atomic<Int32>(0)
    let isStopping = Atomic(false)
  }

  /// - Throws: `TensorError.noThread` where the system gives no thread.
  package init() throws(TensorError) { thread = try RequestThread() }

  // What is being read must stay mapped until it is.
  deinit {
    for read in reads.values { read.state.isStopping.store(true, ordering: .releasing) }
    for read in reads.values { try? read.request.wait() }
  }

  /// Asks for address ranges of a read-only mapping, which must stay mapped until `wait` for `key` has returned or this
  /// object is gone.
  package func request(_ key: Int, _ ranges: [Range<UInt>]) {
    let state = State()
    let request = thread.start {
      for range in ranges where state.code.load(ordering: .relaxed) == 0 {
        let code = PageReader.populate(range) { !state.isStopping.load(ordering: .acquiring) }
        state.code.store(code, ordering: .releasing)
      }
    }
    reads[key] = (request, state)
  }

  /// Returns when everything asked for under `key` is in memory: 0, or the system's error code, which is told once.
  package func wait(for key: Int) -> Int32 {
    guard let read = reads.removeValue(forKey: key) else { return 0 }
    try? read.request.wait()  // a read throws nothing; its code tells
    return read.state.code.load(ordering: .acquiring)
  }

  /// Takes the whole pages inside a range out of this process; the file's copy in the page cache stays.
  package static func release(_ ranges: [Range<UInt>]) {
    let page = UInt(sysconf(Int32(_SC_PAGESIZE)))
    for range in ranges {
      let (start, end) = ((range.lowerBound + page - 1) / page * page, range.upperBound / page * page)
      guard end > start, let address = UnsafeMutableRawPointer(bitPattern: start) else { continue }
      _ = madvise(address, Int(end - start), MADV_DONTNEED)
    }
  }

  /// Reads a range piece by piece until done or stopped.
  private static func populate(_ range: Range<UInt>, while goesOn: () -> Bool) -> Int32 {
    let page = UInt(sysconf(Int32(_SC_PAGESIZE)))
    let piece = UInt(4 << 20)
    let populateRead: Int32 = 22  // MADV_POPULATE_READ, Linux 5.14
    var start = range.lowerBound / page * page
    if let address = UnsafeMutableRawPointer(bitPattern: start) {
      _ = madvise(address, Int(range.upperBound - start), MADV_WILLNEED)
    }
    while start < range.upperBound, goesOn() {
      let end = min(start + piece, (range.upperBound + page - 1) / page * page)
      guard let address = UnsafeMutableRawPointer(bitPattern: start) else { return EFAULT }
      if madvise(address, Int(end - start), populateRead) != 0 {
        if errno == EINTR || errno == EAGAIN { continue }
        // An older kernel: the pages then come when they are touched.
        guard errno == EINVAL else { return errno }
      }
      start = end
    }
    return 0
  }
}
