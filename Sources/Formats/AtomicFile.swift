import Glibc

/// Questions about paths.
package enum FileSystem {
  static func mode(_ path: String) -> mode_t? {
    var info = stat()
    return stat(path, &info) == 0 ? info.st_mode & S_IFMT : nil
  }
  package static func exists(_ path: String) -> Bool { mode(path) != nil }
  package static func isDirectory(_ path: String) -> Bool { mode(path) == S_IFDIR }

  /// The names in a folder, sorted, without `.` and `..`.
  package static func list(_ path: String) throws(FormatError) -> [String] {
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

  /// Creates a folder and its parents; an existing folder is no error.
  package static func makeDirectory(_ path: String) throws(FormatError) {
    if path.isEmpty || isDirectory(path) { return }
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
    return Int(info.f_bavail) * Int(info.f_frsize)
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

  static func directoryName(_ path: String) -> String {
    var trimmed = path[...]
    while trimmed.count > 1, trimmed.hasSuffix("/") { trimmed = trimmed.dropLast() }
    guard let slash = trimmed.lastIndex(of: "/") else { return "." }
    return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
  }

  static func synchronize(_ path: String) throws(FormatError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .system(path: path, operation: "open", code: errno) }
    defer { close(descriptor) }
    // Some file systems cannot sync a folder; the rename itself is still atomic there.
    guard fsync(descriptor) == 0 || errno == EINVAL else {
      throw .system(path: path, operation: "sync", code: errno)
    }
  }
}

/// A file that appears whole or not at all: written under a temporary name beside it, synced, renamed.
/// Dropping the object without `commit()` removes the temporary file.
package final class AtomicFile {
  package let path: String
  private let temporary: String
  private var descriptor: Int32
  package private(set) var byteCount = 0

  package init(path: String) throws(FormatError) {
    self.path = path
    temporary = path + ".tmp-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw .system(path: path, operation: "create", code: errno) }
  }

  deinit {
    if descriptor >= 0 {
      close(descriptor)
      unlink(temporary)
    }
  }

  package func append(_ bytes: UnsafeRawBufferPointer) throws(FormatError) { try write(bytes, at: byteCount) }

  /// Writes at a place in the file, which grows as needed.
  package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(FormatError) {
    var done = 0
    while done < bytes.count {
      let count = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
      if count < 0 {
        if errno == EINTR { continue }
        throw .system(path: path, operation: "write", code: errno)
      }
      done += count
    }
    byteCount = max(byteCount, offset + bytes.count)
  }

  package func append(_ bytes: [UInt8]) throws(FormatError) {
    let result: Result<Void, FormatError> = bytes.withUnsafeBytes { buffer in
      do throws(FormatError) { return .success(try append(buffer)) } catch { return .failure(error) }
    }
    try result.get()
  }

  package func commit() throws(FormatError) {
    guard fsync(descriptor) == 0 else { throw .system(path: path, operation: "sync", code: errno) }
    guard rename(temporary, path) == 0 else { throw .system(path: path, operation: "rename", code: errno) }
    close(descriptor)
    descriptor = -1
    try FileSystem.synchronize(FileSystem.directoryName(path))
  }

  package static func write(_ path: String, _ bytes: [UInt8]) throws(FormatError) {
    let file = try AtomicFile(path: path)
    try file.append(bytes)
    try file.commit()
  }

  package static func write(_ path: String, _ text: String) throws(FormatError) { try write(path, Array(text.utf8)) }
}

/// A folder that appears complete or not at all. Files are written into `stage`; `commit()` renames it to `path`.
package final class AtomicDirectory {
  package let path: String
  /// The temporary folder to write into.
  package let stage: String
  private var open = true

  package init(path: String) throws(FormatError) {
    // The stage lies beside the folder, also when its name ends in a slash.
    var path = path
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    self.path = path
    stage = path + ".tmp-\(getpid())"
    try FileSystem.makeDirectory(FileSystem.directoryName(path))
    try FileSystem.remove(stage)
    try FileSystem.makeDirectory(stage)
  }

  deinit {
    if open { try? FileSystem.remove(stage) }
  }

  /// Makes the folder visible. An existing folder of that name is replaced only if `replacing`.
  package func commit(replacing: Bool = false) throws(FormatError) {
    try synchronizeTree(stage)
    let old = path + ".old-\(getpid())"
    let exists = FileSystem.exists(path)
    if exists {
      guard replacing else { throw .system(path: path, operation: "create folder", code: EEXIST) }
      guard rename(path, old) == 0 else { throw .system(path: path, operation: "rename", code: errno) }
    }
    guard rename(stage, path) == 0 else {
      let code = errno
      if exists { _ = rename(old, path) }
      throw .system(path: path, operation: "rename", code: code)
    }
    open = false
    try FileSystem.synchronize(FileSystem.directoryName(path))
    if exists { try FileSystem.remove(old) }
  }

  private func synchronizeTree(_ folder: String) throws(FormatError) {
    for name in try FileSystem.list(folder) {
      let item = folder + "/" + name
      if FileSystem.isDirectory(item) { try synchronizeTree(item) } else { try FileSystem.synchronize(item) }
    }
    try FileSystem.synchronize(folder)
  }
}
