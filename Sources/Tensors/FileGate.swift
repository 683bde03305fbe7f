import Glibc
import Synchronization

/// What is done with a path.
package enum FileUse: Sendable {
  case read, write
  /// A name in its folder is removed or renamed; a link is not followed.
  case entry
  /// A temporary file that loses its name at once.
  case spill
}

/// The files and folders that a confined program may use. What may be written may be read.
package struct FileRules: Sendable {
  private let readable: [[UInt8]]
  private let writable: [[UInt8]]
  private let spill: [[UInt8]]

  /// Paths that lead nowhere yet are taken as they will be; those that cannot be are left out.
  package init(reading: [String], writing: [String], spilling: String) {
    readable = reading.compactMap(Self.resolve)
    writable = writing.compactMap(Self.resolve)
    spill = [spilling].compactMap(Self.resolve)
  }

  /// Whether a path leads to what may be used so. Links and `..` are resolved first.
  package func allows(_ path: String, _ use: FileUse) -> Bool {
    guard let place = Self.resolve(path) else { return false }
    switch use {
    case .read: return readable.contains { Self.holds($0, place) } || isWritable(place)
    case .write: return isWritable(place)
    case .entry: return isWritable(place) && Self.entry(path).map(isWritable) == true
    case .spill: return isWritable(place) || spill.contains(place)
    }
  }

  /// A folder that is saved whole is written beside its place first, under a temporary name of this process.
  private func isWritable(_ place: [UInt8]) -> Bool {
    writable.contains { Self.holds($0, place) || Self.isStage(place, of: $0) }
  }

  /// Whether a place is a temporary name of this process for a root, or in a folder of that name.
  private static func isStage(_ place: [UInt8], of root: [UInt8]) -> Bool {
    guard place.starts(with: root), let base = split(root)?.name else { return false }
    let name = base + place[root.count...].prefix { $0 != slash }
    guard let stage = StageName(String(decoding: name, as: UTF8.self)) else { return false }
    return stage.isOwn && Array(stage.base.utf8) == base
  }

  /// Bytes are compared, since texts that Swift calls equal may be two names.
  private static func holds(_ root: [UInt8], _ place: [UInt8]) -> Bool {
    guard place.starts(with: root) else { return false }
    return place.count == root.count || root.last == slash || place[root.count] == slash
  }

  private static let slash = UInt8(ascii: "/")

  /// Where a path leads: the longest part that exists without links, then the names that do not exist yet. Nil where
  /// that cannot be said: links that lead nowhere, `..` behind what does not exist, folders that cannot be searched.
  private static func resolve(_ path: String) -> [UInt8]? {
    guard !path.isEmpty, !path.utf8.contains(0) else { return nil }
    var place = Array(path.utf8)
    var rest: [[UInt8]] = []
    while true {
      if var real = real(place) {
        for name in rest.reversed() { real += (real.last == slash ? [] : [slash]) + name }
        return real
      }
      guard errno == ENOENT else { return nil }
      var info = stat()
      if lstat(text(place), &info) == 0 { return nil }
      guard let (folder, name) = split(place) else { return nil }
      rest.append(name)
      place = folder
    }
  }

  /// Where the last name of a path stands.
  private static func entry(_ path: String) -> [UInt8]? {
    guard let (folder, name) = split(Array(path.utf8)), let real = real(folder) else { return nil }
    return real + (real.last == slash ? [] : [slash]) + name
  }

  /// A path without its last name, and that name; nil where it is `.` or `..`.
  private static func split(_ path: [UInt8]) -> (folder: [UInt8], name: [UInt8])? {
    var path = path[...]
    while path.count > 1, path.last == slash { path.removeLast() }
    let start = path.lastIndex(of: slash).map { $0 + 1 } ?? path.startIndex
    let name = Array(path[start...])
    guard !name.isEmpty, name != Array(".".utf8), name != Array("..".utf8) else { return nil }
    return (start == path.startIndex ? Array(".".utf8) : Array(path[..<start]), name)
  }

  private static func text(_ path: [UInt8]) -> [CChar] { path.map { CChar(bitPattern: $0) } + [0] }

  private static func real(_ path: [UInt8]) -> [UInt8]? {
    guard let found = realpath(text(path), nil) else { return nil }
    defer { free(found) }
    return Array(UnsafeRawBufferPointer(start: found, count: strlen(found)))
  }
}

/// Where paths of a program become files: everything that opens one asks here. Open until it is closed.
package enum FileGate {
  private static let rules = Mutex<FileRules?>(nil)

  /// From now on only what `rules` allow can be used, in the whole process.
  package static func close(_ rules: FileRules) { self.rules.withLock { $0 = rules } }

  /// Whether the program is confined.
  package static var isClosed: Bool { rules.withLock { $0 != nil } }

  package static func allows(_ path: String, _ use: FileUse) -> Bool {
    guard let rules = rules.withLock({ $0 }) else { return true }
    return rules.allows(path, use)
  }
}
