/// A block of memory owned by a backend, which gives it back when its subclass is released, or a `MappedStorage`.
///
/// Nothing above the backends dereferences the memory except through `Tensor.withHostBytes`.
open class Storage: @unchecked Sendable {
  public final let byteCount: Int
  public final let category: MemoryCategory
  public final let backend: any Backend
  /// Start of the block in host memory; for backends with memory of their own this is the device address.
  public final let base: UnsafeMutableRawPointer
  /// Whether writing is allowed; mapped files are read-only.
  public final let isWritable: Bool

  public init(
    base: UnsafeMutableRawPointer, byteCount: Int, category: MemoryCategory, backend: any Backend,
    isWritable: Bool = true
  ) {
    self.base = base
    self.byteCount = byteCount
    self.category = category
    self.backend = backend
    self.isWritable = isWritable
  }
}

/// A read-only view of bytes that somebody else keeps alive, for example a memory-mapped checkpoint.
public final class MappedStorage: Storage, @unchecked Sendable {
  private let owner: AnyObject & Sendable

  public init(viewing bytes: UnsafeRawBufferPointer, owner: AnyObject & Sendable, backend: any Backend) {
    self.owner = owner
    let base = UnsafeMutableRawPointer(mutating: bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 64)!)
    super.init(base: base, byteCount: bytes.count, category: .weights, backend: backend, isWritable: false)
  }
}
