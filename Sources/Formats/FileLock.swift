import Glibc
import Tensors

/// A lock on a file, made where it is absent: no other process can take it until this object or this process is gone,
/// however that ends. The file holds the process and the machine that took it last.
///
/// It is `flock`, so it reaches as far as the file system carries that: on NFS to other machines, on some others not
/// even to other processes.
package final class FileLock {
  /// Where a locked file is now.
  package enum Place: Equatable {
    case here
    /// Under another name.
    case moved(String)
    case removed
  }

  private let descriptor: Int32

  /// - Throws: `FormatError.locked` when another process holds it, `.system`.
  package init(path: String) throws(FormatError) {
    try FileGate.check(path, .write)
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o666)
    guard descriptor >= 0 else { throw .system(path: path, operation: "open", code: errno) }
    if flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      let code = errno
      if code == EWOULDBLOCK {
        let owner = FileLock.text(descriptor)
        close(descriptor)
        throw .locked(path: path, owner: owner)
      }
      // A file system without locks is no reason not to write there.
    }
    let owner = Array("process \(getpid()) on \(FileLock.hostName)\n".utf8)
    guard ftruncate(descriptor, 0) == 0, pwrite(descriptor, owner, owner.count, 0) == owner.count else {
      let code = errno
      close(descriptor)
      throw .system(path: path, operation: "write", code: code)
    }
  }

  deinit { close(descriptor) }

  /// Where the file is that was locked under `path`.
  package func place(_ path: String) -> Place {
    var (own, other) = (stat(), stat())
    guard fstat(descriptor, &own) == 0, own.st_nlink > 0 else { return .removed }
    if stat(path, &other) == 0, isSame(own, other) { return .here }
    var name = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
    guard readlink("/proc/self/fd/\(descriptor)", &name, name.count - 1) > 0, stat(name, &other) == 0,
      isSame(own, other)
    else { return .removed }
    return .moved(String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
  }

  private func isSame(_ a: stat, _ b: stat) -> Bool { a.st_dev == b.st_dev && a.st_ino == b.st_ino }

  private static func text(_ descriptor: Int32) -> String {
    var bytes = [UInt8](repeating: 0, count: 256)
    let count = pread(descriptor, &bytes, bytes.count, 0)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).split(separator: "\n").first.map(String.init)
      ?? "another process"
  }

  private static var hostName: String {
    var name = [CChar](repeating: 0, count: 256)
    guard gethostname(&name, name.count - 1) == 0 else { return "this machine" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
