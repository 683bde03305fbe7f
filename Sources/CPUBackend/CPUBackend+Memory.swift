import Glibc
import Tensors

extension CPUBackend {
  public var name: String { "cpu" }

  /// A block from the allocator, charged to the ledger until it is released.
  public func allocate(byteCount: Int, category: MemoryCategory) throws -> Storage {
    let size = BlockAllocator.roundedByteCount(byteCount)
    guard let block = try allocator.take(size, touching: byteCount, require: memory.require) else {
      throw TensorError.outOfMemory(byteCount: size, used: residentByteCount, limit: nil)
    }
    return BlockStorage(block, charged: size, byteCount: byteCount, category: category, backend: self)
  }

  /// A view of the file's pages.
  public func adopt(_ file: FileBytes) throws -> Storage { FileStorage(file, backend: self) }

  /// Bytes that blocks in use or kept for reuse and scratch buffers occupy, as far as they were written.
  public var residentByteCount: Int { allocator.resident.now + scratchByteCount }
  /// The highest since `resetResidentPeak`.
  public var peakResidentByteCount: Int { allocator.resident.peak + scratchByteCount }
  public func resetResidentPeak() { allocator.resetResidentPeak() }
  /// Scratch of products and attention; it only grows.
  public var scratchByteCount: Int { matmulState.byteCount + attentionScratch.touchedByteCount }

  /// Calls run at once, so there is nothing to wait for.
  public func synchronize() {}

  // MARK: The door

  public func read(_ tensor: Tensor, into bytes: UnsafeMutableRawBufferPointer) throws(TensorError) {
    bytes.copyMemory(from: UnsafeRawBufferPointer(start: tensor.address, count: tensor.byteCount))
  }

  public func write(_ bytes: UnsafeRawBufferPointer, to tensor: Tensor) throws(TensorError) {
    UnsafeMutableRawBufferPointer(start: tensor.address, count: tensor.byteCount).copyMemory(from: bytes)
  }

  public func zero(_ tensor: Tensor) throws(TensorError) {
    if pool.isRehearsal { return }
    memset(tensor.address, 0, tensor.byteCount)
  }

  public func withHostBytes<R>(
    of tensor: Tensor, _ body: (UnsafeRawBufferPointer) throws(TensorError) -> R
  ) throws(TensorError) -> R {
    try body(UnsafeRawBufferPointer(start: tensor.address, count: tensor.byteCount))
  }

  public func withMutableHostBytes<R>(
    of tensor: Tensor, _ body: (UnsafeMutableRawBufferPointer) throws(TensorError) -> R
  ) throws(TensorError) -> R {
    try body(UnsafeMutableRawBufferPointer(start: tensor.address, count: tensor.byteCount))
  }
}

/// A block of the allocator, on the books of the ledger.
private final class BlockStorage: HostStorage, @unchecked Sendable {
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
