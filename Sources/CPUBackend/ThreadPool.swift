import CPlatform
import Glibc
import Synchronization
import Tensors

/// A persistent fork-join pool. The caller is worker 0; work is split into chunks that are handed out by an
/// atomic counter, so that a late worker delays nobody: a region ends when every chunk is done, whether or not all
/// workers came. Which worker runs a chunk is not determined: a body must compute the same bits whoever runs it.
///
/// Workers spin for a short while after a region, giving way to other threads, and then sleep; a worker that spins
/// brings what is expected to be read next into its caches (`Expectation`). Regions do not nest: a body that calls
/// `run` again executes it serially, as the worker that it runs on. One caller at a time.
package final class ThreadPool: @unchecked Sendable {
  package let threadCount: Int
  /// Regions end at once and run nothing; see `CPUBackend.init`.
  let isRehearsal: Bool
  /// What waiting workers may fetch.
  let expectation = Expectation()
  /// Number of the open region, 0 between regions.
  private let open = Line()
  /// Workers inside the open region, or just looking.
  private let active = Line()
  private var regionCount = 0
  /// The next chunk of each share of the open region, and how many shares there are: one, or one of each worker.
  private let next: UnsafeMutablePointer<Line>
  private var shareCount = 1
  private let sleepers = Atomic<Int>(0)
  private let stopping = Atomic<Bool>(false)
  private var body: (@Sendable (_ chunk: Int, _ worker: Int) -> Void)?
  private var chunkCount = 0
  private var isRunning = false
  private var threads: [(thread: pthread_t, worker: Int)] = []
  /// Where workers sleep.
  private let monitor = Monitor()
  /// Pauses before a worker sleeps, about 0.2 ms; waking costs 50 us, so short gaps between regions are spun through.
  private let spinLimit = 6_000

  /// A number in cache lines of its own: threads that write it do not take the others' numbers away from them.
  private struct Line: ~Copyable {
    let number = Atomic<Int>(0)
    private let rest = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
  }

  package init(threadCount: Int, isRehearsal: Bool = false) {
    self.threadCount = max(1, threadCount)
    self.isRehearsal = isRehearsal
    next = .allocate(capacity: self.threadCount)
    for share in 0..<self.threadCount { (next + share).initialize(to: Line()) }
    // Kernels keep little on the stack; the system's 8 MiB for each of a thousand workers would leave a process whose
    // addresses are limited none.
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setstacksize(&attributes, 1 << 20)
    defer { pthread_attr_destroy(&attributes) }
    for worker in 1..<max(2, self.threadCount) where worker < self.threadCount && !isRehearsal {
      var thread = pthread_t()
      let seat = Unmanaged.passRetained(Seat(pool: self, worker: worker))
      let status = pthread_create(
        &thread, &attributes,
        { raw in
          let seat = Unmanaged<Seat>.fromOpaque(raw!).takeRetainedValue()
          seat.pool.work(seat.worker)
          return nil
        }, seat.toOpaque())
      if status == 0 { threads.append((thread, worker)) } else { seat.release() }
    }
  }

  private final class Seat {
    unowned(unsafe) let pool: ThreadPool
    let worker: Int
    init(pool: ThreadPool, worker: Int) {
      self.pool = pool
      self.worker = worker
    }
  }

  /// Runs `body(chunk, worker)` once for each chunk in `0..<chunkCount` and returns when all are done.
  /// `worker` is below `threadCount` and tells which per-thread scratch to use.
  ///
  /// Chunks are handed out in their order. With `inShares` a worker takes the chunks of its own share, which follow
  /// each other, before it helps others with theirs.
  package func run(_ chunkCount: Int, inShares: Bool = false, _ body: @Sendable (_ chunk: Int, _ worker: Int) -> Void) {
    if isRehearsal { return }
    if threads.isEmpty || chunkCount <= 1 || isRunning {
      let worker = isRunning ? currentWorker : 0
      for chunk in 0..<max(0, chunkCount) { body(chunk, worker) }
      return
    }
    withoutActuallyEscaping(body) { escaping in
      isRunning = true
      self.body = escaping
      self.chunkCount = chunkCount
      shareCount = inShares ? threadCount : 1
      for share in 0..<shareCount { next[share].number.store(chunkCount * share / shareCount, ordering: .relaxed) }
      regionCount += 1
      open.number.store(regionCount, ordering: .sequentiallyConsistent)
      if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
        monitor.locked { monitor.broadcast() }
      }
      drain(escaping, worker: 0)
      // A worker counts itself in before it looks whether the region is open, so none can enter after this wait.
      open.number.store(0, ordering: .sequentiallyConsistent)
      var waits = 0
      while active.number.load(ordering: .sequentiallyConsistent) != 0 {
        waits &+= 1
        if waits & 255 == 0 { sched_yield() } else { cp_pause() }
      }
      self.body = nil
      isRunning = false
    }
  }

  /// `run` that leaves out the chunks that are left when the program is asked to stop.
  /// - Throws: `TensorError.interrupted`; the results are not whole then.
  package func runUnlessInterrupted(
    _ chunkCount: Int, inShares: Bool = false, _ body: @Sendable (_ chunk: Int, _ worker: Int) -> Void
  ) throws {
    run(chunkCount, inShares: inShares) { chunk, worker in if !Interruption.isRequested() { body(chunk, worker) } }
    try Interruption.check()
  }

  /// Splits `0..<count` into contiguous ranges of at least half of `grain` items and runs them in parallel.
  package func forEachRange(_ count: Int, grain: Int, _ body: @Sendable (Range<Int>, _ worker: Int) -> Void) {
    let chunks = max(1, min((count + grain - 1) / max(1, grain), threadCount * 4))
    run(count == 0 ? 0 : chunks) { chunk, worker in
      body(count * chunk / chunks..<count * (chunk + 1) / chunks, worker)
    }
  }

  /// The worker whose thread this is; the scratch of another one is in use.
  private var currentWorker: Int {
    let current = pthread_self()
    return threads.first { pthread_equal($0.thread, current) != 0 }?.worker ?? 0
  }

  /// The chunks of the worker's own share, then those that are left of the others'.
  private func drain(_ body: @Sendable (Int, Int) -> Void, worker: Int) {
    for turn in 0..<shareCount {
      let share = (worker + turn) % shareCount
      let end = chunkCount * (share + 1) / shareCount
      while true {
        let chunk = next[share].number.add(1, ordering: .relaxed).oldValue
        if chunk >= end { break }
        body(chunk, worker)
      }
    }
  }

  private func work(_ worker: Int) {
    var seen = 0
    var reader = Expectation.Reader(worker: worker, of: threadCount)
    while !stopping.load(ordering: .acquiring) {
      let region = awaitRegion(after: seen, &reader)
      guard region != 0 else { continue }
      active.number.add(1, ordering: .sequentiallyConsistent)
      if open.number.load(ordering: .sequentiallyConsistent) == region, let body { drain(body, worker: worker) }
      active.number.subtract(1, ordering: .sequentiallyConsistent)
      seen = region
    }
  }

  /// The next region that is open and not `seen`, or 0 when the pool stops.
  private func awaitRegion(after seen: Int, _ reader: inout Expectation.Reader) -> Int {
    var spins = 0
    while true {
      let region = open.number.load(ordering: .acquiring)
      if region != 0, region != seen { return region }
      if stopping.load(ordering: .acquiring) { return 0 }
      if expectation.fetch(&reader) { continue }
      spins &+= 1
      if spins <= spinLimit {
        if spins & 255 == 0 { sched_yield() } else { cp_pause() }
        continue
      }
      monitor.locked {
        sleepers.add(1, ordering: .sequentiallyConsistent)
        while isIdle(seen) { monitor.wait() }
        sleepers.subtract(1, ordering: .sequentiallyConsistent)
      }
    }
  }

  private func isIdle(_ seen: Int) -> Bool {
    let region = open.number.load(ordering: .sequentiallyConsistent)
    return (region == 0 || region == seen) && !stopping.load(ordering: .sequentiallyConsistent)
  }

  deinit {
    stopping.store(true, ordering: .sequentiallyConsistent)
    monitor.locked { monitor.broadcast() }
    for (thread, _) in threads { pthread_join(thread, nil) }
    next.deinitialize(count: threadCount)
    next.deallocate()
  }
}
