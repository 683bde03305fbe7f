import Glibc
import Synchronization

/// Memory of this process as the kernel counts it.
package enum ProcessMemory {
  /// A field of /proc/self/status such as "VmRSS", in bytes; 0 when there is no such field.
  package static func read(_ field: String) -> Int {
    number(after: field + ":", in: "/proc/self/status").map { $0 * 1024 } ?? 0
  }

  /// Bytes that this process may have: the machine's memory, or less in a control group that limits it. What
  /// `MemoryLedger.limit` should be where nothing else is said.
  package static var available: Int {
    let machine = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
    let hierarchies = [
      ("0::", "/sys/fs/cgroup", "memory.max"), (":memory:", "/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
    ]
    var least = machine
    for (mark, root, name) in hierarchies {
      guard let group = line(containing: mark, in: "/proc/self/cgroup"), let start = group.firstRange(of: mark) else {
        continue
      }
      // A limit higher up in the hierarchy holds too.
      for folder in folders(upwardFrom: group[start.upperBound...]) {
        if let limit = number(after: "", in: "\(root)\(folder)/\(name)") { least = min(least, limit) }
      }
    }
    return least
  }

  /// "/a/b", "/a" and "", the root, for "/a/b".
  package static func folders(upwardFrom path: Substring) -> [Substring] {
    var list = [path]
    while let slash = list[list.count - 1].lastIndex(of: "/") { list.append(list[list.count - 1][..<slash]) }
    return list
  }

  private static func line(containing mark: String, in path: String) -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var buffer = [CChar](repeating: 0, count: 4096)
    let found = mark.withCString { mark in
      while fgets(&buffer, Int32(buffer.count), file) != nil {
        if strstr(buffer, mark) != nil { return true }
      }
      return false
    }
    guard found else { return nil }
    return String(decoding: buffer.prefix { $0 != 0 && $0 != 10 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  private static func number(after prefix: String, in path: String) -> Int? {
    line(containing: prefix, in: path).flatMap { Int($0.dropFirst(prefix.count).filter(\.isNumber)) }
  }
}

/// What the process occupies besides blocks and scratch of the backend and the model's files: the program with its
/// libraries, an interpreter with what its programs keep, tokenizers.
package final class ProgramMemory: Sendable {
  /// Pages of code and libraries that loading and training bring in after the start, and heap that grows between two
  /// looks at it.
  private static let laterCodeByteCount = 6 << 20
  private let codeByteCount = ProcessMemory.read("RssFile") + ProgramMemory.laterCodeByteCount
  private let highest = Atomic(0)

  package init() {}

  /// The highest so far, since what is freed in the heap stays with the process; for `MemoryLedger.measure(program:)`;
  /// `backend` are the bytes of blocks and scratch of the backend.
  package func byteCount(backend: Int) -> Int {
    codeByteCount + highest.max(own(backend), ordering: .relaxed).newValue
  }

  /// What it is now: for memory that comes and goes, as an interpreter's does.
  package func presentByteCount(backend: Int) -> Int { codeByteCount + own(backend) }

  private func own(_ backend: Int) -> Int { max(0, ProcessMemory.read("RssAnon") - backend) }
}
