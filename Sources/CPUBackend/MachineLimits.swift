import Glibc
import Tensors

/// What a machine can do, measured: multiply-adds held in registers, and streams of memory too large for caches. All
/// threads of the backend take part.
package struct MachineLimits: Sendable {
  /// GFLOP/s of f32 multiply-adds, and of bf16 products, which are those of f32 where the processor has none.
  package let floatGFLOPS: Double
  package let pairGFLOPS: Double
  /// GB/s read.
  package let readGBps: Double
  /// GB/s read and written.
  package let copyGBps: Double
  /// The same in one place: a copy also reads the line that it overwrites, which is not counted.
  package let updateGBps: Double

  /// Floats of each of the two streams.
  private static let streamCount = 64 << 20

  /// Measures each for `seconds`, and takes the best.
  ///
  /// The register tiles of the products over panels that stay in the first-level cache are the arithmetic limit: a loop
  /// of nothing but multiply-adds in C gives the same number within 2 %.
  /// - Throws: `TensorError.outOfMemory`: the streams take 512 MiB.
  package init(_ backend: CPUBackend, seconds: Double) throws {
    floatGFLOPS = try Self.tileRate(backend, seconds, bfloat16: false)
    pairGFLOPS = try Self.tileRate(backend, seconds, bfloat16: true)
    try backend.memory.require(2 * 4 * Self.streamCount)
    let streams = MemoryStreams(backend.pool, count: Self.streamCount)
    let gigabytes = 4e-9 * Double(Self.streamCount)
    readGBps = gigabytes / Self.best(seconds) { streams.read() }
    copyGBps = 2 * gigabytes / Self.best(seconds) { streams.copy() }
    updateGBps = 2 * gigabytes / Self.best(seconds) { streams.update() }
  }

  private static func tileRate(_ backend: CPUBackend, _ seconds: Double, bfloat16: Bool) throws -> Double {
    let repeats = 200
    let operations = backend.registerTileFLOPs(bfloat16: bfloat16) * Double(repeats * backend.pool.threadCount)
    return try operations / best(seconds) { try backend.runRegisterTile(bfloat16: bfloat16, repeats: repeats) } / 1e9
  }

  /// The shortest time of `body`, after a call that is not counted.
  private static func best(_ seconds: Double, _ body: () throws -> Void) rethrows -> Double {
    try body()
    var best = Double.infinity
    let end = now() + seconds
    repeat {
      let start = now()
      try body()
      best = min(best, now() - start)
    } while now() < end
    return best
  }

  private static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
}

/// Two stretches of memory outside of any cache; each worker passes over its part.
private final class MemoryStreams: @unchecked Sendable {
  private typealias Lanes = SIMD16<Float>
  private let pool: ThreadPool
  private let part: Int
  private let (first, second, sums): (UnsafeMutableRawPointer, UnsafeMutableRawPointer, UnsafeMutableRawPointer)

  init(_ pool: ThreadPool, count: Int) {
    self.pool = pool
    part = count / pool.threadCount / 64 * 64
    func memory(_ count: Int) -> UnsafeMutableRawPointer {
      let base = UnsafeMutableRawPointer.allocate(byteCount: 4 * count, alignment: 4096)
      memset(base, 1, 4 * count)
      return base
    }
    (first, second, sums) = (memory(count), memory(count), memory(16 * pool.threadCount))
  }

  deinit { for base in [first, second, sums] { base.deallocate() } }

  private func load(_ base: UnsafeMutableRawPointer, _ i: Int) -> Lanes {
    (base + 4 &* i).loadUnaligned(as: Lanes.self)
  }
  private func store(_ base: UnsafeMutableRawPointer, _ i: Int, _ v: Lanes) {
    (base + 4 &* i).storeBytes(of: v, as: Lanes.self)
  }

  func read() {
    pool.run(pool.threadCount) { [self] number, _ in
      var sum = (Lanes.zero, Lanes.zero, Lanes.zero, Lanes.zero)
      for i in stride(from: number * part, to: (number + 1) * part, by: 64) {
        sum.0 += load(first, i)
        sum.1 += load(first, i + 16)
        sum.2 += load(first, i + 32)
        sum.3 += load(first, i + 48)
      }
      store(sums, 16 * number, sum.0 + sum.1 + sum.2 + sum.3)
    }
  }

  func copy() {
    pool.run(pool.threadCount) { [self] number, _ in
      for i in stride(from: number * part, to: (number + 1) * part, by: 16) { store(second, i, load(first, i)) }
    }
  }

  func update() {
    pool.run(pool.threadCount) { [self] number, _ in
      for i in stride(from: number * part, to: (number + 1) * part, by: 16) { store(second, i, load(second, i) + 1) }
    }
  }
}
