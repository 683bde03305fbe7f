import KernelsAVX2
import KernelsAVX512
import KernelsAVX512BF16
import KernelsBaseline
import Numerics

extension InstructionSet {
  /// The functions for matrix products that were built for this instruction set.
  var matmulKernels: MatmulKernels {
    withUnsafeTemporaryAllocation(of: MatmulKernels.self, capacity: 1) { table in
      let pointer = table.baseAddress.unsafelyUnwrapped
      switch self {
      case .baseline: KernelsBaseline.Kernels.fill(matmul: pointer)
      case .avx2: KernelsAVX2.Kernels.fill(matmul: pointer)
      case .avx512: KernelsAVX512.Kernels.fill(matmul: pointer)
      case .avx512bf16: KernelsAVX512BF16.Kernels.fill(matmul: pointer)
      }
      return pointer.move()
    }
  }
}

/// What the products keep between calls: the kernels and buffers that only grow. Touching fresh memory costs ten times
/// a warm write, so nothing is allocated per call. One caller at a time.
final class MatmulState: @unchecked Sendable {
  let kernels: MatmulKernels
  private let packedBuffer = ScratchBuffer()
  private let sumBuffer = ScratchBuffer()
  private let perWorker: [ScratchBuffer]

  init(instructionSet: InstructionSet, workers: Int) {
    kernels = instructionSet.matmulKernels
    perWorker = (0..<workers).map { _ in ScratchBuffer() }
  }

  /// Bytes written so far, in all buffers.
  var byteCount: Int {
    (perWorker + [packedBuffer, sumBuffer]).reduce(0) { $0 + $1.touchedByteCount }
  }

  /// The operand that all workers read.
  func packed(_ count: Int) -> UnsafeMutablePointer<Float> { packedBuffer.reserve(count) }

  /// Sums over the slices of a contraction.
  func sums(_ count: Int) -> UnsafeMutablePointer<Float> { sumBuffer.reserve(count) }

  /// One buffer of at least `count` floats per worker.
  func workerBuffers(_ count: Int) -> [UnsafeMutablePointer<Float>] {
    perWorker.map { $0.reserve(count) }
  }
}

/// Page-aligned floats; the contents are lost when it grows.
final class ScratchBuffer {
  private var memory: UnsafeMutableRawPointer?
  private var capacity = 0
  private var largest = 0
  /// Bytes of the largest request: the spare quarter is not written.
  var touchedByteCount: Int { 4 * largest }

  func reserve(_ count: Int) -> UnsafeMutablePointer<Float> {
    largest = max(largest, count)
    if count > capacity || memory == nil {
      memory?.deallocate()
      // A quarter more, so that slowly growing sequences do not reallocate each time.
      capacity = max(1024, count + count / 4)
      memory = UnsafeMutableRawPointer.allocate(byteCount: capacity * 4, alignment: 4096)
    }
    return memory.unsafelyUnwrapped.assumingMemoryBound(to: Float.self)
  }

  deinit { memory?.deallocate() }
}
