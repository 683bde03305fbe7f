import Numerics

extension CPUBackend {
  private static let tileWords = MatmulKernels.panelStride

  /// Floating-point operations of one pass of `runRegisterTile` on one thread.
  package func registerTileFLOPs(bfloat16: Bool) -> Double {
    let kernels = matmulState.kernels
    let perWord = bfloat16 && kernels.pairsBF16 ? 4 : 2
    return Double(perWord * kernels.rows * kernels.columns * Self.tileWords)
  }

  /// Runs the register tile of the products on operands in the first-level cache, on every thread: what the processor
  /// can do when nothing has to be fetched. Benchmarks and the planner's calibration count against it.
  package func runRegisterTile(bfloat16: Bool, repeats: Int) throws {
    let kernels = matmulState.kernels
    let mode = bfloat16 && kernels.pairsBF16 ? MatmulMode.pairs : .float
    let rowPanel = Self.tileWords * kernels.panelLanes
    let columnPanel = Self.tileWords * kernels.columns
    let scratch = try matmulState.workerBuffers(rowPanel + columnPanel + kernels.rows * kernels.columns)
    pool.run(pool.threadCount) { part, _ in
      let a = scratch[part]
      a.update(repeating: 0, count: rowPanel + columnPanel)
      for _ in 0..<repeats {
        kernels.multiply(
          a, kernels.rows, a + rowPanel, kernels.columns, columnPanel, Self.tileWords, a + rowPanel + columnPanel, true,
          mode.rawValue)
      }
    }
  }
}
