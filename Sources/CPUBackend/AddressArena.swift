import Glibc
import Synchronization
import Tensors

/// Addresses for the large blocks of a rehearsal, given out one after the other and given back all at once: a rehearsal
/// takes thousands, and two system calls for each would be a quarter of its time. What is written all the same, such as
/// token ids, gets memory when it is.
final class AddressArena: Sendable {
  private struct Chunk: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let size: Int
    var used = 0
  }

  private static let chunkSize = 1 << 30
  private static let pageSize = 4096
  private let chunks = Mutex<[Chunk]>([])

  deinit {
    for chunk in chunks.withLock({ $0 }) { munmap(chunk.base, chunk.size) }
  }

  /// `byteCount` bytes on pages of their own, or nil when the system has no addresses left.
  func take(_ byteCount: Int) -> UnsafeMutableRawPointer? {
    let size = (byteCount + Self.pageSize - 1) / Self.pageSize * Self.pageSize
    return chunks.withLock { chunks in
      if chunks.last.map({ $0.size - $0.used < size }) ?? true {
        // Where addresses are limited, no more than are needed: the heap wants some, too.
        let isAmple = AddressSpace.hasRoom(for: 4 * max(size, Self.chunkSize))
        guard let chunk = Self.map(isAmple ? max(size, Self.chunkSize) : size) else { return nil }
        chunks.append(chunk)
      }
      let last = chunks.count - 1
      defer { chunks[last].used += size }
      return chunks[last].base + chunks[last].used
    }
  }

  private static func map(_ size: Int) -> Chunk? {
    guard AddressSpace.hasRoom(for: size) else { return nil }
    let base = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let base, base != MAP_FAILED else { return nil }
    return Chunk(base: base, size: size)
  }
}
