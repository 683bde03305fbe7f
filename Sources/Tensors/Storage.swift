/// A block of memory owned by a backend, or a view of bytes that somebody else keeps alive (a mapped file).
///
/// Nothing above the backends dereferences the memory except through `Tensor.withHostBytes`.
public final class Storage: @unchecked Sendable {
  public let byteCount: Int
  public let category: MemoryCategory
  public let backend: any Backend
  /// Start of the block in host memory; for backends with memory of their own this is the device address.
  public let base: UnsafeMutableRawPointer
  /// Whether writing is allowed; mapped files are read-only.
  public let isWritable: Bool
  private let onRelease: (@Sendable (UnsafeMutableRawPointer) -> Void)?

  /// A block whose release is the backend's business.
  public init(
    base: UnsafeMutableRawPointer, byteCount: Int, category: MemoryCategory, backend: any Backend,
    isWritable: Bool = true, onRelease: (@Sendable (UnsafeMutableRawPointer) -> Void)?
  ) {
    self.base = base
    self.byteCount = byteCount
    self.category = category
    self.backend = backend
    self.isWritable = isWritable
    self.onRelease = onRelease
  }

  /// A read-only view of bytes kept alive by `owner`, for example a memory-mapped checkpoint.
  public convenience init(viewing bytes: UnsafeRawBufferPointer, owner: AnyObject & Sendable, backend: any Backend) {
    let base = UnsafeMutableRawPointer(mutating: bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 64)!)
    self.init(
      base: base, byteCount: bytes.count, category: .weights, backend: backend, isWritable: false,
      onRelease: { _ in withExtendedLifetime(owner) {} })
  }

  deinit { onRelease?(base) }
}
