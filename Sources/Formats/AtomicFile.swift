import Glibc
import Tensors

/// A file that appears whole or not at all: written under a temporary name beside it, synced, renamed.
/// Dropping the object without `commit()` removes the temporary file; one of a dead process of this machine is removed
/// by the next writer of the same file.
///
/// Links are followed: what they lead to is replaced. Only a file is, and keeps its permissions.
package final class AtomicFile {
  package let path: String
  private let place: String
  /// Where it lies until it is complete.
  let temporary: String
  private var descriptor: Int32
  package private(set) var byteCount = 0
  /// What was written where, to compare it with what the file gives back.
  private var pieces: [(start: Int, count: Int, sum: UInt64)] = []

  package init(path: String) throws(FormatError) {
    self.path = path
    try FileGate.check(path, .write)
    place = try FileSystem.resolve(path)
    var info = stat()
    let exists = stat(place, &info) == 0
    if exists || path.hasSuffix("/") {
      let kind = exists ? FileKind(info.st_mode) : .folder
      guard kind == .file else { throw .wrongKind(path: path, found: kind, wanted: .file) }
    }
    Leftovers.remove(of: place)
    temporary = StageName.stage(of: place)
    descriptor = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw .system(path: path, operation: "create", code: errno) }
    if exists { _ = fchmod(descriptor, info.st_mode & 0o777) }
  }

  deinit {
    if descriptor >= 0 {
      close(descriptor)
      unlink(temporary)
    }
  }

  package func append(_ bytes: UnsafeRawBufferPointer) throws(FormatError) { try write(bytes, at: byteCount) }

  /// Writes at a place in the file, which grows as needed.
  package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(FormatError) {
    var done = 0
    while done < bytes.count {
      let count = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
      if count < 0 {
        if errno == EINTR { continue }
        throw .system(path: path, operation: "write", code: errno)
      }
      done += count
    }
    byteCount = max(byteCount, offset + bytes.count)
    pieces.append((offset, bytes.count, Self.sum(bytes)))
  }

  package func append(_ bytes: [UInt8]) throws(FormatError) {
    let result: Result<Void, FormatError> = bytes.withUnsafeBytes { buffer in
      do throws(FormatError) { return .success(try append(buffer)) } catch { return .failure(error) }
    }
    try result.get()
  }

  /// Gives the file its size before all is written, so that others can read its beginning as that of a whole file.
  func reserve(_ byteCount: Int) throws(FormatError) {
    guard ftruncate(descriptor, off_t(byteCount)) == 0 else {
      throw .system(path: path, operation: "write", code: errno)
    }
  }

  /// Reads back what was written, and makes the file visible if it is the same. The system mostly answers from its
  /// memory: what the engine, the memory or the file system garbled is found, not what the disk loses later.
  /// - Throws: `readsBackDifferently`, `system`. The file is then the old one, except where the error names its folder,
  ///   which could not be synced: the new one is in place, and a loss of power may bring the old one back.
  package func commit() throws(FormatError) {
    guard fsync(descriptor) == 0 else { throw .system(path: path, operation: "sync", code: errno) }
    for piece in pieces where try sum(at: piece.start, count: piece.count) != piece.sum {
      throw .readsBackDifferently(path: path, what: "what begins at byte \(piece.start)")
    }
    guard rename(temporary, place) == 0 else { throw .system(path: path, operation: "rename", code: errno) }
    close(descriptor)
    descriptor = -1
    try FileSystem.synchronize(FileSystem.directoryName(place))
  }

  package static func write(_ path: String, _ bytes: [UInt8]) throws(FormatError) {
    let file = try AtomicFile(path: path)
    try file.append(bytes)
    try file.commit()
  }

  package static func write(_ path: String, _ text: String) throws(FormatError) { try write(path, Array(text.utf8)) }

  /// The checksum of a part of the file as the system gives it back.
  private func sum(at start: Int, count: Int) throws(FormatError) -> UInt64 {
    var sum = Self.emptySum
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: min(count, 1 << 20), alignment: 8)
    defer { buffer.deallocate() }
    var done = 0
    while done < count {
      let wanted = min(buffer.count, count - done)
      var got = 0
      while got < wanted {
        let read = pread(descriptor, buffer.baseAddress! + got, wanted - got, off_t(start + done + got))
        if read < 0, errno == EINTR { continue }
        guard read > 0 else { throw .system(path: path, operation: "read back", code: read < 0 ? errno : EIO) }
        got += read
      }
      sum = Self.sum(UnsafeRawBufferPointer(rebasing: buffer[..<wanted]), after: sum)
      done += wanted
    }
    return sum
  }

  private static let emptySum: UInt64 = 0xCBF2_9CE4_8422_2325

  /// Eight bytes at a time (FNV-1a with a wider step); each byte that differs gives another sum.
  private static func sum(_ bytes: UnsafeRawBufferPointer, after start: UInt64 = emptySum) -> UInt64 {
    var sum = start
    var offset = 0
    func add(_ word: UInt64) {
      sum = (sum ^ word) &* 0x100_0000_01B3
      sum ^= sum >> 32
    }
    while offset + 8 <= bytes.count {
      add(bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
      offset += 8
    }
    for byte in bytes[offset...] { add(UInt64(byte)) }
    return sum
  }
}
