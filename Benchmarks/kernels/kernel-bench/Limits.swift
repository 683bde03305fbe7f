import CPUBackend

typealias Limits = MachineLimits

extension MachineLimits {
  static func measure(_ bench: Bench) throws -> MachineLimits {
    try MachineLimits(bench.backend, seconds: bench.budget)
  }

  func print(_ bench: Bench) {
    bench.print("limit: f32 multiply-adds", rate: floatGFLOPS, unit: "GFLOP/s")
    bench.print("limit: bf16 dot products", rate: pairGFLOPS, unit: "GFLOP/s")
    bench.print("limit: memory read", rate: readGBps, unit: "GB/s")
    bench.print("limit: memory copy (read + write)", rate: copyGBps, unit: "GB/s")
    bench.print("limit: memory update in place (read + write)", rate: updateGBps, unit: "GB/s")
  }
}
