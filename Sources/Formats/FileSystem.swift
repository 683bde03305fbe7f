import Glibc
import Tensors

/// Questions about paths.
package enum FileSystem {
  /// What a path leads to; links are followed.
  static func kind(_ path: String) -> FileKind? {
    guard FileGate.allows(path, .read) else { return nil }
    var info = stat()
    return stat(path, &info) == 0 ? FileKind(info.st_mode) : nil
  }
  package static func exists(_ path: String) -> Bool { kind(path) != nil }
  package static func isDirectory(_ path: String) -> Bool { kind(path) == .folder }
  package static func isLink(_ path: String) -> Bool {
    var info = stat()
    return lstat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFLNK
  }

  /// Where a path leads, so that what is written there leaves links as they are: with the links of an existing path
  /// resolved, else through its last link, if it is one, to what is not there yet.
  /// - Throws: `system` for an empty path, one with a zero byte, and links that lead in a circle.
  static func resolve(_ path: String) throws(FormatError) -> String {
    guard !path.isEmpty else { throw .system(path: path, operation: "write", code: ENOENT) }
    guard !path.utf8.contains(0) else { throw .system(path: path, operation: "write", code: EINVAL) }
    var place = path
    for _ in 0..<40 {
      if let real = realpath(place, nil) {
        defer { free(real) }
        return String(cString: real)
      }
      while place.count > 1, place.hasSuffix("/") { place.removeLast() }
      guard isLink(place) else { return place }
      var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
      let count = readlink(place, &buffer, buffer.count)
      guard count > 0 else { throw .system(path: path, operation: "follow link", code: errno) }
      let target = String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
      place = target.hasPrefix("/") ? target : directoryName(place) + "/" + target
    }
    throw .system(path: path, operation: "follow link", code: ELOOP)
  }

  /// A path that leads to the same from any folder; nil where there is nothing.
  package static func absolute(_ path: String) -> String? {
    guard exists(path) else { return nil }
    if path.hasPrefix("/") { return path }
    let isPlain = path.split(separator: "/").allSatisfy { $0 != "." && $0 != ".." }
    guard let found = isPlain ? getcwd(nil, 0) : realpath(path, nil) else { return nil }
    defer { free(found) }
    return String(cString: found) + (isPlain ? "/" + path : "")
  }

  /// The bytes of the file that a path leads to; 0 where there is none.
  package static func byteCount(_ path: String) -> Int {
    guard FileGate.allows(path, .read) else { return 0 }
    var info = stat()
    return stat(path, &info) == 0 ? Int(info.st_size) : 0
  }

  /// The names in a folder, sorted, without `.` and `..`.
  package static func list(_ path: String) throws(FormatError) -> [String] {
    try FileGate.check(path, .read)
    guard let handle = opendir(path) else { throw .system(path: path, operation: "open folder", code: errno) }
    defer { closedir(handle) }
    var names: [String] = []
    while let entry = readdir(handle) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in
        String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// The names in a folder, where those in one of `folders` in it are FOLDER/NAME.
  package static func list(_ path: String, with folders: Set<String>) throws(FormatError) -> [String] {
    var names: [String] = []
    for name in try list(path) {
      guard folders.contains(name), isDirectory("\(path)/\(name)") else {
        names.append(name)
        continue
      }
      for inner in try list("\(path)/\(name)") { names.append("\(name)/\(inner)") }
    }
    return names
  }

  /// Creates a folder and its parents; an existing folder is no error.
  package static func makeDirectory(_ path: String) throws(FormatError) {
    var info = stat()
    // The folder may be one that a confined program does not see.
    if path.isEmpty || stat(path, &info) == 0 && FileKind(info.st_mode) == .folder { return }
    try FileGate.check(path, .write)
    let parent = directoryName(path)
    if parent != path { try makeDirectory(parent) }
    guard mkdir(path, 0o777) == 0 || (errno == EEXIST && isDirectory(path)) else {
      throw .system(path: path, operation: "create folder", code: errno)
    }
  }

  /// Bytes that an ordinary user may still write to the file system that holds `path`, or its nearest existing parent.
  package static func freeByteCount(_ path: String) throws(FormatError) -> Int {
    var place = path
    while !exists(place), place != directoryName(place) { place = directoryName(place) }
    var info = statvfs()
    guard statvfs(place.isEmpty ? "." : place, &info) == 0 else {
      throw .system(path: path, operation: "ask for free space", code: errno)
    }
    // Stores that are not disks report about 2^64 bytes.
    let (count, isTooLarge) = Int(clamping: info.f_bavail).multipliedReportingOverflow(by: Int(clamping: info.f_frsize))
    return isTooLarge ? Int.max : count
  }

  /// Copies a file whole.
  package static func copy(_ source: String, to target: String) throws(FormatError) {
    let file = try MappedFile(path: source)
    let copy = try AtomicFile(path: target)
    try file.withBytes { (bytes) throws(FormatError) in try copy.append(bytes) }
    try copy.commit()
  }

  /// Removes a file, or a folder with its content; links are removed, not followed. An absent path is no error.
  package static func remove(_ path: String) throws(FormatError) {
    try FileGate.check(path, .entry)
    var info = stat()
    guard lstat(path, &info) == 0 else {
      if errno == ENOENT { return }
      throw .system(path: path, operation: "remove", code: errno)
    }
    if info.st_mode & S_IFMT == S_IFDIR {
      for name in try list(path) { try remove(path + "/" + name) }
      guard rmdir(path) == 0 else { throw .system(path: path, operation: "remove folder", code: errno) }
    } else {
      guard unlink(path) == 0 else { throw .system(path: path, operation: "remove", code: errno) }
    }
  }

  /// The last part of a path.
  package static func baseName(_ path: String) -> String {
    String(path.split(separator: "/", omittingEmptySubsequences: true).last ?? "/")
  }

  /// A path without its last part: the folder that holds it.
  package static func directoryName(_ path: String) -> String {
    var trimmed = path[...]
    while trimmed.count > 1, trimmed.hasSuffix("/") { trimmed = trimmed.dropLast() }
    guard let slash = trimmed.lastIndex(of: "/") else { return "." }
    return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
  }

  /// Brings a file, or the names in a folder, to the disk.
  package static func synchronize(_ path: String) throws(FormatError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .system(path: path, operation: "open", code: errno) }
    defer { close(descriptor) }
    // Some file systems cannot sync a folder; the rename itself is still atomic there.
    guard fsync(descriptor) == 0 || errno == EINVAL else {
      throw .system(path: path, operation: "sync", code: errno)
    }
  }
}

extension FileGate {
  /// - Throws: `confined` where a path may not be used so.
  package static func check(_ path: String, _ use: FileUse) throws(FormatError) {
    if !allows(path, use) { throw .confined(path: path, use: use == .read ? "read" : "written") }
  }
}

/// What a name in a file system stands for.
public enum FileKind: String, Sendable {
  /// A file of bytes, and a folder of names.
  case file, folder
  /// What other programs read and write at the same time.
  case pipe, socket, device

  init(_ mode: mode_t) {
    self =
      switch mode & S_IFMT {
      case S_IFREG: .file
      case S_IFDIR: .folder
      case S_IFIFO: .pipe
      case S_IFSOCK: .socket
      default: .device
      }
  }
}
