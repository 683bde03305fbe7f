import CPlatform
import Glibc
import Synchronization
import Tensors

/// A persistent fork-join pool. The caller is worker 0; work is split into chunks that are handed out by an
/// atomic counter, so that a late worker delays nobody: a region ends when every chunk is done, whether or not all
/// workers came. Which worker runs a chunk is not determined: a body must compute the same bits whoever runs it.
///
/// Workers spin for a short while after a region, giving way to other threads, and then sleep. Regions do not nest: a
/// body that calls `run` again executes it serially, as the worker that it runs on. One caller at a time.
package final class ThreadPool: @unchecked Sendable {
  package let threadCount: Int
  /// Regions end at once and run nothing; see `CPUBackend.init`.
  let isRehearsal: Bool
  /// Number of the open region, 0 between regions.
  private let open = Atomic<Int>(0)
  /// Workers inside the open region, or just looking.
  private let active = Atomic<Int>(0)
  private var regionCount = 0
  private let nextChunk = Atomic<Int>(0)
  private let sleepers = Atomic<Int>(0)
  private let stopping = Atomic<Bool>(false)
  private var body: (@Sendable (_ chunk: Int, _ worker: Int) -> Void)?
  private var chunkCount = 0
  private var isRunning = false
  private var threads: [(thread: pthread_t, worker: Int)] = []
  private var mutex = pthread_mutex_t()
  private var condition = pthread_cond_t()
  /// Pauses before a worker sleeps, about 0.2 ms; waking costs 50 us, so short gaps between regions are spun through.
  private let spinLimit = 6_000

  package init(threadCount: Int, isRehearsal: Bool = false) {
    self.threadCount = max(1, threadCount)
    self.isRehearsal = isRehearsal
    pthread_mutex_init(&mutex, nil)
    pthread_cond_init(&condition, nil)
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
  package func run(_ chunkCount: Int, _ body: @Sendable (_ chunk: Int, _ worker: Int) -> Void) {
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
      nextChunk.store(0, ordering: .relaxed)
      regionCount += 1
      open.store(regionCount, ordering: .sequentiallyConsistent)
      if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
        pthread_mutex_lock(&mutex)
        pthread_cond_broadcast(&condition)
        pthread_mutex_unlock(&mutex)
      }
      drain(escaping, worker: 0)
      // A worker counts itself in before it looks whether the region is open, so none can enter after this wait.
      open.store(0, ordering: .sequentiallyConsistent)
      var waits = 0
      while active.load(ordering: .sequentiallyConsistent) != 0 {
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
    _ chunkCount: Int, _ body: @Sendable (_ chunk: Int, _ worker: Int) -> Void
  ) throws {
    run(chunkCount) { chunk, worker in if !Interruption.isRequested() { body(chunk, worker) } }
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

  private func drain(_ body: @Sendable (Int, Int) -> Void, worker: Int) {
    while true {
      let chunk = nextChunk.add(1, ordering: .relaxed).oldValue
      if chunk >= chunkCount { return }
      body(chunk, worker)
    }
  }

  private func work(_ worker: Int) {
    var seen = 0
    while !stopping.load(ordering: .acquiring) {
      let region = awaitRegion(after: seen)
      guard region != 0 else { continue }
      active.add(1, ordering: .sequentiallyConsistent)
      if open.load(ordering: .sequentiallyConsistent) == region, let body { drain(body, worker: worker) }
      active.subtract(1, ordering: .sequentiallyConsistent)
      seen = region
    }
  }

  /// The next region that is open and not `seen`, or 0 when the pool stops.
  private func awaitRegion(after seen: Int) -> Int {
    var spins = 0
    while true {
      let region = open.load(ordering: .acquiring)
      if region != 0, region != seen { return region }
      if stopping.load(ordering: .acquiring) { return 0 }
      spins &+= 1
      if spins <= spinLimit {
        if spins & 63 == 0 { sched_yield() } else { cp_pause() }
        continue
      }
      pthread_mutex_lock(&mutex)
      sleepers.add(1, ordering: .sequentiallyConsistent)
      while isIdle(seen) { pthread_cond_wait(&condition, &mutex) }
      sleepers.subtract(1, ordering: .sequentiallyConsistent)
      pthread_mutex_unlock(&mutex)
    }
  }

  private func isIdle(_ seen: Int) -> Bool {
    let region = open.load(ordering: .sequentiallyConsistent)
    return (region == 0 || region == seen) && !stopping.load(ordering: .sequentiallyConsistent)
  }

  deinit {
    stopping.store(true, ordering: .sequentiallyConsistent)
    pthread_mutex_lock(&mutex)
    pthread_cond_broadcast(&condition)
    pthread_mutex_unlock(&mutex)
    for (thread, _) in threads { pthread_join(thread, nil) }
  }
}
