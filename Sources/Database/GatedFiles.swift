import CSQLite
import Glibc

/// The file system of one connection: SQLite's own, which asks before a file is opened, removed or looked for. What is
/// opened without being named in a statement is asked for too: journals, and the files that a journal names.
final class GatedFiles {
  private typealias Record = (files: sqlite3_vfs, gate: Unmanaged<GatedFiles>?)
  // Written once, by SQLite's own start.
  nonisolated(unsafe) private static let own = sqlite3_vfs_find(nil)

  let name: String
  private let allows: (_ path: String, _ writes: Bool) -> Bool
  private let record = UnsafeMutablePointer<Record>.allocate(capacity: 1)
  private let spelling: UnsafeMutablePointer<CChar>

  /// Nil where SQLite has no file system.
  init?(allows: @escaping (_ path: String, _ writes: Bool) -> Bool) {
    guard let own = Self.own else { return nil }
    self.allows = allows
    name = "gated-\(UInt(bitPattern: record))"
    spelling = strdup(name)
    var files = own.pointee
    files.pNext = nil
    files.zName = UnsafePointer(spelling)
    files.xOpen = { files, path, file, flags, given in
      let isRead = flags & SQLITE_OPEN_READONLY != 0
      // Files without a name are temporary.
      guard let own = GatedFiles.own, GatedFiles.permits(files, path, writes: !isRead) else {
        file?.pointee.pMethods = nil
        return SQLITE_CANTOPEN
      }
      return own.pointee.xOpen(files, path, file, flags, given)
    }
    files.xDelete = { files, path, synchronizes in
      guard let own = GatedFiles.own, GatedFiles.permits(files, path, writes: true) else { return SQLITE_PERM }
      return own.pointee.xDelete(files, path, synchronizes)
    }
    files.xAccess = { files, path, flags, result in
      guard let own = GatedFiles.own, GatedFiles.permits(files, path, writes: false) else {
        result?.pointee = 0
        return SQLITE_OK
      }
      return own.pointee.xAccess(files, path, flags, result)
    }
    record.initialize(to: (files, nil))
    record.pointee.gate = Unmanaged.passUnretained(self)
    record.withMemoryRebound(to: sqlite3_vfs.self, capacity: 1) { _ = sqlite3_vfs_register($0, 0) }
  }

  deinit {
    record.withMemoryRebound(to: sqlite3_vfs.self, capacity: 1) { _ = sqlite3_vfs_unregister($0) }
    record.deallocate()
    free(spelling)
  }

  private static func permits(
    _ files: UnsafeMutablePointer<sqlite3_vfs>?, _ path: UnsafePointer<CChar>?, writes: Bool
  ) -> Bool {
    guard let path else { return true }
    guard let files, let text = String(validatingCString: path) else { return false }
    let record = UnsafeRawPointer(files).assumingMemoryBound(to: Record.self)
    return record.pointee.gate?.takeUnretainedValue().allows(text, writes) ?? false
  }
}
