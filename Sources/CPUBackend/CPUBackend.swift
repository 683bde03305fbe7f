import CPlatform
import Glibc
import Numerics
import Tensors

/// The CPU implementation of the tensor backend: kernel tables of one instruction set and a thread pool.
/// Each family of operations is an extension in a file `CPUBackend+….swift`, which adapts tensors to what works on
/// addresses. No other module sees the address of a tensor.
public final class CPUBackend: RehearsalBackend, @unchecked Sendable {
  /// The build of the kernels in use.
  public let instructionSet: InstructionSet
  package private(set) var pool: ThreadPool
  /// The books of all live blocks.
  public let memory = MemoryLedger()
  let allocator: BlockAllocator
  let tables: KernelTables
  private(set) var matmulState: MatmulState
  private(set) var productBatch: ProductBatch
  /// Scratch of the kernels of attention and of recurrent layers.
  private(set) var workerScratch: WorkerScratch

  /// Starts the threads and takes the kernels of an instruction set.
  ///
  /// A rehearsal allocates as always, but computes and touches nothing: the planner runs a step on it, so that its
  /// figures come from the engine's own allocations. Tensors then hold undefined values.
  /// - Parameters:
  ///   - threadCount: threads that compute, the caller among them; below 1 means 1. By default all processors that the
  ///     process may use.
  ///   - instructionSet: the build of the kernels, which the processor must support.
  ///   - isRehearsal: whether to compute nothing.
  public convenience init(
    threadCount: Int = Int(cp_allowed_processor_count()), instructionSet: InstructionSet = .selected,
    isRehearsal: Bool = false
  ) {
    self.init(
      threadCount: threadCount, instructionSet: instructionSet, isRehearsal: isRehearsal,
      products: instructionSet.matmulKernels)
  }

  /// The same with functions of one's own for matrix products.
  init(threadCount: Int, instructionSet: InstructionSet, isRehearsal: Bool = false, products: MatmulKernels) {
    self.instructionSet = instructionSet
    self.pool = ThreadPool(threadCount: threadCount, isRehearsal: isRehearsal)
    self.allocator = BlockAllocator(isRehearsal: isRehearsal)
    self.tables = KernelTables(instructionSet)
    self.workerScratch = WorkerScratch(workers: max(1, threadCount), memory)
    self.matmulState = MatmulState(kernels: products, workers: max(1, threadCount), memory: memory)
    self.productBatch = ProductBatch(kernels: products, workers: max(1, threadCount), memory: memory)
    // The ledger is asked by way of its backend only. A weak reference would make every other one slower to count.
    memory.measure(
      backend: { [unowned self] in residentByteCount }, reclaim: { [allocator] in allocator.releaseCache() })
  }

  /// Where a product is computed that all workers share.
  var workplace: Workplace { Workplace(state: matmulState, pool: pool) }
  /// The name of the instruction set, such as "avx2".
  public var kernelName: String { instructionSet.name }
  /// Whether the kernels in use multiply pairs of bf16 values.
  public var multipliesBFloat16: Bool { matmulState.kernels.pairsBF16 }
  /// Whether nothing is computed.
  package var isRehearsal: Bool { pool.isRehearsal }
  /// Threads that compute, the caller among them.
  public var threadCount: Int { pool.threadCount }

  /// Exchanges the thread pool and gives up the scratch of products and attention.
  /// - Throws: Nothing.
  public func setThreadCount(_ count: Int) throws(TensorError) {
    guard count != pool.threadCount else { return }
    pool = ThreadPool(threadCount: count, isRehearsal: pool.isRehearsal)
    workerScratch = WorkerScratch(workers: max(1, count), memory)
    matmulState = MatmulState(kernels: matmulState.kernels, workers: max(1, count), memory: memory)
    productBatch = ProductBatch(kernels: matmulState.kernels, workers: max(1, count), memory: memory)
  }
}
