import Formats
import Glibc
import Tensors

/// A blob that is not there as a whole yet: `blobs/HASH.incomplete`, which holds its beginning without holes, so that
/// any program of the hub goes on where another one stopped.
final class PartialFile {
  let path: String
  private let descriptor: Int32
  private(set) var count: Int
  private var hash = SHA256()

  /// Opens what is there of a blob, and reads it for the checksum.
  /// - Throws: `FormatError.system`, `.confined`.
  init(path: String, limit: Int) throws(FormatError) {
    self.path = path
    try FileGate.check(path, .write)
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o666)
    guard descriptor >= 0 else { throw .system(path: path, operation: "open", code: errno) }
    let size = Int(lseek(descriptor, 0, SEEK_END))
    count = 0
    guard size <= limit else {
      try restart()
      return
    }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 8)
    defer { buffer.deallocate() }
    while count < size {
      let got = pread(descriptor, buffer.baseAddress!, min(buffer.count, size - count), off_t(count))
      if got < 0, errno == EINTR { continue }
      guard got > 0 else { throw .system(path: path, operation: "read", code: got < 0 ? errno : EIO) }
      hash.update(UnsafeRawBufferPointer(rebasing: buffer[..<got]))
      count += got
    }
  }

  deinit { close(descriptor) }

  /// Begins from nothing.
  func restart() throws(FormatError) {
    guard ftruncate(descriptor, 0) == 0 else { throw .system(path: path, operation: "write", code: errno) }
    (count, hash) = (0, SHA256())
  }

  func append(_ bytes: UnsafeRawBufferPointer) throws(FormatError) {
    var done = 0
    while done < bytes.count {
      let written = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(count + done))
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { throw .system(path: path, operation: "write", code: written < 0 ? errno : ENOSPC) }
      done += written
    }
    hash.update(bytes)
    count += bytes.count
  }

  /// The SHA-256 of all bytes.
  var sha256: String {
    let hash = hash
    return hash.finish()
  }

  /// Gives the blob its name, once its bytes are on the disk, and brings the name there too.
  func commit(to target: String) throws(FormatError) {
    try FileGate.check(target, .write)
    guard fsync(descriptor) == 0 else { throw .system(path: path, operation: "sync", code: errno) }
    guard rename(path, target) == 0 else { throw .system(path: target, operation: "rename", code: errno) }
    try FileSystem.synchronize(FileSystem.directoryName(target))
  }
}
