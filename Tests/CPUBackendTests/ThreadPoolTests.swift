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

  /// Every chunk is run once, also where there are fewer of them than shares, and where a worker helps with others'
  /// shares.
  @Test func everyChunkOfASharedRegionIsRunOnce() {
    for threads in [1, 2, 3, 5] {
      let pool = ThreadPool(threadCount: threads)
      for count in [0, 1, 2, 3, 4, 7, 16, 61] {
        for _ in 0..<20 {
          let runs = Mutex([Int](repeating: 0, count: count))
          pool.run(count, inShares: true) { chunk, worker in
            // The first worker dawdles, so that others finish its share.
            if worker == 0 { sched_yield() }
            runs.withLock { $0[chunk] += 1 }
          }
          #expect(runs.withLock { $0.allSatisfy { $0 == 1 } }, "\(threads) threads, \(count) chunks")
        }
      }
    }
  }

  /// While the other worker holds a chunk of its own share, the rest of that share is still run.
  @Test func aLateWorkersShareIsRunByOthers() {
    let pool = ThreadPool(threadCount: 2)
    let done = Atomic<Int>(0)
    let isHeld = Atomic<Bool>(false)
    pool.run(8, inShares: true) { chunk, worker in
      if worker == 1, !isHeld.exchange(true, ordering: .sequentiallyConsistent) {
        while done.load(ordering: .sequentiallyConsistent) < 7 { sched_yield() }
      }
      done.add(1, ordering: .sequentiallyConsistent)
    }
    #expect(done.load(ordering: .sequentiallyConsistent) == 8)
  }

  /// When a matrix comes again, what followed it is expected, and fetched once by each thread in pieces of 1024 bytes.
  @Test func whatFollowedBeforeIsExpected() {
    let (readAhead, expectation) = (ReadAhead(), Expectation())
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 16384, alignment: 64)
    defer { memory.deallocate() }
    func product(_ start: Int, rows: Int) -> RowProducts.Product {
      RowProducts.Product(
        matrix: MatmulOperand(source: .dense(memory + start, type: .f32, stride: 64, contiguous: true), lanes: rows),
        output: MatmulOutput(base: memory, type: .f32, stride: 1, transposed: false, alpha: 1, beta: 0))
    }
    /// The pieces that a thread fetches after these products.
    func pieces(_ products: [RowProducts.Product]) -> Int {
      readAhead.note(products, k: 64, expectation)
      var reader = Expectation.Reader(worker: 1, of: 2)
      var count = 0
      while expectation.fetch(&reader) { count += 1 }
      return count
    }
    let (first, second) = ([product(0, rows: 4)], [product(1024, rows: 4), product(2048, rows: 16)])
    let (third, other) = ([product(6144, rows: 8)], [product(8192, rows: 4)])
    // The first stranger is not part of the round, the last one ends it.
    #expect([other, first, second, third].map(pieces) == [0, 0, 0, 0])
    #expect([first, second, third, first, second].map(pieces) == [5, 2, 1, 5, 2])
    #expect([other, first, second, third].map(pieces) == [0, 0, 0, 0])
    #expect([other, first].map(pieces) == [1, 5])
  }
}
