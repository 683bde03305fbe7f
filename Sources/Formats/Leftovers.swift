import Glibc
import Tensors

/// What becomes of temporary files and folders (`StageName`) when their process dies.
package enum Leftovers {
  /// Makes a temporary folder for `path`.
  static func makeFolder(for path: String) throws(FormatError) -> String {
    let stage = StageName.stage(of: path)
    try FileGate.check(stage, .write)
    guard mkdir(stage, 0o777) == 0 else { throw .system(path: path, operation: "create folder", code: errno) }
    return stage
  }

  /// Removes what dead processes left of a file or folder, and puts an old folder back that has no new one. A failure
  /// does not matter: the next writer tries again.
  package static func remove(of path: String) {
    let base = FileSystem.baseName(path)
    remove(in: FileSystem.directoryName(path)) { $0 == base }
  }

  /// The same for all files and folders whose names begin with `prefix`.
  package static func remove(in folder: String, prefix: String) { remove(in: folder) { $0.hasPrefix(prefix) } }

  private static func remove(in folder: String, where isMeant: (String) -> Bool) {
    for name in (try? FileSystem.list(folder)) ?? [] {
      guard let stage = StageName(name), isMeant(stage.base), stage.isDead else { continue }
      // An old folder whose new one is there was replaced; one without is all there is.
      if stage.isOld, !FileSystem.exists("\(folder)/\(stage.base)") {
        let (old, place) = ("\(folder)/\(name)", "\(folder)/\(stage.base)")
        if FileGate.allows(old, .entry), FileGate.allows(place, .entry) { _ = rename(old, place) }
      } else {
        try? FileSystem.remove("\(folder)/\(name)")
      }
    }
  }
}
