import Glibc
import Synchronization

/// Brings ranges of mapped files into memory on a thread of its own, in the order they are asked for, and tells when
/// they are there. A range that cannot be read (a failing disk, a file cut short) is an error code here, where the
/// touch of a page would end the process.
public final class PageReader: Sendable {
  private let queue: Queue
  private let thread: UInt

  /// nil where the system gives no thread.
  public init?() {
    queue = Queue()
    let seat = Unmanaged.passRetained(queue)
    var handle = pthread_t()
    let status = pthread_create(
      &handle, nil,
      { raw in
        guard let raw else { return nil }
        Unmanaged<Queue>.fromOpaque(raw).takeRetainedValue().run()
        return nil
      }, seat.toOpaque())
    guard status == 0 else {
      seat.release()
      return nil
    }
    thread = UInt(handle)
  }

  deinit {
    queue.stop()
    pthread_join(pthread_t(thread), nil)
  }

  /// Asks for address ranges of a read-only mapping, which must stay mapped until `wait` for `key` has returned or this
  /// object is gone.
  public func request(_ key: Int, _ ranges: [Range<UInt>]) { queue.add(key, ranges) }

  /// Returns when everything asked for under `key` is in memory: 0, or the system's error code.
  public func wait(for key: Int) -> Int32 { queue.wait(for: key) }

  /// Takes the whole pages inside a range out of this process; the file's copy in the page cache stays.
  public static func release(_ ranges: [Range<UInt>]) {
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

  private final class Queue: @unchecked Sendable {
    private var mutex = pthread_mutex_t()
    private var condition = pthread_cond_t()
    private var waiting: [(key: Int, ranges: [Range<UInt>])] = []
    /// Keys asked for and not yet in memory.
    private var pending: Set<Int> = []
    private var failures: [Int: Int32] = [:]
    private let isStopping = Atomic(false)

    init() {
      pthread_mutex_init(&mutex, nil)
      pthread_cond_init(&condition, nil)
    }

    deinit {
      pthread_cond_destroy(&condition)
      pthread_mutex_destroy(&mutex)
    }

    private func locked<R>(_ body: () -> R) -> R {
      pthread_mutex_lock(&mutex)
      defer { pthread_mutex_unlock(&mutex) }
      return body()
    }

    func add(_ key: Int, _ ranges: [Range<UInt>]) {
      locked {
        waiting.append((key, ranges))
        pending.insert(key)
        pthread_cond_broadcast(&condition)
      }
    }

    func wait(for key: Int) -> Int32 {
      locked {
        while pending.contains(key) { pthread_cond_wait(&condition, &mutex) }
        return failures.removeValue(forKey: key) ?? 0
      }
    }

    func stop() {
      isStopping.store(true, ordering: .releasing)
      locked { _ = pthread_cond_broadcast(&condition) }
    }

    private var goesOn: Bool { !isStopping.load(ordering: .acquiring) }

    func run() {
      while let job = next() {
        var code: Int32 = 0
        for range in job.ranges where code == 0 { code = PageReader.populate(range) { goesOn } }
        locked {
          pending.remove(job.key)
          if code != 0 { failures[job.key] = code }
          pthread_cond_broadcast(&condition)
        }
      }
    }

    private func next() -> (key: Int, ranges: [Range<UInt>])? {
      locked {
        while waiting.isEmpty, goesOn { pthread_cond_wait(&condition, &mutex) }
        return goesOn ? waiting.removeFirst() : nil
      }
    }
  }
}
