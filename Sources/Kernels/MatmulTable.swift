import Numerics

extension Kernels {
  /// Stores this build's functions for matrix products.
  package static func fill(matmul table: UnsafeMutablePointer<MatmulKernels>) {
    #if ISA_AVX512BF16
      let (pairs, dotPairs) = (true, true)
    #elseif ISA_NEON_BF16
      let (pairs, dotPairs) = (true, false)
    #else
      let (pairs, dotPairs) = (false, false)
    #endif
    table.initialize(
      to: MatmulKernels(
        pack: { Kernels.pack($0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10) },
        multiply: { Kernels.multiply($0, $1, $2, $3, $4, $5, $6, $7, $8) },
        store: { Kernels.storeTile($0, $1, $2, $3, $4, $5, $6, $7, $8, $9) },
        packQuantized: { Kernels.packQuantized($0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) },
        dots: { Kernels.denseDots($0, $1, $2, $3, $4, $5, $6, $7, $8, $9) },
        smallProduct: { smallProduct($0, $1, $2, $3, $4, $5, $6, $7, $8, $9, adds: false) },
        splitEvenOdd: { Kernels.splitEvenOdd($0, $1, $2, $3) },
        quantizedDots: { Kernels.quantizedDots($0, $1, $2, $3, $4, $5, $6, $7) },
        blocks: BlockKernels(
          packRows: { Kernels.packBlockRows($0, $1, $2, $3, $4, $5, $6, $7, $8, $9) },
          packColumns: { Kernels.packBlockColumns($0, $1, $2, $3, $4, $5, $6, $7) },
          arrangedCount: { Kernels.arrangedCount($0, $1, $2) },
          arrange: { Kernels.arrangeForBlocks($0, $1, $2, $3, $4, $5, $6) },
          dots: { Kernels.blockDots($0, $1, $2, $3, $4, $5, $6, $7) },
          decodeRow: { Kernels.decodeBlockRow($0, $1, $2) }, mostRows: Kernels.mostBlockRows),
        rows: matmulRows, columns: matmulColumns, pairsBF16: pairs, dotPairsBF16: dotPairs))
  }
}
