import Numerics

extension CPUBackend {
  private static let tileWords = MatmulKernels.panelStride

  /// Floating-point operations of one pass of `runRegisterTile` on one thread.
  package func registerTileFLOPs(bfloat16: Bool) -> Double {
    let tiling = tiling(bfloat16 ? .bf16 : .f32)
    return Double((tiling.mode == .pairs ? 4 : 2) * tiling.tileCount * Self.tileWords)
  }

  /// Runs the register tile of the products on operands in the first-level cache, on every thread: what the processor
  /// can do when nothing has to be fetched. Benchmarks and the planner's calibration count against it.
  package func runRegisterTile(bfloat16: Bool, repeats: Int) throws {
    let tiling = tiling(bfloat16 ? .bf16 : .f32)
    let (rowPanel, columns) = (tiling.rowPanelCount, tiling.kernels.columns)
    let columnPanel = Self.tileWords * columns
    let scratch = try matmulState.workerBuffers(rowPanel + columnPanel + tiling.tileCount)
    pool.run(pool.threadCount) { part, _ in
      let a = scratch[part]
      a.update(repeating: 0, count: rowPanel + columnPanel)
      for _ in 0..<repeats {
        tiling.multiply(
          a, tiling.rows, a + rowPanel, columns, columnPanel, Self.tileWords, a + rowPanel + columnPanel, true,
          tiling.mode.rawValue)
      }
    }
  }
}
