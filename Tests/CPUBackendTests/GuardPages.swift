import Glibc

/// Memory that ends where a page without access begins: a kernel that reads or writes behind it is killed. Before it
/// lie at least 256 bytes of ones, which are NaN in every float type, and another such page.
final class GuardPages: @unchecked Sendable {
  let base: UnsafeMutableRawPointer
  let byteCount: Int
  private let mapping: UnsafeMutableRawPointer
  private let mappedByteCount: Int
  private static let page = Int(sysconf(Int32(_SC_PAGESIZE)))

  init(byteCount: Int) {
    let (page, inside) = (Self.page, (byteCount + 256 + Self.page - 1) / Self.page * Self.page)
    self.byteCount = byteCount
    mappedByteCount = inside + 2 * page
    mapping = mmap(nil, mappedByteCount, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
    precondition(mapping != MAP_FAILED && mprotect(mapping + page, inside, PROT_READ | PROT_WRITE) == 0)
    memset(mapping + page, 0xFF, inside)
    base = mapping + page + (inside - byteCount)
  }
  deinit { munmap(mapping, mappedByteCount) }

  /// Whether the bytes before the memory are as they were.
  var isIntact: Bool {
    let first = mapping + Self.page
    return (0..<base - first).allSatisfy { first.load(fromByteOffset: $0, as: UInt8.self) == 0xFF }
  }

  func values<T>(of type: T.Type) -> UnsafeMutablePointer<T> { base.assumingMemoryBound(to: type) }
}
