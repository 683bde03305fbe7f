import Glibc
import Tensors

extension CPUBackend {
  /// The name of the device: "cpu".
  public var name: String { "cpu" }

  /// A block from the allocator, charged to the ledger until it is released, with its size rounded up to a class.
  ///
  /// A block that was released serves again. Rounding adds at most 64 bytes up to 4 KiB and less than an eighth above.
  /// - Throws: `TensorError.outOfMemory` when the limit or the system has no room.
  public func allocate(byteCount: Int, category: MemoryCategory) throws -> Storage {
    let size = BlockAllocator.roundedByteCount(byteCount)
    let block = try allocator.take(
      size, touching: byteCount, isBrief: category == .gradients, require: memory.require)
    guard let block else {
      throw TensorError.outOfMemory(byteCount: size, used: residentByteCount, limit: nil)
    }
    return BlockStorage(block, charged: size, byteCount: byteCount, category: category, backend: self)
  }

  /// A view of the file's pages, which the ledger does not count.
  /// - Throws: Nothing.
  public func adopt(_ file: FileBytes) throws -> Storage { FileStorage(file, backend: self) }

  /// Bytes that blocks in use or kept for reuse and scratch buffers occupy, as far as they were written.
  public var residentByteCount: Int { allocator.resident.now + scratchByteCount }
  /// The highest `residentByteCount` since `resetResidentPeak`.
  public var peakResidentByteCount: Int { allocator.resident.peak + scratchByteCount }
  /// Sets the peak of blocks to what they occupy now.
  public func resetResidentPeak() { allocator.resetResidentPeak() }
  /// Bytes of scratch of products and attention; it only grows until the number of threads changes.
  public var scratchByteCount: Int {
    matmulState.byteCount + productBatch.byteCount + workerScratch.touchedByteCount
  }

  /// Calls run at once, so there is nothing to wait for.
  public func synchronize() {}

  // MARK: The door

  /// One copy by the calling thread.
  /// - Throws: Nothing.
  public func read(_ tensor: Tensor, into bytes: UnsafeMutableRawBufferPointer) throws(TensorError) {
    bytes.copyMemory(from: UnsafeRawBufferPointer(start: tensor.address, count: tensor.byteCount))
  }

  /// One copy by the calling thread.
  /// - Throws: Nothing.
  public func write(_ bytes: UnsafeRawBufferPointer, to tensor: Tensor) throws(TensorError) {
    UnsafeMutableRawBufferPointer(start: tensor.address, count: tensor.byteCount).copyMemory(from: bytes)
  }

  /// `memset` by the calling thread.
  /// - Throws: Nothing.
  public func zero(_ tensor: Tensor) throws(TensorError) {
    if pool.isRehearsal { return }
    memset(tensor.address, 0, tensor.byteCount)
  }

  /// Lends the memory of the tensor itself.
  /// - Throws: What `body` throws.
  public func withHostBytes<R>(
    of tensor: Tensor, _ body: (UnsafeRawBufferPointer) throws(TensorError) -> R
  ) throws(TensorError) -> R {
    try body(UnsafeRawBufferPointer(start: tensor.address, count: tensor.byteCount))
  }

  /// Lends the memory of the tensor itself, so changes stay also when `body` throws.
  /// - Throws: What `body` throws.
  public func withMutableHostBytes<R>(
    of tensor: Tensor, _ body: (UnsafeMutableRawBufferPointer) throws(TensorError) -> R
  ) throws(TensorError) -> R {
    try body(UnsafeMutableRawBufferPointer(start: tensor.address, count: tensor.byteCount))
  }
}

/// A block of the allocator, on the books of the ledger.
final class BlockStorage: HostStorage, @unchecked Sendable {
  private let block: BlockAllocator.Block
  private let charged: Int
  private let owner: CPUBackend

  init(
    _ block: BlockAllocator.Block, charged: Int, byteCount: Int, category: MemoryCategory, backend owner: CPUBackend
  ) {
    (self.block, self.charged, self.owner) = (block, charged, owner)
    owner.memory.charge(charged, category)
    super.init(base: block.base, byteCount: byteCount, category: category, backend: owner)
  }

  deinit {
    owner.allocator.give(block)
    owner.memory.refund(charged, category)
  }
}
