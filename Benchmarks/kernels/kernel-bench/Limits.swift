import CPUBackend
import Glibc

/// What this machine can do, measured by loops of this program: multiply-adds held in registers, and memory streams.
struct Limits {
  let floatGFLOPS: Double
  let pairGFLOPS: Double
  let readGBps: Double
  let copyGBps: Double
  /// Reading and writing the same place: a copy also reads the line that it overwrites, which is not counted.
  let updateGBps: Double

  /// The register tiles of the products over panels that stay in the first-level cache are the arithmetic limit: a loop
  /// of nothing but multiply-adds in C gives the same number within 2 %.
  static func measure(_ bench: Bench) -> Limits {
    let float = tileRate(bench, bfloat16: false)
    let pairs = tileRate(bench, bfloat16: true)
    let (read, copy, update) = streams(bench)
    return Limits(floatGFLOPS: float, pairGFLOPS: pairs, readGBps: read, copyGBps: copy, updateGBps: update)
  }

  func print(_ bench: Bench) {
    bench.print("limit: f32 multiply-adds", rate: floatGFLOPS, unit: "GFLOP/s")
    bench.print("limit: bf16 dot products", rate: pairGFLOPS, unit: "GFLOP/s")
    bench.print("limit: memory read", rate: readGBps, unit: "GB/s")
    bench.print("limit: memory copy (read + write)", rate: copyGBps, unit: "GB/s")
    bench.print("limit: memory update in place (read + write)", rate: updateGBps, unit: "GB/s")
  }

  private static func tileRate(_ bench: Bench, bfloat16: Bool) -> Double {
    let repeats = 200
    let flops = bench.backend.registerTileFLOPs(bfloat16: bfloat16) * Double(repeats)
    let time = bench.best { try! bench.backend.runRegisterTile(bfloat16: bfloat16, repeats: repeats) }
    return flops * Double(bench.backend.pool.threadCount) / time / 1e9
  }

  private typealias Lanes = SIMD16<Float>

  private static func streams(_ bench: Bench) -> (read: Double, copy: Double, update: Double) {
    let count = 64 << 20
    let (a, b) = (Memory(count), Memory(count))
    let pool = bench.backend.pool
    let threads = pool.threadCount
    let sums = Memory(16 * threads)
    let read = bench.best {
      pool.run(threads) { part, _ in
        var sum = (Lanes.zero, Lanes.zero, Lanes.zero, Lanes.zero)
        var i = count / threads * part
        let end = i + count / threads
        while i < end {
          sum.0 += a.lanes(i)
          sum.1 += a.lanes(i + 16)
          sum.2 += a.lanes(i + 32)
          sum.3 += a.lanes(i + 48)
          i += 64
        }
        sums.set(16 * part, sum.0 + sum.1 + sum.2 + sum.3)
      }
    }
    let copy = bench.best {
      pool.run(threads) { part, _ in
        var i = count / threads * part
        let end = i + count / threads
        while i < end {
          b.set(i, a.lanes(i))
          i += 16
        }
      }
    }
    let update = bench.best {
      pool.run(threads) { part, _ in
        var i = count / threads * part
        let end = i + count / threads
        while i < end {
          b.set(i, b.lanes(i) + 1)
          i += 16
        }
      }
    }
    return (Double(4 * count) / read / 1e9, Double(8 * count) / copy / 1e9, Double(8 * count) / update / 1e9)
  }

  /// Floats outside of any cache.
  private final class Memory: @unchecked Sendable {
    private let base: UnsafeMutableRawPointer
    init(_ count: Int) {
      base = UnsafeMutableRawPointer.allocate(byteCount: 4 * count, alignment: 4096)
      memset(base, 1, 4 * count)
    }
    deinit { base.deallocate() }

    @inline(__always) func lanes(_ i: Int) -> SIMD16<Float> { (base + 4 &* i).loadUnaligned(as: SIMD16<Float>.self) }
    @inline(__always) func set(_ i: Int, _ v: SIMD16<Float>) { (base + 4 &* i).storeBytes(of: v, as: SIMD16<Float>.self) }
  }
}
