import CPlatform
import Glibc
import Synchronization

/// A persistent fork-join pool. The caller is worker 0; work is split into chunks that are handed out by an
/// atomic counter, so that a late worker delays nobody. Which worker runs a chunk is not determined: a body
/// must compute the same bits for a chunk whoever runs it.
///
/// Workers spin for about half a millisecond after a region and then sleep. Regions do not nest: a body
/// that calls `run` again executes it serially.
public final class ThreadPool: @unchecked Sendable {
  public let threadCount: Int
  private let epoch = Atomic<Int>(0)
  private let finished = Atomic<Int>(0)
  private let nextChunk = Atomic<Int>(0)
  private let sleepers = Atomic<Int>(0)
  private let stopping = Atomic<Bool>(false)
  private var body: (@Sendable (_ chunk: Int, _ worker: Int) -> Void)?
  private var chunkCount = 0
  private var isRunning = false
  private var threads: [pthread_t] = []
  private var mutex = pthread_mutex_t()
  private var condition = pthread_cond_t()
  private let spinLimit = 20_000

  public init(threadCount: Int) {
    self.threadCount = max(1, threadCount)
    pthread_mutex_init(&mutex, nil)
    pthread_cond_init(&condition, nil)
    for worker in 1..<max(2, self.threadCount) where worker < self.threadCount {
      var thread = pthread_t()
      let seat = Unmanaged.passRetained(Seat(pool: self, worker: worker))
      let status = pthread_create(
        &thread, nil,
        { raw in
          let seat = Unmanaged<Seat>.fromOpaque(raw!).takeRetainedValue()
          seat.pool.work(seat.worker)
          return nil
        }, seat.toOpaque())
      if status == 0 { threads.append(thread) } else { seat.release() }
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
  public func run(_ chunkCount: Int, _ body: @Sendable (_ chunk: Int, _ worker: Int) -> Void) {
    if threads.isEmpty || chunkCount <= 1 || isRunning {
      for chunk in 0..<max(0, chunkCount) { body(chunk, 0) }
      return
    }
    withoutActuallyEscaping(body) { escaping in
      isRunning = true
      self.body = escaping
      self.chunkCount = chunkCount
      nextChunk.store(0, ordering: .relaxed)
      finished.store(0, ordering: .relaxed)
      epoch.add(1, ordering: .sequentiallyConsistent)
      if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
        pthread_mutex_lock(&mutex)
        pthread_cond_broadcast(&condition)
        pthread_mutex_unlock(&mutex)
      }
      drain(escaping, worker: 0)
      var waits = 0
      while finished.load(ordering: .acquiring) != threads.count {
        waits &+= 1
        if waits & 255 == 0 { sched_yield() } else { cp_pause() }
      }
      self.body = nil
      isRunning = false
    }
  }

  /// Splits `0..<count` into contiguous ranges of at least `grain` items and runs them in parallel.
  public func forEachRange(_ count: Int, grain: Int, _ body: @Sendable (Range<Int>, _ worker: Int) -> Void) {
    let chunks = max(1, min((count + grain - 1) / max(1, grain), threadCount * 4))
    run(count == 0 ? 0 : chunks) { chunk, worker in
      body(count * chunk / chunks..<count * (chunk + 1) / chunks, worker)
    }
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
    while true {
      var spins = 0
      while epoch.load(ordering: .acquiring) == seen {
        spins &+= 1
        if spins <= spinLimit {
          cp_pause()
          continue
        }
        pthread_mutex_lock(&mutex)
        sleepers.add(1, ordering: .sequentiallyConsistent)
        while epoch.load(ordering: .sequentiallyConsistent) == seen { pthread_cond_wait(&condition, &mutex) }
        sleepers.subtract(1, ordering: .sequentiallyConsistent)
        pthread_mutex_unlock(&mutex)
      }
      seen &+= 1
      if stopping.load(ordering: .acquiring) { return }
      if let body { drain(body, worker: worker) }
      finished.add(1, ordering: .releasing)
    }
  }

  deinit {
    stopping.store(true, ordering: .releasing)
    epoch.add(1, ordering: .sequentiallyConsistent)
    pthread_mutex_lock(&mutex)
    pthread_cond_broadcast(&condition)
    pthread_mutex_unlock(&mutex)
    for thread in threads { pthread_join(thread, nil) }
  }
}
