/// A block of memory owned by a backend, whose subclass knows where it lies and gives it back when it is released.
///
/// It has no address: what is outside the backend comes to the bytes by `Backend.read` and its neighbours.
open class Storage: @unchecked Sendable {
  /// Bytes that tensors may use.
  public final let byteCount: Int
  /// What the block is for.
  public final let category: MemoryCategory
  /// The backend that made the block, the only one that can reach it.
  public final let backend: any Backend
  /// The bytes of a mapped file that this block is a view of; nil for memory of the backend's own.
  public final let file: FileBytes?

  /// How often a program has changed elements that a recorded operation may need; see `Tensor.noteChange`.
  package final var changeCount = 0

  /// The part of a block that every backend has in common; called by the subclass.
  public init(byteCount: Int, category: MemoryCategory, backend: any Backend, file: FileBytes? = nil) {
    self.byteCount = byteCount
    self.category = category
    self.backend = backend
    self.file = file
  }

  /// Whether writing is allowed; mapped files are read-only.
  public final var isWritable: Bool { file == nil }
}

/// Bytes of a mapped file, for example of a tensor in a checkpoint.
public final class FileBytes: @unchecked Sendable {
  /// The bytes in host memory, valid as long as this object.
  public let bytes: UnsafeRawBufferPointer
  private let owner: AnyObject & Sendable

  /// Bytes that `owner` keeps mapped.
  public init(_ bytes: UnsafeRawBufferPointer, owner: AnyObject & Sendable) {
    self.bytes = bytes
    self.owner = owner
  }

  /// Where the file is mapped, for advice to the kernel about its pages.
  package var addresses: Range<UInt> {
    let start = UInt(bitPattern: bytes.baseAddress)
    return start..<start + UInt(bytes.count)
  }
}
