import KernelsAVX2
import KernelsAVX512
import KernelsAVX512BF16
import KernelsBaseline
import Numerics

/// The functions of one instruction-set build, besides those of the matrix products (`MatmulTable.swift`).
struct KernelTables: Sendable {
  let rows: RowKernels
  let attention: AttentionKernels
  let recurrent: RecurrentKernels
  let quantization: QuantizationKernels
  let optimizer: OptimizerKernels

  init(_ set: InstructionSet) {
    rows = filled { table in
      switch set {
      case .baseline: KernelsBaseline.Kernels.fill(rows: table)
      case .avx2: KernelsAVX2.Kernels.fill(rows: table)
      case .avx512: KernelsAVX512.Kernels.fill(rows: table)
      case .avx512bf16, .amx: KernelsAVX512BF16.Kernels.fill(rows: table)
      }
    }
    attention = filled { table in
      switch set {
      case .baseline: KernelsBaseline.Kernels.fill(attention: table)
      case .avx2: KernelsAVX2.Kernels.fill(attention: table)
      case .avx512: KernelsAVX512.Kernels.fill(attention: table)
      case .avx512bf16, .amx: KernelsAVX512BF16.Kernels.fill(attention: table)
      }
    }
    recurrent = filled { table in
      switch set {
      case .baseline: KernelsBaseline.Kernels.fill(recurrent: table)
      case .avx2: KernelsAVX2.Kernels.fill(recurrent: table)
      case .avx512: KernelsAVX512.Kernels.fill(recurrent: table)
      case .avx512bf16, .amx: KernelsAVX512BF16.Kernels.fill(recurrent: table)
      }
    }
    quantization = filled { table in
      switch set {
      case .baseline: KernelsBaseline.Kernels.fill(quantization: table)
      case .avx2: KernelsAVX2.Kernels.fill(quantization: table)
      case .avx512: KernelsAVX512.Kernels.fill(quantization: table)
      case .avx512bf16, .amx: KernelsAVX512BF16.Kernels.fill(quantization: table)
      }
    }
    optimizer = filled { table in
      switch set {
      case .baseline: KernelsBaseline.Kernels.fill(optimizer: table)
      case .avx2: KernelsAVX2.Kernels.fill(optimizer: table)
      case .avx512: KernelsAVX512.Kernels.fill(optimizer: table)
      case .avx512bf16, .amx: KernelsAVX512BF16.Kernels.fill(optimizer: table)
      }
    }
  }
}

/// A table that `fill` initialises in place.
private func filled<Table>(_ fill: (UnsafeMutablePointer<Table>) -> Void) -> Table {
  withUnsafeTemporaryAllocation(of: Table.self, capacity: 1) { buffer in
    let table = buffer.baseAddress.unsafelyUnwrapped
    fill(table)
    return table.move()
  }
}
