import Glibc
import Synchronization
import Testing

@testable import CPUBackend

@Suite struct ThreadPoolTests {
  /// A region inside a region runs as the worker that it runs on, whose scratch is its own: no two bodies are the same
  /// worker at a time.
  @Test func aNestedRegionKeepsItsWorker() {
    let pool = ThreadPool(threadCount: 4)
    let inside = Mutex<Set<Int>>([])
    let clashes = Atomic<Int>(0)
    let calls = Atomic<Int>(0)
    for _ in 0..<50 {
      let begun = Atomic<Int>(0)
      pool.run(4) { _, worker in
        // Nobody goes on before all four are here, so that each has a chunk.
        begun.add(1, ordering: .sequentiallyConsistent)
        while begun.load(ordering: .sequentiallyConsistent) < 4 { sched_yield() }
        if !inside.withLock({ $0.insert(worker).inserted }) { clashes.add(1, ordering: .relaxed) }
        pool.run(3) { _, nested in
          calls.add(1, ordering: .relaxed)
          if nested != worker { clashes.add(1, ordering: .relaxed) }
        }
        inside.withLock { _ = $0.remove(worker) }
      }
    }
    #expect(clashes.load(ordering: .relaxed) == 0 && calls.load(ordering: .relaxed) == 50 * 4 * 3)
  }
}
