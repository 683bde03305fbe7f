import Glibc

/// The processes that work on one thing together, or this one alone. What they exchange goes through the MPI library of
/// the launcher that started them; the thread that opened it makes all calls.
public final class Ranks {
  /// A process that nobody started with others.
  nonisolated(unsafe) public static let alone = Ranks()

  /// This process among the others, from 0.
  public let rank: Int
  /// How many there are, 1 when alone.
  public let size: Int
  /// The name of this machine.
  public let host: String
  /// The library in words; nil when alone or unconnected.
  public let library: String?
  /// Asked while waiting for others; true ends the wait.
  public var isInterrupted: () -> Bool = { false }

  private let mpi: MPILibrary?
  /// Messages that are on their way, in the order in which they were posted.
  var posted: [PostedMessage] = []
  private let launcher: String

  private init() { (rank, size, host, library, mpi, launcher) = (0, 1, "", nil, nil, "") }

  /// Connects to the processes that the launcher started; those that srun left unconnected know their numbers only.
  /// - Throws: `RankError` where launcher and library do not fit.
  public init(_ launcher: Launcher) throws(RankError) {
    var name = [CChar](repeating: 0, count: 256)
    gethostname(&name, name.count - 1)
    host = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    self.launcher = launcher.name
    guard launcher.connects else {
      (rank, size, library, mpi) = (launcher.rank, launcher.size, nil, nil)
      return
    }
    let mpi = try MPILibrary(launcher)
    let seen = try mpi.connect()
    let version = mpi.version
    // The mistake users make most: every process would be rank 0 of 1.
    guard seen.size == launcher.size else {
      throw .foreign(
        launcher: launcher.name, size: launcher.size, library: version, path: mpi.path, seen: seen.size)
    }
    (rank, size, library, self.mpi) = (seen.rank, seen.size, version, mpi)
  }

  /// Whether this is the one that prints and writes results.
  public var isFirst: Bool { rank == 0 }

  /// Whether the processes can send each other anything; one alone can.
  public var isConnected: Bool { size == 1 || mpi != nil }

  /// Where a rank is whose program has ended.
  static let end = "end"

  /// Ends the use of the library, after all have come here.
  /// - Throws: `RankError.apart` where another rank still works.
  public func finish() throws(RankError) {
    guard let mpi else { return }
    _ = try gather([], at: Self.end)
    mpi.finish()
  }

  /// Ends all processes at once.
  public func abort(_ code: Int32) { mpi?.abort(code) }

  func connected() throws(RankError) -> MPILibrary {
    guard let mpi else { throw .unconnected(launcher: launcher, size: size) }
    return mpi
  }
}

// MARK: Messages

extension Ranks {
  /// Bytes that go to a rank, or room for those that come from it.
  public struct Message<Bytes> {
    /// Where they go to or come from.
    public let rank: Int
    /// The bytes themselves, which stay where they are until the exchange is over.
    public let bytes: Bytes

    /// A message.
    public init(_ rank: Int, _ bytes: Bytes) { (self.rank, self.bytes) = (rank, bytes) }
  }

  /// Counts are 32-bit numbers, and what has come of a long message can be waited for piece by piece.
  static let piece = 1 << 24

  /// Sends and receives all messages at once. Those between two ranks come in the order in which they are given.
  /// - Throws: `RankError.failed`, `.unconnected`, `.interrupted`.
  public func exchange(
    sending: [Message<UnsafeRawBufferPointer>], receiving: [Message<UnsafeMutableRawBufferPointer>]
  ) throws(RankError) {
    if sending.isEmpty, receiving.isEmpty { return }
    let mpi = try connected()
    var requests: [MPILibrary.Handle] = []
    for message in receiving {
      for start in stride(from: 0, to: message.bytes.count, by: Self.piece) {
        let end = min(start + Self.piece, message.bytes.count)
        let bytes = UnsafeMutableRawBufferPointer(rebasing: message.bytes[start..<end])
        requests.append(try mpi.start(receiving: bytes, from: message.rank))
      }
    }
    for message in sending {
      for start in stride(from: 0, to: message.bytes.count, by: Self.piece) {
        let end = min(start + Self.piece, message.bytes.count)
        let bytes = UnsafeRawBufferPointer(rebasing: message.bytes[start..<end])
        requests.append(try mpi.start(sending: bytes, to: message.rank))
      }
    }
    try wait(&requests, mpi)
  }

  /// Waits by asking, so that a stop is seen, and what computes beside gets the processor.
  func wait(_ requests: inout [MPILibrary.Handle], _ mpi: MPILibrary) throws(RankError) {
    var rounds = 0
    for index in requests.indices {
      while try !mpi.isDone(&requests[index]) {
        rounds += 1
        guard rounds > 200 else { continue }
        if isInterrupted() { throw .interrupted }
        if rounds > 2000 { usleep(50) } else { sched_yield() }
      }
    }
  }

  /// What every rank gives, in the order of the ranks. All must come to the same `place`.
  /// - Throws: `RankError.apart` where another rank is somewhere else; as `exchange`.
  public func gather(_ bytes: [UInt8], at place: String) throws(RankError) -> [[UInt8]] {
    if size == 1 { return [bytes] }
    // Place and length go first, 64 bytes, so that ranks that went different ways do not wait for each other.
    let header = Self.header(place, bytes.count)
    let headers = try exchanged(header, counts: [Int](repeating: header.count, count: size))
    for (other, theirs) in headers.enumerated() where theirs.dropFirst(8) != header.dropFirst(8) {
      throw .apart(rank: rank, place: place, other: other, otherPlace: Self.place(theirs))
    }
    return try exchanged(bytes, counts: headers.map(Self.count))
  }

  private func exchanged(_ bytes: [UInt8], counts: [Int]) throws(RankError) -> [[UInt8]] {
    let (total, own) = (counts.reduce(0, +), bytes.count)
    // Freed when all has come: after an error MPI may still write to it.
    let room = UnsafeMutableRawBufferPointer.allocate(byteCount: max(total + own, 1), alignment: 64)
    let mine = UnsafeMutableRawBufferPointer(rebasing: room[total..<total + own])
    mine.copyBytes(from: bytes)
    var (start, parts): (Int, [UnsafeMutableRawBufferPointer]) = (0, [])
    for count in counts {
      parts.append(UnsafeMutableRawBufferPointer(rebasing: room[start..<start + count]))
      start += count
    }
    let others = parts.indices.filter { $0 != rank }
    try exchange(
      sending: others.map { Message($0, UnsafeRawBufferPointer(mine)) },
      receiving: others.map { Message($0, parts[$0]) })
    defer { room.deallocate() }
    return parts.indices.map { $0 == rank ? bytes : Array(parts[$0]) }
  }

  static func header(_ place: String, _ count: Int) -> [UInt8] {
    let text = Array(place.utf8.prefix(56))
    return withUnsafeBytes(of: UInt64(count).littleEndian) { Array($0) } + text
      + [UInt8](repeating: 0, count: 56 - text.count)
  }

  static func count(_ header: [UInt8]) -> Int {
    header.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
  }

  static func place(_ header: [UInt8]) -> String {
    String(decoding: header.dropFirst(8).prefix { $0 != 0 }, as: UTF8.self)
  }
}
