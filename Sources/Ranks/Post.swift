/// A message that is on its way, with its bytes.
struct PostedMessage {
  let bytes: UnsafeMutableRawBufferPointer
  var requests: [MPILibrary.Handle]
}

/// Messages from one rank to another, which need not wait for each other.
extension Ranks {
  /// Starts to send bytes and goes on. They are copied, and go whenever this process waits, `progress`es or `settle`s.
  /// - Parameters:
  ///   - pieces: one after another they are the message.
  ///   - rank: who `receive`s it, after all that this one sent before.
  ///   - place: where this process is, which must be where the other one is.
  /// - Throws: `RankError.failed`, `.unconnected`.
  public func post(_ pieces: [UnsafeRawBufferPointer], to rank: Int, at place: String) throws(RankError) {
    let mpi = try connected()
    try progress()
    let count = pieces.reduce(0) { $0 + $1.count }
    // As in `gather`, place and length go first.
    let header = Self.header(place, count)
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: header.count + count, alignment: 64)
    bytes.copyBytes(from: header)
    var end = header.count
    for piece in pieces {
      UnsafeMutableRawBufferPointer(rebasing: bytes[end..<end + piece.count]).copyMemory(from: piece)
      end += piece.count
    }
    var message = PostedMessage(bytes: bytes, requests: [])
    // What has started needs its bytes, even where the next call fails.
    defer { posted.append(message) }
    var start = 0
    for end in [header.count] + stride(from: header.count, to: bytes.count, by: Self.piece).map({ $0 + Self.piece }) {
      let piece = UnsafeRawBufferPointer(rebasing: bytes[start..<min(end, bytes.count)])
      message.requests.append(try mpi.start(sending: piece, to: rank))
      start = min(end, bytes.count)
    }
  }

  /// Waits for the next message that a rank has posted to this one.
  /// - Returns: its bytes.
  /// - Throws: `RankError.apart` where the other one is at another place; `.failed`, `.interrupted`, `.unconnected`.
  public func receive(from rank: Int, at place: String) throws(RankError) -> [UInt8] {
    let header = try received(Self.header(place, 0).count, from: rank)
    guard header.dropFirst(8) == Self.header(place, 0).dropFirst(8) else {
      throw .apart(rank: self.rank, place: place, other: rank, otherPlace: Self.place(header))
    }
    return try received(Self.count(header), from: rank)
  }

  private func received(_ count: Int, from rank: Int) throws(RankError) -> [UInt8] {
    // Freed when all has come: after an error MPI may still write to it.
    let room = UnsafeMutableRawBufferPointer.allocate(byteCount: max(count, 1), alignment: 64)
    let bytes = UnsafeMutableRawBufferPointer(rebasing: room[..<count])
    try exchange(sending: [], receiving: [Message(rank, bytes)])
    defer { room.deallocate() }
    return Array(bytes)
  }

  /// Lets posted messages go on, without waiting.
  /// - Throws: `RankError.failed`.
  public func progress() throws(RankError) {
    guard !posted.isEmpty else { return }
    let mpi = try connected()
    for index in posted.indices {
      while let last = posted[index].requests.indices.last, try mpi.isDone(&posted[index].requests[last]) {
        posted[index].requests.removeLast()
      }
    }
    while let first = posted.first, first.requests.isEmpty {
      first.bytes.deallocate()
      posted.removeFirst()
    }
  }

  /// Waits until all posted messages have gone.
  /// - Throws: `RankError.failed`, `.interrupted`.
  public func settle() throws(RankError) {
    let mpi = try connected()
    for index in posted.indices { try wait(&posted[index].requests, mpi) }
    for message in posted { message.bytes.deallocate() }
    posted = []
  }
}
