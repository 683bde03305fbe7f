import Formats
import Glibc
import Tensors

/// The requests that are under way, in one thread.
final class Connections {
  let settings: HubSettings
  private let curl: CurlLibrary
  private let multi: CurlLibrary.Handle
  private var running: [UnsafeMutableRawPointer: Transfer] = [:]
  /// Attempts that bring nothing before an error is given up on.
  static let patience = 6
  /// The longest that a server may ask to wait.
  static let longestWait = 120

  /// - Throws: `HubError.noLibrary`.
  init(_ settings: HubSettings) throws(HubError) {
    self.settings = settings
    curl = try CurlLibrary.open()
    guard let multi = curl.makeMulti() else { throw .noLibrary(reason: "out of memory") }
    self.multi = multi
  }

  deinit {
    for transfer in running.values { _ = curl.remove(multi, transfer.handle) }
    running = [:]
    _ = curl.freeMulti(multi)
  }

  var count: Int { running.count }

  /// Begins a request. The token goes to the hub itself and to nobody a redirect leads to.
  func start(
    _ request: Transfer.Request, take: @escaping (Transfer, UnsafeRawBufferPointer) -> Bool
  ) throws(HubError) -> Transfer {
    var request = request
    if let token = settings.token, isHub(request.url) { request.headers.append("Authorization: Bearer \(token)") }
    let transfer = try Transfer(request, settings, curl, take: take)
    running[transfer.handle] = transfer
    guard curl.add(multi, transfer.handle) == 0 else { throw .noLibrary(reason: "it takes no request") }
    return transfer
  }

  /// Whether an address is one of the hub.
  func isHub(_ url: String) -> Bool { Address(url).map { $0.origin == Address(settings.endpoint)?.origin } ?? false }

  /// Where a redirect may lead: to any host, but not from an encrypted connection to a plain one.
  func target(of transfer: Transfer) throws(HubError) -> String {
    let url = transfer.request.url
    guard let target = transfer.redirect, let to = Address(target) else {
      throw .badAnswer(url: url.withoutQuery, problem: "a redirect that leads nowhere")
    }
    if Address(url)?.isEncrypted == true, !to.isEncrypted {
      throw .badAnswer(
        url: url.withoutQuery, problem: "a redirect from https to \(target.withoutQuery) is not followed")
    }
    return target
  }

  func stop(_ transfer: Transfer) {
    guard running.removeValue(forKey: transfer.handle) != nil else { return }
    _ = curl.remove(multi, transfer.handle)
  }

  /// Waits until something moves, at most `milliseconds`.
  /// - Returns: the transfers that ended.
  /// - Throws: `HubError.interrupted` where a stop is requested.
  func turn(_ milliseconds: Int = 100) throws(HubError) -> [Transfer] {
    if Interruption.isRequested() { throw .interrupted }
    var (active, left): (Int32, Int32) = (0, 0)
    _ = curl.perform(multi, &active)
    var ended: [Transfer] = []
    while let message = curl.read(multi, &left) {
      guard message.pointee.kind == 1, let handle = message.pointee.easy, let transfer = running[handle] else {
        continue
      }
      let result = message.pointee.data.result
      transfer.end(result)
      stop(transfer)
      ended.append(transfer)
    }
    if ended.isEmpty { _ = curl.poll(multi, nil, 0, Int32(milliseconds), nil) }
    return ended
  }

  /// Waits some seconds.
  func wait(_ seconds: Double) throws(HubError) {
    let end = Clock.now + seconds
    while Clock.now < end { _ = try turn(50) }
  }

  /// The whole answer to a small request, over redirects; a connection that fails is tried again.
  /// - Throws: `HubError.connection`, `.tooManyRequests`, `.badAnswer`. Other errors of the server are answers.
  func answer(_ request: Transfer.Request) throws(HubError) -> (transfer: Transfer, body: [UInt8]) {
    var (request, redirects, attempt) = (request, 0, 0)
    while true {
      let body = Buffer()
      let transfer = try start(request) { _, bytes in body.append(bytes, limit: 64 << 20) }
      while count > 0 { _ = try turn() }
      let url = request.url.withoutQuery
      if transfer.failure == nil, (300..<400).contains(transfer.status) {
        redirects += 1
        guard redirects <= 5 else { throw .badAnswer(url: url, problem: "it redirects in a circle") }
        let target = try target(of: transfer)
        // What another host has to say of a file, the hub said in the headers of the redirect.
        if request.isHead, !isHub(target) { return (transfer, []) }
        request.url = target
        continue
      }
      guard transfer.failure != nil || transfer.isBusy else { return (transfer, body.bytes) }
      attempt += 1
      try wait(try pause(transfer, attempt: attempt))
    }
  }

  /// How long to wait before an attempt is repeated.
  /// - Throws: `HubError.connection`, `.tooManyRequests`, `.status` when that has happened too often.
  func pause(_ transfer: Transfer, attempt: Int) throws(HubError) -> Double {
    let url = transfer.request.url.withoutQuery
    if let asked = transfer.retryAfter, transfer.failure == nil {
      guard asked <= Connections.longestWait, attempt < Connections.patience else {
        throw .tooManyRequests(url: url, seconds: asked)
      }
      return Double(asked)
    }
    guard attempt < (transfer.isUnreachable ? 2 : Connections.patience) else {
      if let failure = transfer.failure { throw .connection(url: url, reason: failure) }
      guard transfer.isBusy else { throw .connection(url: url, reason: "the answer ended early") }
      if transfer.status == 429 { throw .tooManyRequests(url: url, seconds: Connections.longestWait) }
      throw .status(url: url, code: transfer.status, message: "")
    }
    return min(8, 0.25 * Double(1 << attempt))
  }
}

extension Transfer {
  /// The server cannot answer now.
  var isBusy: Bool { [408, 429, 500, 502, 503, 504].contains(status) }
}

/// Bytes that a closure gathers.
final class Buffer {
  private(set) var bytes: [UInt8] = []

  func append(_ piece: UnsafeRawBufferPointer, limit: Int) -> Bool {
    guard bytes.count + piece.count <= limit else { return false }
    bytes += piece
    return true
  }
}

enum Clock {
  /// Seconds of a clock that nobody sets.
  static var now: Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}
