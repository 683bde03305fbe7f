import Glibc
import Tensors

/// A file mapped read-only. Pages come in on demand and can be given back with `advise(.dontNeed)`.
/// Another program that shortens the file while it is mapped ends this process (SIGBUS), as with any mapping.
package final class MappedFile: @unchecked Sendable {
  package let path: String
  package let byteCount: Int
  private let base: UnsafeMutableRawPointer?

  package enum Advice: Sendable { case sequential, willNeed, dontNeed }

  package init(path: String) throws(FormatError) {
    self.path = path
    try FileGate.check(path, .read)
    // Without O_NONBLOCK the opening of a named pipe would wait for a writer.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw .system(path: path, operation: "open", code: errno) }
    defer { close(descriptor) }
    var info = stat()
    guard fstat(descriptor, &info) == 0 else { throw .system(path: path, operation: "stat", code: errno) }
    guard info.st_mode & S_IFMT == S_IFREG else {
      throw .system(path: path, operation: "open", code: info.st_mode & S_IFMT == S_IFDIR ? EISDIR : EINVAL)
    }
    byteCount = Int(info.st_size)
    if byteCount == 0 {
      base = nil  // mmap refuses empty ranges
      return
    }
    guard AddressSpace.hasRoom(for: byteCount) else { throw .system(path: path, operation: "mmap", code: ENOMEM) }
    let mapped = mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor, 0)
    guard let mapped, mapped != MAP_FAILED else { throw .system(path: path, operation: "mmap", code: errno) }
    base = mapped
    if byteCount < MappedFile.pointerLimit, bytes.starts(with: MappedFile.pointerStart) {
      throw .gitPointer(path: path)
    }
  }

  /// How a file begins that Git LFS has in the place of a large one, and what all of them are smaller than (Git LFS
  /// specification, "The Pointer").
  private static let pointerStart = Array("version https://git-lfs.github.com/spec/".utf8)
  private static let pointerLimit = 1024

  deinit {
    if let base { munmap(base, byteCount) }
  }

  /// Calls `body` with the whole file, which stays mapped until it returns.
  package func withBytes<R, E>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    defer { withExtendedLifetime(self) {} }
    return try body(bytes)
  }

  /// The whole file; valid while this object lives, which a caller must see to: a last use of the object before the
  /// last use of its bytes unmaps them. Prefer `withBytes`.
  package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: byteCount) }

  /// A checked part of the file. `what` is named in the error.
  package func slice(_ offset: UInt64, _ count: UInt64, what: String) throws(FormatError) -> UnsafeRawBufferPointer {
    let (end, overflow) = offset.addingReportingOverflow(count)
    guard !overflow, end <= UInt64(byteCount) else {
      throw .outOfBounds(path: path, what: what, offset: offset, count: count, size: UInt64(byteCount))
    }
    return UnsafeRawBufferPointer(rebasing: bytes[Int(offset)..<Int(end)])
  }

  /// A hint about the coming use of a byte range; the range is clamped to the file and widened to whole pages,
  /// except that `dontNeed` is narrowed, so that neighbours stay resident. Failures do not matter.
  package func advise(_ advice: Advice, _ range: Range<Int>? = nil) {
    guard let base else { return }
    let whole = (range ?? 0..<byteCount).clamped(to: 0..<byteCount)
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    var start = whole.lowerBound / page * page
    var end = whole.upperBound
    if advice == .dontNeed {
      start = (whole.lowerBound + page - 1) / page * page
      if end != byteCount { end = end / page * page }
    }
    guard end > start else { return }
    let flag =
      switch advice {
      case .sequential: MADV_SEQUENTIAL
      case .willNeed: MADV_WILLNEED
      case .dontNeed: MADV_DONTNEED
      }
    _ = madvise(base + start, end - start, flag)
  }
}
