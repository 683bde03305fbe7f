import Glibc
import Tensors

/// Which files of a folder belong to a thing that is saved there: an adapter, a model.
package struct FolderFormat: Sendable {
  /// The file that every reader opens first.
  let key: String
  /// The field of it in which every reader finds, while the others are replaced, that the save was interrupted.
  let kindField: String
  /// Folders of which files belong too; these are called FOLDER/NAME.
  let folders: Set<String>
  /// Whether a save replaces or removes the file of a name.
  let owns: @Sendable (String) -> Bool
  /// Whether a file of a name would be read in the place of what is saved, or together with it.
  let conflicts: @Sendable (String) -> Bool

  package init(
    key: String, kindField: String, folders: Set<String> = [], owns: @escaping @Sendable (String) -> Bool,
    conflicts: @escaping @Sendable (String) -> Bool
  ) {
    self.key = key
    self.kindField = kindField
    self.folders = folders
    self.owns = owns
    self.conflicts = conflicts
  }

  /// With what the field of a save that did not end begins.
  package static let interruptedSign = "INTERRUPTED"

  /// Whether the key file says that a save did not end.
  func isInterrupted(_ folder: String) -> Bool {
    (try? JSON.read(path: "\(folder)/\(key)"))?[kindField]?.string?.hasPrefix(Self.interruptedSign) == true
  }

  /// What stands in the key file while the new files are brought from `stage`.
  func interrupted(_ stage: String) -> String {
    let word = "\(Self.interruptedSign): a save into this folder did not end. Save again; the new files are in \(stage)"
    return JSON.object(JSONObject([(kindField, .string(word))])).text(.python) + "\n"
  }
}

/// Files that belong together, saved into a folder that may hold other things, which stay. They are written into
/// `stage`; `commit()` brings them in.
///
/// A folder that holds nothing else, or is not there yet, is exchanged as a whole. In any other the key file is made to
/// say that the save was interrupted, then files of an earlier save that have no successor are removed, the new ones
/// renamed into their places, and the key file last. So at every moment a reader finds the old, the new or that word.
/// Links are followed, those of the folder and those of its files.
package final class FolderSave {
  /// The temporary folder to write into.
  package let stage: String
  private let folder: String
  private let format: FolderFormat
  /// The folder as a whole; nil when it holds other things.
  private let whole: AtomicDirectory?
  private var open = true
  /// Whether an earlier save did not end: until this one is whole, what it left may be the only copy.
  private let followsInterrupted: Bool

  /// - Throws: `wrongKind` where a folder or a file is to be and something else is, `conflict`, `system`.
  package init(path: String, format: FolderFormat) throws(FormatError) {
    self.format = format
    folder = try FileSystem.resolve(path)
    let kind = FileSystem.kind(folder)
    if let kind, kind != .folder { throw .wrongKind(path: path, found: kind, wanted: .folder) }
    followsInterrupted = kind != nil && format.isInterrupted(folder)
    if kind != nil, !followsInterrupted { Self.removeLeftovers(of: folder) }
    try Self.check(folder, format)
    if try Self.isAlone(folder, format), let whole = try? AtomicDirectory(path: folder) {
      self.whole = whole
      stage = whole.stage
      return
    }
    whole = nil
    try FileSystem.makeDirectory(folder)
    stage = try Leftovers.makeFolder(for: folder + "/" + Self.stageName)
  }

  deinit {
    if whole == nil, open { try? FileSystem.remove(stage) }
  }

  private static let stageName = ".saving"

  private static func removeLeftovers(of folder: String) {
    Leftovers.remove(of: folder)
    Leftovers.remove(of: folder + "/" + stageName)
  }

  /// Brings the files of the stage into the folder. Where this fails half-way, the folder says so to its readers. What
  /// cannot be removed of the stage or of an old folder afterwards is left to a later writer.
  package func commit() throws(FormatError) {
    if let whole {
      if try Self.isAlone(folder, format), try whole.exchange(replacing: true) {
        if followsInterrupted { Self.removeLeftovers(of: folder) }
        return
      }
    }
    try Self.check(folder, format)
    let names = try FileSystem.list(stage, with: format.folders)
    let hasKey = FileSystem.exists("\(folder)/\(format.key)")
    // From here on the stage stays where this fails: it may hold the only copy.
    open = false
    whole?.keepStage()
    if hasKey { try AtomicFile.write("\(folder)/\(format.key)", format.interrupted(stage)) }
    if followsInterrupted { Self.removeLeftovers(of: folder) }
    for name in try FileSystem.list(folder, with: format.folders)
    where format.owns(name) && !names.contains(name) && name != format.key {
      try FileSystem.remove("\(folder)/\(name)")
    }
    for name in names where name != format.key { try bring(name) }
    for inner in format.folders where FileSystem.isDirectory("\(folder)/\(inner)") {
      try FileSystem.synchronize("\(folder)/\(inner)")
    }
    try FileSystem.synchronize(folder)
    try bring(format.key)
    try FileSystem.synchronize(folder)
    try? FileSystem.remove(stage)
  }

  /// Renames a file into its place, or copies it there where the place is a link to another file system.
  private func bring(_ name: String) throws(FormatError) {
    let (source, target) = ("\(stage)/\(name)", "\(folder)/\(name)")
    try FileSystem.makeDirectory(FileSystem.directoryName(target))
    let place = try FileSystem.resolve(target)
    try FileGate.check(place, .write)
    if rename(source, place) == 0 { return }
    guard errno == EXDEV else { throw .system(path: target, operation: "rename", code: errno) }
    try FileSystem.copy(source, to: target)
  }

  /// Whether nothing is lost when the folder is exchanged as a whole: it is not there, or holds files of this format
  /// alone and is nobody's current folder that we know of.
  private static func isAlone(_ folder: String, _ format: FolderFormat) throws(FormatError) -> Bool {
    var (info, here) = (stat(), stat())
    guard stat(folder, &info) == 0 else { return true }
    if stat(".", &here) == 0, here.st_dev == info.st_dev, here.st_ino == info.st_ino { return false }
    if format.folders.contains(where: { FileSystem.isLink("\(folder)/\($0)") }) { return false }
    return try FileSystem.list(folder, with: format.folders).allSatisfy { name in
      var info = stat()
      return lstat("\(folder)/\(name)", &info) == 0 && info.st_mode & S_IFMT == S_IFREG && format.owns(name)
    }
  }

  private static func check(_ folder: String, _ format: FolderFormat) throws(FormatError) {
    guard FileSystem.exists(folder) else { return }
    let names = try FileSystem.list(folder, with: format.folders)
    let conflicts = names.filter(format.conflicts)
    guard conflicts.isEmpty else { throw .conflict(path: folder, names: conflicts) }
    for name in names {
      if format.folders.contains(name), let kind = FileSystem.kind("\(folder)/\(name)") {
        throw .wrongKind(path: "\(folder)/\(name)", found: kind, wanted: .folder)
      }
      if format.owns(name), let kind = FileSystem.kind("\(folder)/\(name)"), kind != .file {
        throw .wrongKind(path: "\(folder)/\(name)", found: kind, wanted: .file)
      }
    }
  }
}
