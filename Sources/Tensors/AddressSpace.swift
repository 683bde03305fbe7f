import Glibc

/// The addresses that `ulimit -v` leaves to the process.
///
/// Swift ends a program whose heap gets no memory, so large requests must fail while there is still room for small
/// ones.
package enum AddressSpace {
  /// What stays for the heap, the stacks of threads and the report of an error.
  private static let reserve = 12 << 20

  /// Whether so many bytes can be mapped and the reserve stays; always so without a limit.
  package static func hasRoom(for byteCount: Int) -> Bool {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0, limit.rlim_cur < UInt(Int.max) else {
      return true
    }
    return byteCount <= Int(limit.rlim_cur) - reserve - used
  }

  /// Bytes of all mappings.
  static var used: Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var pages = 0
    withUnsafeMutablePointer(to: &pages) { pointer in
      _ = withVaList([pointer]) { vfscanf(file, "%ld", $0) }
    }
    return pages * sysconf(Int32(_SC_PAGESIZE))
  }
}
