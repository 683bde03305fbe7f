import Glibc
import Synchronization

/// What a spill file holds, for messages.
public enum SpillContent: Sendable, Equatable {
  /// In this order: state of an optimizer; results that the backward pass needs.
  case optimizerState, activations

  var name: String {
    switch self {
    case .optimizerState: "optimizer state"
    case .activations: "activations"
    }
  }
}

/// A temporary file for what does not fit into memory. It has no name once open, so that nothing is left behind
/// whatever ends the process.
///
/// What is read must have the checksum of what was written: a file that was cut short and grew again is full of holes,
/// which read as zeros.
package final class SpillFile: Sendable {
  /// The directory it was made in, for messages.
  private let directory: String
  private let content: SpillContent
  private let descriptor: Int32
  private let written = Atomic<Int>(0)
  private let read = Atomic<Int>(0)

  package init(directory: String, content: SpillContent) throws(TensorError) {
    guard FileGate.allows(directory, .spill) else {
      throw .spillFailed(content: content, path: directory, operation: .create, code: EACCES)
    }
    self.directory = directory
    self.content = content
    var template = Array("\(directory)/qlora-XXXXXX.spill".utf8CString)
    let descriptor = mkstemps(&template, 6)
    guard descriptor >= 0 else {
      throw .spillFailed(content: content, path: directory, operation: .create, code: errno)
    }
    unlink(template)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  package var writtenByteCount: Int { written.load(ordering: .relaxed) }
  package var readByteCount: Int { read.load(ordering: .relaxed) }

  /// Writes the elements of a contiguous tensor and returns their checksum.
  /// - Throws: `spillFailed`; what the tensor's device reports.
  package func write(_ tensor: Tensor, at offset: Int) throws(TensorError) -> UInt64 {
    try tensor.backend.withHostBytes(of: tensor) { bytes throws(TensorError) in
      guard let start = bytes.baseAddress else { return 0 }
      return try write(start, bytes.count, at: offset)
    }
  }

  /// Reads all elements of a contiguous tensor; `expected` is what `write` returned for these bytes.
  /// - Throws: `spillFailed`, `spillDamaged`; what the tensor's device reports.
  package func read(into tensor: Tensor, at offset: Int, checksum expected: UInt64) throws(TensorError) {
    try tensor.backend.withMutableHostBytes(of: tensor) { bytes throws(TensorError) in
      guard let start = bytes.baseAddress else { return }
      try read(start, bytes.count, at: offset, checksum: expected)
    }
  }

  /// Writes all of it and returns its checksum.
  package func write(_ bytes: UnsafeRawPointer, _ byteCount: Int, at offset: Int) throws(TensorError) -> UInt64 {
    var done = 0
    while done < byteCount {
      let count = pwrite(descriptor, bytes + done, byteCount - done, off_t(offset + done))
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let code = count == 0 ? ENOSPC : errno
        throw .spillFailed(content: content, path: directory, operation: .write, code: code)
      }
      done += count
    }
    written.add(byteCount, ordering: .relaxed)
    return checksum(bytes, byteCount)
  }

  /// Reads all of it; `expected` is what `write` returned for these bytes.
  /// - Throws: `spillFailed`, `spillDamaged`.
  package func read(
    _ bytes: UnsafeMutableRawPointer, _ byteCount: Int, at offset: Int, checksum expected: UInt64
  ) throws(TensorError) {
    var done = 0
    while done < byteCount {
      let count = pread(descriptor, bytes + done, byteCount - done, off_t(offset + done))
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else {
        throw .spillFailed(content: content, path: directory, operation: .read, code: errno)
      }
      guard count > 0 else { throw .spillDamaged(content: content, path: directory, offset: offset + done) }
      done += count
    }
    guard checksum(bytes, byteCount) == expected else {
      throw .spillDamaged(content: content, path: directory, offset: offset)
    }
    read.add(byteCount, ordering: .relaxed)
  }
}

/// Sums and sums of sums of 64-bit words in eight lanes (Fletcher 1982): at the speed of memory, and unlike a plain sum
/// it tells an exchange of words.
func checksum(_ bytes: UnsafeRawPointer, _ byteCount: Int) -> UInt64 {
  var (sum, weighted) = (SIMD8<UInt64>(), SIMD8<UInt64>())
  let stride = MemoryLayout<SIMD8<UInt64>>.size
  var offset = 0
  while offset + stride <= byteCount {
    sum &+= (bytes + offset).loadUnaligned(as: SIMD8<UInt64>.self)
    weighted &+= sum
    offset += stride
  }
  var tail = SIMD8<UInt64>()
  withUnsafeMutableBytes(of: &tail) { buffer in
    buffer.copyMemory(from: UnsafeRawBufferPointer(start: bytes + offset, count: byteCount - offset))
  }
  sum &+= tail
  weighted &+= sum
  var result = UInt64(byteCount)
  for lane in sum.indices { result = (result &* 0x9E37_79B9_7F4A_7C15) ^ sum[lane] &+ weighted[lane] &* 31 }
  return result
}
