import Formats

/// A blob on its way: parts of it arrive over several connections and are written in order.
final class Blob {
  /// A range of the file that one connection brings.
  final class Part {
    /// Where the next byte belongs, and where the part ends.
    var next: Int
    var end: Int
    /// Bytes that wait for those before them.
    var waiting: [UInt8] = []
    var transfer: Transfer?
    /// Attempts in a row that brought nothing, and when the next may begin.
    var attempts = 0
    var redirects = 0
    var earliest = 0.0
    /// Whether the transfer has brought something.
    var moved = false

    init(_ range: Range<Int>) { (next, end) = (range.lowerBound, range.upperBound) }
    var isWhole: Bool { next == end }
  }

  let file: RemoteFile
  let url: String
  let target: String
  private let partial: PartialFile
  private let lock: FileLock
  private(set) var parts: [Part] = []
  /// Where the last part begins that nobody has asked for yet.
  private var rest: Int
  /// Where the hub's redirect leads, for the parts after the first.
  var location: String?
  /// The ETag of the host that sends the bytes: parts of another file are not mixed in.
  var hostTag: String?
  /// Whether one connection brings everything, because the server knows no ranges.
  private(set) var isSequential = false
  /// Whether that was found out too late for what has arrived.
  private(set) var wantsSequence = false
  /// How often everything began anew.
  private var restarts = 0
  /// Whether a checksum was wrong already.
  private var hasFailed = false
  /// What went wrong in writing.
  var failure: (any Error)?

  static let partSize = 16 << 20

  init(_ file: RemoteFile, url: String, target: String, lock: FileLock) throws(FormatError) {
    (self.file, self.url, self.target, self.lock) = (file, url, target, lock)
    partial = try PartialFile(path: target + ".incomplete", limit: file.size)
    rest = partial.count
  }

  /// Bytes that are on the disk, and those that wait in memory.
  var count: Int { partial.count + parts.reduce(0) { $0 + $1.waiting.count } }

  /// Whether all bytes are written.
  var isWhole: Bool { partial.count == file.size }

  /// A part to ask for at `now`, nil where all are under way or have to wait. The first answer says where the others
  /// are to be had, and of which file, so that it comes alone.
  func nextPart(_ now: Double, limit: Int) -> Part? {
    if let part = parts.first(where: { $0.transfer == nil && !$0.isWhole }) {
      return part.earliest <= now ? part : nil
    }
    guard rest < file.size, parts.isEmpty || hostTag != nil || parts.contains(where: \.moved), parts.count < limit
    else { return nil }
    let part = Part(rest..<(isSequential ? file.size : min(file.size, rest + Blob.partSize)))
    rest = part.end
    parts.append(part)
    return part
  }

  /// A server that knows no ranges, or has another file now, sends the whole file. Where nothing was there yet, it is
  /// taken as it comes; else everything begins anew, once the transfers can be stopped.
  func takesWhole(_ part: Part) -> Bool {
    guard parts.count == 1, parts.first === part, part.next == 0 else {
      wantsSequence = true
      return false
    }
    (part.end, rest, isSequential) = (file.size, file.size, true)
    return true
  }

  /// Begins anew, over one connection.
  /// - Throws: `HubError.badAnswer` where that was done often: the connection always breaks before the end.
  func beginSequentially(stop: (Transfer) -> Void) throws {
    for part in parts { part.transfer.map(stop) }
    restarts += 1
    guard restarts <= Connections.patience else {
      throw HubError.badAnswer(url: url, problem: "it knows no ranges, and each time sends a part of the file")
    }
    try partial.restart()
    (parts, rest, isSequential, wantsSequence, hostTag) = ([], 0, true, false, nil)
  }

  /// Takes bytes of a part.
  /// - Returns: false where they are more than were asked for.
  func take(_ bytes: UnsafeRawBufferPointer, of part: Part) throws(FormatError) -> Bool {
    guard bytes.count <= part.end - part.next else { return false }
    part.moved = true
    part.next += bytes.count
    if parts.first === part, part.waiting.isEmpty {
      try partial.append(bytes)
    } else {
      part.waiting += bytes
    }
    try drain()
    return true
  }

  /// Writes what is next in order.
  private func drain() throws(FormatError) {
    while let first = parts.first {
      if !first.waiting.isEmpty {
        let bytes = first.waiting
        first.waiting = []
        let written: Result<Void, FormatError> = bytes.withUnsafeBytes { buffer in
          do throws(FormatError) { return .success(try partial.append(buffer)) } catch { return .failure(error) }
        }
        try written.get()
      }
      guard first.isWhole else { return }
      parts.removeFirst()
    }
  }

  /// Checks the bytes and gives the blob its name.
  /// - Returns: false where they are wrong for the first time; then they are fetched anew.
  func finish() throws -> Bool {
    if let expected = file.sha256 {
      let found = partial.sha256
      if found != expected {
        try partial.restart()
        (rest, location, hostTag, parts) = (0, nil, nil, [])
        guard !hasFailed else {
          try FileSystem.remove(partial.path)
          throw HubError.checksum(file: file.name, expected: expected, found: found)
        }
        hasFailed = true
        return false
      }
    }
    try partial.commit(to: target)
    return true
  }
}
