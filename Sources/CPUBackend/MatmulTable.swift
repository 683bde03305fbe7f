import CPlatform
import Glibc
import KernelsAVX2
import KernelsAVX512
import KernelsAVX512BF16
import KernelsBaseline
import Numerics
import Tensors

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
      case .amx:
        KernelsAVX512BF16.Kernels.fill(matmul: pointer)
        #if arch(x86_64)
          pointer.pointee.multiplyPairs = { cp_multiply_tiles($0, $1, $2, $3, $4, $5, $6, $7, $8) }
          pointer.pointee.pairRows = 32
        #endif
      }
      return pointer.move()
    }
  }
}

/// What the products keep between calls: the kernels and buffers that only grow. Touching fresh memory costs ten times
/// a warm write, so nothing is allocated per call. One caller at a time.
final class MatmulState: @unchecked Sendable {
  let kernels: MatmulKernels
  let readAhead = ReadAhead()
  private let packedBuffer: ScratchBuffer
  private let sumBuffer: ScratchBuffer
  private let workerScratch: WorkerScratch

  init(kernels: MatmulKernels, workers: Int, memory: MemoryLedger) {
    self.kernels = kernels
    packedBuffer = ScratchBuffer(memory)
    sumBuffer = ScratchBuffer(memory)
    workerScratch = WorkerScratch(workers: workers, memory)
  }

  /// Bytes written so far, in all buffers.
  var byteCount: Int {
    packedBuffer.touchedByteCount + sumBuffer.touchedByteCount + workerScratch.touchedByteCount
  }

  /// The operand that all workers read, at least `count` floats; `written` of them will be written, fewer where panels
  /// have lanes that stay empty.
  /// - Throws: `TensorError.outOfMemory`.
  func packed(_ count: Int, written: Int? = nil) throws -> UnsafeMutablePointer<Float> {
    try packedBuffer.reserve(count, written: written)
  }

  /// Sums over the slices of a contraction.
  func sums(_ count: Int) throws -> UnsafeMutablePointer<Float> { try sumBuffer.reserve(count) }

  /// One buffer of at least `count` floats per worker.
  func workerBuffers(_ count: Int) throws -> WorkerBuffers { try workerScratch.reserve(count) }
}

/// Page-aligned floats; the contents are lost when it grows.
final class ScratchBuffer {
  private let ledger: MemoryLedger
  private var memory: UnsafeMutableRawPointer?
  private var capacity = 0
  private var largest = 0
  /// Bytes of the largest request as far as they are written: the spare quarter is not.
  var touchedByteCount: Int { 4 * largest }

  init(_ ledger: MemoryLedger) { self.ledger = ledger }

  /// - Throws: `TensorError.outOfMemory`.
  func reserve(_ count: Int, written: Int? = nil) throws -> UnsafeMutablePointer<Float> {
    let written = written ?? count
    if written > largest {
      try ledger.require(4 * (written - largest))
      largest = written
    }
    if count > capacity || memory == nil {
      free(memory)
      memory = nil
      // A quarter more, so that slowly growing sequences do not reallocate each time.
      capacity = max(1024, count + count / 4)
      guard AddressSpace.hasRoom(for: capacity * 4), posix_memalign(&memory, 4096, capacity * 4) == 0 else {
        let byteCount = capacity * 4
        (memory, capacity, largest) = (nil, 0, 0)
        throw TensorError.outOfMemory(byteCount: byteCount, used: ledger.total, limit: nil)
      }
    }
    return memory.unsafelyUnwrapped.assumingMemoryBound(to: Float.self)
  }

  deinit { free(memory) }
}

/// Scratch for each worker of a pool.
final class WorkerScratch {
  private let buffer: ScratchBuffer
  private let workers: Int
  /// Only grows, so that a worker's floats stay in its caches.
  private var stride = 0
  var touchedByteCount: Int { buffer.touchedByteCount }

  init(workers: Int, _ ledger: MemoryLedger) { (buffer, self.workers) = (ScratchBuffer(ledger), workers) }

  /// One buffer of at least `count` floats per worker, in pages of its own.
  /// - Throws: `TensorError.outOfMemory`.
  func reserve(_ count: Int) throws -> WorkerBuffers {
    let stride = max(stride, (count + 1023) / 1024 * 1024)
    let base = try buffer.reserve(workers * stride, written: workers * count)
    self.stride = stride
    return WorkerBuffers(base: base, stride: stride)
  }
}

/// Buffers of equal size, one per worker.
struct WorkerBuffers: @unchecked Sendable {
  fileprivate let base: UnsafeMutablePointer<Float>
  fileprivate let stride: Int
  subscript(worker: Int) -> UnsafeMutablePointer<Float> { base + worker * stride }
}
