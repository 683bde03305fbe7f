/// The door of a device whose memory the host cannot reach: everything goes through `read` and `write` by way of a
/// buffer.
extension Backend {
  /// A copy of the file's bytes in a block of category `weights`.
  /// - Throws: `TensorError.outOfMemory`; what the device reports when the copy fails.
  public func adopt(_ file: FileBytes) throws -> Storage {
    let storage = try allocate(byteCount: file.bytes.count, category: .weights)
    try write(file.bytes, to: Tensor(storage: storage, dtype: .u8, shape: [file.bytes.count]))
    return storage
  }

  /// Writes a host buffer of zeros to the tensor.
  /// - Throws: what the device reports when the copy fails.
  public func zero(_ tensor: Tensor) throws(TensorError) {
    let staging = Staging(byteCount: tensor.byteCount)
    staging.bytes.initializeMemory(as: UInt8.self, repeating: 0)
    try write(UnsafeRawBufferPointer(staging.bytes), to: tensor)
  }

  /// Lends a host buffer with a copy of the elements.
  /// - Throws: what `body` throws, and what the device reports when the copy fails.
  public func withHostBytes<R>(
    of tensor: Tensor, _ body: (UnsafeRawBufferPointer) throws(TensorError) -> R
  ) throws(TensorError) -> R {
    let staging = Staging(byteCount: tensor.byteCount)
    try read(tensor, into: staging.bytes)
    return try body(UnsafeRawBufferPointer(staging.bytes))
  }

  /// Lends a host buffer with a copy of the elements, and writes it back unless `body` throws.
  /// - Throws: what `body` throws, and what the device reports when a copy fails.
  public func withMutableHostBytes<R>(
    of tensor: Tensor, _ body: (UnsafeMutableRawBufferPointer) throws(TensorError) -> R
  ) throws(TensorError) -> R {
    let staging = Staging(byteCount: tensor.byteCount)
    try read(tensor, into: staging.bytes)
    let result = try body(staging.bytes)
    try write(UnsafeRawBufferPointer(staging.bytes), to: tensor)
    return result
  }
}

/// Host memory for the bytes of one tensor.
private final class Staging {
  let bytes: UnsafeMutableRawBufferPointer

  init(byteCount: Int) { bytes = .allocate(byteCount: byteCount, alignment: 64) }

  deinit { bytes.deallocate() }
}

extension Tensor {
  /// Reads the elements of a contiguous tensor on the host, after pending work is done. The CPU lends its memory, other
  /// devices a copy.
  /// - Throws: what `body` throws, and what the device reports when the copy fails.
  public func withHostBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) throws -> R {
    precondition(isContiguous, "withHostBytes needs a contiguous tensor, strides \(strides), shape \(shape)")
    return try backend.withHostBytes(of: self) { bytes in Result { try body(bytes) } }.get()
  }

  /// Changes the elements of a contiguous tensor on the host, after pending work is done. Another device than the CPU
  /// lends a copy, which goes back also when `body` throws.
  /// - Throws: what `body` throws, and what the device reports when a copy fails.
  public func withMutableHostBytes<R>(_ body: (UnsafeMutableRawBufferPointer) throws -> R) throws -> R {
    precondition(isContiguous, "withMutableHostBytes needs a contiguous tensor, strides \(strides)")
    precondition(storage.isWritable, "withMutableHostBytes on a read-only mapping")
    return try backend.withMutableHostBytes(of: self) { bytes in Result { try body(bytes) } }.get()
  }

  /// Copies host memory to the elements of a contiguous tensor, as many bytes as it has.
  /// - Throws: what the device reports when the copy fails.
  package func write(_ bytes: UnsafeRawBufferPointer) throws(TensorError) {
    precondition(isContiguous && storage.isWritable && bytes.count == byteCount, "write of \(bytes.count) bytes")
    try backend.write(bytes, to: self)
  }
}
