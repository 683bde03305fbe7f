import Glibc

/// The temporary name of a file or a folder until it is whole, `NAME.qlora-tmp-MARK-PROCESS-NUMBER`, and that of an old
/// folder whose new one is about to take its place, `NAME.qlora-old-MARK-PROCESS-NUMBER`.
///
/// The mark tells apart who shares a disk and not the numbers of processes: other machines and other containers. Nobody
/// types such names, since what dead processes left under them is removed.
package struct StageName {
  /// The name that is meant.
  package let base: String
  package let isOld: Bool
  /// Nil in names of version 0.1, `NAME.qlora-tmp-PROCESS`, `…-PROCESS-NUMBER` and `NAME.qlora-old-PROCESS`.
  private let mark: Substring?
  private let process: pid_t

  private static let (stageSign, oldSign) = (".qlora-tmp-", ".qlora-old-")

  /// A temporary name for a path, which nobody else has.
  package static func stage(of path: String) -> String { path + stageSign + maker }

  /// A name, which nobody else has, for the old folder of a path.
  package static func old(of path: String) -> String { path + oldSign + maker }

  private static var maker: String { "\(ownMark)-\(getpid())-\(UInt32.random(in: 0 ... .max))" }

  /// The parts of a name in its folder; nil for one that is not temporary.
  package init?(_ name: String) {
    for (sign, isOld) in [(Self.stageSign, false), (Self.oldSign, true)] {
      guard let at = name.ranges(of: sign).last, at.lowerBound > name.startIndex else { continue }
      let parts = name[at.upperBound...].split(separator: "-", omittingEmptySubsequences: false)
      let mark = parts.count == 3 ? parts[0] : nil
      let numbers = mark == nil ? parts[...] : parts[1...]
      guard mark.map(Self.isMark) ?? (parts.count == 1 || parts.count == 2 && !isOld),
        numbers.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { (48...57).contains($0) } }),
        let process = pid_t(numbers.first!), process > 0
      else { continue }
      (base, self.isOld, self.mark, self.process) = (String(name[..<at.lowerBound]), isOld, mark, process)
      return
    }
    return nil
  }

  /// Whether this process made it.
  package var isOwn: Bool { mark == Self.ownMark[...] && process == getpid() }

  /// Whether the process that made it is gone, as far as this one can know: others number their processes themselves.
  package var isDead: Bool {
    (mark == nil || mark == Self.ownMark[...]) && process != getpid() && kill(process, 0) != 0 && errno == ESRCH
  }

  // MARK: The mark

  private static let markCount = 8

  private static func isMark(_ text: Substring) -> Bool {
    text.utf8.count == markCount && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
  }

  /// A hash (FNV-1a) of the machine's name, of its start and of the space of process numbers, as far as it tells them.
  private static let ownMark: String = {
    var host = [CChar](repeating: 0, count: 256)
    gethostname(&host, host.count - 1)
    var space = stat()
    stat("/proc/self/ns/pid", &space)
    var hash: UInt32 = 0x811C_9DC5
    for byte in host.map(UInt8.init(bitPattern:)) + startOfMachine + Array("\(space.st_ino)".utf8) {
      hash = (hash ^ UInt32(byte)) &* 0x0100_0193
    }
    let digits = String(hash, radix: 16)
    return String(repeating: "0", count: markCount - digits.count) + digits
  }()

  /// What the machine drew when it started.
  private static var startOfMachine: [UInt8] {
    guard let file = fopen("/proc/sys/kernel/random/boot_id", "r") else { return [] }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 64)
    let count = fread(&bytes, 1, bytes.count, file)
    return Array(bytes[..<count])
  }
}
