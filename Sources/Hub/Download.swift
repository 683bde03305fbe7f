import Formats

/// Brings blobs over a few connections at a time.
struct Download {
  let connections: Connections
  let name: HubName
  /// Connections at a time.
  static let width = 4

  /// `onProgress` is called with the bytes that are there of all blobs, several times a second; `onWhole` for each blob
  /// once it has its name.
  /// - Throws: `HubError`, `FormatError.system`.
  func run(_ blobs: [Blob], onProgress: (Int) -> Void, onWhole: (Blob) throws -> Void) throws {
    var pending = blobs
    var finished = 0
    while !pending.isEmpty {
      for blob in pending where blob.isWhole {
        guard try blob.finish() else { continue }
        finished += blob.file.size
        pending.removeAll { $0 === blob }
        try onWhole(blob)
      }
      while connections.count < Download.width, let (blob, part) = next(pending) { try start(part, of: blob) }
      for transfer in try connections.turn() {
        for blob in pending {
          // A part that is written has left the list before its transfer ended.
          guard let part = blob.parts.first(where: { $0.transfer === transfer }) else { continue }
          part.transfer = nil
          try end(transfer, part, of: blob)
        }
      }
      for blob in pending {
        if let failure = blob.failure { throw failure }
        if blob.wantsSequence { try blob.beginSequentially { connections.stop($0) } }
      }
      onProgress(finished + pending.reduce(0) { $0 + $1.count })
    }
  }

  private func next(_ pending: [Blob]) -> (Blob, Blob.Part)? {
    let now = Clock.now
    for blob in pending {
      if let part = blob.nextPart(now, limit: Download.width) { return (blob, part) }
    }
    return nil
  }

  private func start(_ part: Blob.Part, of blob: Blob) throws(HubError) {
    var request = Transfer.Request(url: blob.location ?? blob.url)
    let begin = part.next
    if !blob.isSequential {
      request.headers.append("Range: bytes=\(begin)-\(part.end - 1)")
      if let tag = blob.hostTag { request.headers.append("If-Range: \(tag)") }
    }
    part.moved = false
    var checked = false
    part.transfer = try connections.start(request) { transfer, bytes in
      // The text of an error is not kept.
      guard transfer.status == 200 || transfer.status == 206 else { return true }
      do {
        if !checked {
          checked = true
          if transfer.status == 200 {
            guard blob.takesWhole(part) else { return false }
          } else if !Download.isRange(transfer.headers["content-range"], from: begin, of: blob.file.size) {
            throw HubError.badAnswer(url: blob.url, problem: "it sent another range than was asked for")
          }
          Download.remember(transfer, blob)
        }
        guard try blob.take(bytes, of: part) else {
          throw HubError.badAnswer(url: blob.url, problem: "it sent more bytes than were asked for")
        }
        return true
      } catch {
        blob.failure = error
        return false
      }
    }
  }

  /// Whether a Content-Range is the one that was asked for.
  static func isRange(_ text: String?, from begin: Int, of size: Int) -> Bool {
    guard let text, text.hasPrefix("bytes \(begin)-") else { return false }
    let total = text.split(separator: "/").last ?? ""
    return total == "*" || Int(total) == size
  }

  private static func remember(_ transfer: Transfer, _ blob: Blob) {
    if blob.url != transfer.request.url { blob.location = transfer.request.url }
    // A weak one says nothing about bytes.
    if let tag = transfer.headers["etag"], !tag.hasPrefix("W/") { blob.hostTag = tag }
  }

  /// What becomes of a part whose transfer ended.
  private func end(_ transfer: Transfer, _ part: Blob.Part, of blob: Blob) throws {
    if blob.failure != nil || blob.wantsSequence { return }
    let status = transfer.status
    if transfer.failure == nil, (300..<400).contains(status) {
      part.redirects += 1
      guard part.redirects <= 5 else {
        throw HubError.badAnswer(url: blob.url, problem: "it redirects in a circle")
      }
      blob.location = try connections.target(of: transfer)
      return
    }
    part.redirects = 0
    if part.isWhole { return }
    // Who brought something is asked again at once; an answer of the whole file that was shorter would be so again.
    if part.moved {
      guard transfer.failure != nil || status != 200 else {
        throw HubError.badAnswer(
          url: blob.url, problem: "it sent \(blob.count) bytes of a file that it lists with \(blob.file.size)")
      }
      return part.attempts = 0
    }
    part.attempts += 1
    if transfer.failure == nil, !transfer.isBusy, status != 200, status != 206 {
      // The address of a redirect is good for a while only.
      guard !connections.isHub(transfer.request.url), blob.location != nil, part.attempts < Connections.patience else {
        throw Listing.error(transfer, [], name, connections, blob.file.name)
      }
      (blob.location, blob.hostTag) = (nil, nil)
    }
    part.earliest = Clock.now + (try connections.pause(transfer, attempt: part.attempts))
  }
}
