import CPlatform
import Glibc
import Tensors

/// A folder that appears complete or not at all. Files are written into `stage`; `commit()` puts it in the place of
/// `path` in one step: a reader sees the old folder or the new one. A link is followed, and stays.
///
/// What a dead process of this machine left half-written under this name is removed by the next writer.
package final class AtomicDirectory {
  package let path: String
  /// The temporary folder to write into.
  package let stage: String
  private let owns: (String) -> Bool
  private var open = true

  /// - Parameters:
  ///   - path: parents are made where absent.
  ///   - owns: whether a name belongs to what is saved; an existing folder with others is not replaced.
  /// - Throws: `wrongKind` where something other than a folder is at `path`, `foreign`, `system`.
  package init(path: String, owns: @escaping (String) -> Bool = { _ in true }) throws(FormatError) {
    try FileGate.check(path, .write)
    // The stage lies beside the folder that is meant, so that one rename reaches it.
    self.path = try FileSystem.resolve(path)
    self.owns = owns
    try FileSystem.makeDirectory(FileSystem.directoryName(self.path))
    Leftovers.remove(of: self.path)
    if let kind = FileSystem.kind(self.path) {
      guard kind == .folder else { throw .wrongKind(path: path, found: kind, wanted: .folder) }
      try Self.checkOwned(self.path, owns)
    }
    stage = try Leftovers.makeFolder(for: self.path)
  }

  deinit {
    if open { try? FileSystem.remove(stage) }
  }

  /// The stage stays, also when this object goes.
  func keepStage() { open = false }

  /// Makes the folder visible. An existing folder of that name is replaced only if `replacing`. Where the file system
  /// cannot exchange two folders, that takes two steps; one who dies between them leaves the old folder under another
  /// name, and the next writer puts it back. What cannot be removed of an old folder is left to a later writer.
  /// - Throws: `alreadyExists`, `foreign`, `system`. The folder is then the old one, except where the error names its
  ///   parent, which could not be synced: the new one is in place, and a loss of power may bring the old one back.
  package func commit(replacing: Bool = false) throws(FormatError) {
    if try exchange(replacing: replacing) { return }
    let old = StageName.old(of: path)
    guard rename(path, old) == 0 else { throw .system(path: path, operation: "rename", code: errno) }
    guard rename(stage, path) == 0 else {
      let code = errno
      _ = rename(old, path)
      throw .system(path: path, operation: "rename", code: code)
    }
    open = false
    try FileSystem.synchronize(FileSystem.directoryName(path))
    try? FileSystem.remove(old)
  }

  /// As `commit`, but false where the file system cannot exchange these two folders: then nothing has changed.
  func exchange(replacing: Bool) throws(FormatError) -> Bool {
    try synchronizeTree(stage)
    if FileSystem.exists(path) {
      guard replacing else { throw .alreadyExists(path: path) }
      try Self.checkOwned(path, owns)
      var info = stat()
      if stat(path, &info) == 0 { _ = chmod(stage, info.st_mode & 0o7777) }
      guard cp_exchange(stage, path) == 0 else {
        if [EBUSY, EXDEV, EINVAL, ENOSYS].contains(errno) { return false }
        throw .system(path: path, operation: "replace folder", code: errno)
      }
    } else {
      guard rename(stage, path) == 0 else { throw .system(path: path, operation: "rename", code: errno) }
    }
    open = false
    try FileSystem.synchronize(FileSystem.directoryName(path))
    try? FileSystem.remove(stage)
    return true
  }

  private static func checkOwned(_ path: String, _ owns: (String) -> Bool) throws(FormatError) {
    if let foreign = try FileSystem.list(path).first(where: { !owns($0) && StageName($0) == nil }) {
      throw .foreign(path: path, name: foreign)
    }
  }

  private func synchronizeTree(_ folder: String) throws(FormatError) {
    for name in try FileSystem.list(folder) {
      let item = folder + "/" + name
      if FileSystem.isDirectory(item) { try synchronizeTree(item) } else { try FileSystem.synchronize(item) }
    }
    try FileSystem.synchronize(folder)
  }
}
