import Formats
import Glibc
import Tensors

/// The place of one commit in the cache, laid out as huggingface_hub does.
struct CachePlace {
  let snapshot: String
  private let blobs: String
  private let references: String
  private let locks: String
  private let commit: String

  init(_ folder: String, _ listing: Listing) {
    let repository = "\(folder)/\(listing.name.folder)"
    commit = listing.commit
    snapshot = "\(repository)/snapshots/\(commit)"
    blobs = "\(repository)/blobs"
    references = "\(repository)/refs"
    locks = "\(folder)/.locks/\(listing.name.folder)"
  }

  func prepare() throws(FormatError) {
    for folder in [snapshot, blobs, references, locks] { try FileSystem.makeDirectory(folder) }
  }

  func blob(_ file: RemoteFile) -> String { "\(blobs)/\(file.etag)" }

  /// The path of a file, which is a link to its blob.
  func path(of file: RemoteFile) -> String { "\(snapshot)/\(file.name)" }

  /// Whether a file's blob is there.
  func has(_ file: RemoteFile) -> Bool {
    FileSystem.exists(blob(file)) && FileSystem.byteCount(blob(file)) == file.size
  }

  /// The lock that all programs of the hub take for a blob; nil where the file of it has just gone.
  /// - Throws: `FormatError.locked`.
  func lock(_ file: RemoteFile) throws(FormatError) -> FileLock? {
    let path = "\(locks)/\(file.etag).lock"
    let lock = try FileLock(path: path)
    return lock.place(path) == .here ? lock : nil
  }

  /// Gives a file its name in the snapshot: a link that holds wherever the cache is moved.
  func link(_ file: RemoteFile) throws(FormatError) {
    let path = path(of: file)
    let target = String(repeating: "../", count: 1 + file.name.split(separator: "/").count) + "blobs/\(file.etag)"
    try FileGate.check(path, .write)
    var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let count = buffer.withUnsafeMutableBytes { readlink(path, $0.baseAddress!, $0.count) }
    if count > 0, buffer[..<count].elementsEqual(target.utf8) { return }
    try FileSystem.makeDirectory(FileSystem.directoryName(path))
    Leftovers.remove(of: path)
    let temporary = StageName.stage(of: path)
    guard symlink(target, temporary) == 0, rename(temporary, path) == 0 else {
      let code = errno
      unlink(temporary)
      throw .system(path: path, operation: "link", code: code)
    }
    try FileSystem.synchronize(FileSystem.directoryName(path))
  }

  /// Lets a branch or a tag mean this commit.
  func point(_ revision: String) throws(FormatError) {
    guard revision != commit else { return }
    let path = "\(references)/\(revision)"
    try FileSystem.makeDirectory(FileSystem.directoryName(path))
    try AtomicFile.write(path, commit)
  }
}
