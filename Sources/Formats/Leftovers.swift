import Glibc
import Tensors

/// The temporary names under which files and folders are written, `NAME.qlora-tmp-PID` and `…-PID-NUMBER`, and what
/// becomes of them when their process dies. `NAME.qlora-old-PID` is a folder whose new one is about to take its place.
package enum Leftovers {
  /// The temporary name of `path` in this process.
  package static func name(_ path: String, number: UInt32? = nil) -> String {
    path + FileGate.stageSign + "\(getpid())" + (number.map { "-\($0)" } ?? "")
  }

  /// The name of an old folder for the moment in which the new one takes its place.
  static func oldName(_ path: String) -> String { path + FileGate.oldSign + "\(getpid())" }

  /// Whether a name is a temporary one.
  static func isOne(_ name: String) -> Bool { parts(name) != nil }

  /// Removes what dead processes left of a file or folder, and puts an old folder back that has no new one. A failure
  /// does not matter: the next writer tries again.
  static func remove(of path: String) {
    let base = FileSystem.baseName(path)
    remove(in: FileSystem.directoryName(path)) { $0 == base }
  }

  /// The same for all files and folders whose names begin with `prefix`.
  package static func remove(in folder: String, prefix: String) { remove(in: folder) { $0.hasPrefix(prefix) } }

  private static func remove(in folder: String, where isMeant: (String) -> Bool) {
    for (name, found) in dead(in: folder) where isMeant(found.base) {
      // An old folder whose new one is there was replaced; one without is all there is.
      if found.isOld, !FileSystem.exists("\(folder)/\(found.base)") {
        let (old, place) = ("\(folder)/\(name)", "\(folder)/\(found.base)")
        if FileGate.allows(old, .entry), FileGate.allows(place, .entry) { _ = rename(old, place) }
      } else {
        try? FileSystem.remove("\(folder)/\(name)")
      }
    }
  }

  private struct Parts {
    let base: String
    let process: pid_t
    let isOld: Bool
  }

  private static func dead(in folder: String) -> [(name: String, parts: Parts)] {
    let names = (try? FileSystem.list(folder)) ?? []
    return names.compactMap { name in parts(name).map { (name, $0) } }.filter { _, parts in
      parts.process != getpid() && kill(parts.process, 0) != 0 && errno == ESRCH
    }
  }

  private static func parts(_ name: String) -> Parts? {
    for (sign, isOld) in [(FileGate.stageSign, false), (FileGate.oldSign, true)] {
      guard let at = name.lastRange(of: sign), at.lowerBound > name.startIndex else { continue }
      let numbers = name[at.upperBound...].split(separator: "-", omittingEmptySubsequences: false)
      guard numbers.count == 1 || numbers.count == 2 && !isOld,
        numbers.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { (48...57).contains($0) } }),
        let process = pid_t(numbers[0]), process > 0
      else { continue }
      return Parts(base: String(name[..<at.lowerBound]), process: process, isOld: isOld)
    }
    return nil
  }
}

extension String {
  fileprivate func lastRange(of text: String) -> Range<String.Index>? {
    ranges(of: text).last
  }
}
