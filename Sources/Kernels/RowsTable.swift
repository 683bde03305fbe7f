import Numerics

extension Kernels {
  /// Stores this build's row-wise functions.
  package static func fill(rows table: UnsafeMutablePointer<RowKernels>) {
    table.initialize(
      to: RowKernels(
        cast: { Kernels.cast($0, $1, $2, $3, $4) },
        accumulate: { Kernels.accumulate($0, $1, $2, $3, $4, $5, $6) },
        dot: { Kernels.dot($0, $1, $2, $3) },
        norm: { Kernels.rmsNorm($0, $1, $2, $3, $4, $5, $6, $7, $8, $9) },
        normBackward: { Kernels.rmsNormBackward($0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) },
        layerNorm: { Kernels.layerNorm($0, $1, $2, $3, $4, $5, $6, $7, $8, $9) },
        layerNormBackward: { Kernels.layerNormBackward($0, $1, $2, $3, $4, $5, $6, $7, $8, $9) },
        rope: { Kernels.rope($0, $1, $2, $3, $4, $5, $6, $7, $8, $9) },
        gated: { Kernels.gated($0, $1, $2, $3, $4, $5) },
        gatedBackward: { Kernels.gatedBackward($0, $1, $2, $3, $4, $5, $6, $7) },
        activated: { Kernels.activated($0, $1, $2, $3, $4) },
        activatedBackward: { Kernels.activatedBackward($0, $1, $2, $3, $4, $5) },
        softCap: { Kernels.softCap($0, $1, $2, $3) },
        softCapBackward: { Kernels.softCapBackward($0, $1, $2, $3, $4) },
        softmax: { Kernels.softmax($0, $1, $2, $3, $4) },
        softmaxBackward: { Kernels.softmaxBackward($0, $1, $2, $3, $4, $5) },
        crossEntropy: { Kernels.crossEntropy($0, $1, $2, $3, $4, $5, $6) },
        dropout: { Kernels.dropout($0, $1, $2, $3, $4, $5, $6, $7, $8, $9) }))
  }
}
