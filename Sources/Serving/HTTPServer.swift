import CMicroHTTPD
import Glibc
import Synchronization

/// Why a server cannot serve.
package enum ServingError: Error, Equatable, CustomStringConvertible {
  /// The address is no numeric IPv4 address, or the port is taken or not allowed.
  case cannotListen(host: String, port: Int, reason: String)
  /// libmicrohttpd cannot be opened; `reason` is the system's.
  case noLibrary(reason: String)

  package var description: String {
    switch self {
    case .cannotListen(let host, let port, let reason): "cannot listen at \(host):\(port): \(reason)"
    case .noLibrary(let reason):
      "serving needs libmicrohttpd, which cannot be opened (\(reason)); install libmicrohttpd12 "
        + "(Debian 12, Ubuntu 22.04) or libmicrohttpd12t64 (newer ones)"
    }
  }
}

/// Takes HTTP requests on a thread of its own and hands them out one by one. Nothing is computed on that thread: it
/// reads requests, and sends what the program answers.
package final class HTTPServer: Sendable {
  /// Most bytes of a request's body; of a longer one the rest is dropped.
  package static let bodyLimit = 8 << 20
  /// Most requests that wait; one more is answered with 503.
  package static let waitingLimit = 512
  private static let connectionLimit: UInt32 = 1000
  /// A connection that sends nothing for so long is closed, in seconds.
  private static let patience: UInt32 = 60

  private struct State: @unchecked Sendable {
    var daemon: OpaquePointer?
    var waiting: [HTTPRequest] = []
    /// Requests that were handed out or wait, until their connection is done with them.
    var open: [ObjectIdentifier: HTTPRequest] = [:]
    var isStopping = false
  }

  private let library: HTTPLibrary
  private let state = Mutex(State())
  /// The port it listens at.
  package let port: Int

  /// Listens at once.
  /// - Parameters:
  ///   - host: a numeric IPv4 address.
  ///   - port: 0 for any that is free.
  /// - Throws: `ServingError.cannotListen`, `.noLibrary`.
  package init(host: String, port: Int) throws {
    library = try HTTPLibrary.open()
    let bridge = Bridge(library)
    errno = 0
    let context = Unmanaged.passRetained(bridge)
    guard
      let daemon = http_start(
        library.calls, host, UInt16(clamping: port), Self.connectionLimit, Self.patience, handleHTTP, completeHTTP,
        context.toOpaque())
    else {
      let reason = errno == 0 ? "not a numeric IPv4 address" : String(cString: strerror(errno))
      context.release()
      throw ServingError.cannotListen(host: host, port: port, reason: reason)
    }
    self.port = Int(http_port(library.calls, daemon))
    state.withLock { $0.daemon = daemon }
    bridge.server.withLock { $0 = WeakServer(server: self) }
  }

  deinit { stop() }

  /// The next request, in the order in which they came; nil after `seconds` without one.
  package func next(seconds: Double) -> HTTPRequest? {
    var remaining = Int(seconds * 1000)
    while true {
      if let request = state.withLock({ $0.waiting.isEmpty ? nil : $0.waiting.removeFirst() }) {
        if !request.isGone { return request }
        request.abandon()
        continue
      }
      if remaining <= 0 { return nil }
      usleep(2000)
      remaining -= 2
    }
  }

  /// How many requests wait.
  package var waitingCount: Int { state.withLock { $0.waiting.count } }

  /// Stops listening; what was not answered is answered with 503. Answers are sent first: only a client that takes
  /// longer than two seconds is cut off.
  package func stop() {
    let (daemon, open) = state.withLock { state in
      defer { (state.daemon, state.waiting, state.open, state.isStopping) = (nil, [], [:], true) }
      return (state.daemon, Array(state.open.values))
    }
    guard let daemon else { return }
    for request in open { request.abandon() }
    var remaining = 2000
    while remaining > 0, !open.allSatisfy(\.isComplete) {
      usleep(2000)
      remaining -= 2
    }
    library.calls.pointee.stop_daemon(daemon)
  }

  // MARK: The server's thread

  /// Whether a whole request may wait.
  fileprivate func accept(_ request: HTTPRequest) -> Bool {
    state.withLock { state in
      guard !state.isStopping, state.waiting.count < Self.waitingLimit else { return false }
      state.waiting.append(request)
      state.open[ObjectIdentifier(request)] = request
      return true
    }
  }

  fileprivate func forget(_ request: HTTPRequest) {
    state.withLock { _ = $0.open.removeValue(forKey: ObjectIdentifier(request)) }
  }
}

/// What the library hands to its callbacks; it outlives the server, whose thread may still run.
private final class Bridge: Sendable {
  let library: HTTPLibrary
  let server = Mutex(WeakServer(server: nil))

  init(_ library: HTTPLibrary) { self.library = library }
}

private struct WeakServer: Sendable {
  weak var server: HTTPServer?
}

private func handleHTTP(
  _ context: UnsafeMutableRawPointer?, _ connection: OpaquePointer?, _ url: UnsafePointer<CChar>?,
  _ method: UnsafePointer<CChar>?, _ version: UnsafePointer<CChar>?, _ data: UnsafePointer<CChar>?,
  _ count: UnsafeMutablePointer<Int>?, _ slot: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> MHD_Result {
  guard let context, let connection, let url, let method, let count, let slot else { return http_result(0) }
  let bridge = Unmanaged<Bridge>.fromOpaque(context).takeUnretainedValue()
  guard let raw = slot.pointee else {
    let request = HTTPRequest(
      bridge.library, connection, method: String(cString: method), path: String(cString: url))
    slot.pointee = Unmanaged.passRetained(request).toOpaque()
    return http_result(1)
  }
  let request = Unmanaged<HTTPRequest>.fromOpaque(raw).takeUnretainedValue()
  if count.pointee > 0 {
    request.receive(UnsafeRawBufferPointer(start: data, count: count.pointee))
    count.pointee = 0
    return http_result(1)
  }
  guard let server = bridge.server.withLock({ $0.server }) else { return http_result(0) }
  return http_result(request.proceed { server.accept($0) } ? 1 : 0)
}

private func completeHTTP(
  _ context: UnsafeMutableRawPointer?, _ connection: OpaquePointer?,
  _ slot: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _ reason: MHD_RequestTerminationCode
) {
  guard let context, let raw = slot?.pointee else { return }
  slot?.pointee = nil
  let request = Unmanaged<HTTPRequest>.fromOpaque(raw).takeRetainedValue()
  request.complete()
  Unmanaged<Bridge>.fromOpaque(context).takeUnretainedValue().server.withLock { $0.server }?.forget(request)
}
