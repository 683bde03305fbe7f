import CMicroHTTPD
import Glibc
import Synchronization

/// A request and its answer: whole, or piece by piece. The program and the server's thread share it under a lock.
package final class HTTPRequest: Sendable {
  package let method: String
  package let path: String

  private enum Answer {
    case none
    case whole(status: Int, headers: [(String, String)], body: [UInt8])
    case pieces(status: Int, headers: [(String, String)])
  }

  private struct State: @unchecked Sendable {
    /// Nil once the connection is done with this request.
    var connection: OpaquePointer?
    var body: [UInt8] = []
    var isTooLong = false
    var isHandedOut = false
    /// Whether the server's thread leaves the connection alone until it is resumed.
    var isSuspended = false
    var answer = Answer.none
    var isQueued = false
    /// What of an answer in pieces was not yet sent, and whether it is all.
    var pending: [UInt8] = []
    var isFinished = false
  }

  private let library: HTTPLibrary
  private let state: Mutex<State>

  init(_ library: HTTPLibrary, _ connection: OpaquePointer, method: String, path: String) {
    (self.library, self.method, self.path) = (library, method, path)
    nonisolated(unsafe) let connection = connection
    state = Mutex(State(connection: connection))
  }

  /// The bytes of the body, which are not kept: a request may wait for long.
  package func takeBody() -> [UInt8] {
    state.withLock { state in
      defer { state.body = [] }
      return state.body
    }
  }

  /// Whether the body is longer than `HTTPServer.bodyLimit`, and so not kept whole.
  package var isTooLong: Bool { state.withLock { $0.isTooLong } }

  /// A header of the request; nil where it has none.
  package func header(_ name: String) -> String? {
    state.withLock { state in
      guard let connection = state.connection, state.isSuspended else { return nil }
      return http_header(library.calls, connection, name).map { String(cString: $0) }
    }
  }

  /// Whether the client went away. A suspended connection is not watched by the server's thread, so this asks the
  /// socket.
  package var isGone: Bool {
    state.withLock { state in
      guard let connection = state.connection else { return true }
      guard !state.isFinished else { return false }
      return http_is_gone(library.calls, connection) != 0
    }
  }

  /// Whether the connection is done with it.
  var isComplete: Bool { state.withLock { $0.connection == nil } }

  /// Answers as a whole; a second answer is ignored.
  package func respond(status: Int, headers: [(String, String)], body: [UInt8]) {
    answer(.whole(status: status, headers: headers, body: body))
  }

  /// Begins an answer in pieces.
  package func begin(status: Int, headers: [(String, String)]) { answer(.pieces(status: status, headers: headers)) }

  private func answer(_ answer: sending Answer) {
    state.withLock { state in
      guard case .none = state.answer else { return }
      state.answer = answer
      resume(&state)
    }
  }

  /// Adds to an answer in pieces.
  package func write(_ bytes: [UInt8]) {
    state.withLock { state in
      state.pending += bytes
      resume(&state)
    }
  }

  /// Ends an answer in pieces.
  package func finish() {
    state.withLock { state in
      state.isFinished = true
      resume(&state)
    }
  }

  /// Gives it up: 503 where nothing was answered, else the end.
  package func abandon() {
    respond(status: 503, headers: [], body: [])
    finish()
  }

  private func resume(_ state: inout State) {
    guard state.isSuspended, let connection = state.connection else { return }
    state.isSuspended = false
    library.resume(connection)
  }

  // MARK: The server's thread

  func receive(_ bytes: UnsafeRawBufferPointer) {
    state.withLock { state in
      if state.body.count + bytes.count > HTTPServer.bodyLimit { state.isTooLong = true }
      if !state.isTooLong { state.body += bytes }
    }
  }

  /// The body is whole, or an answer is there: waits for the program, or begins to send. `accept` says whether the
  /// program takes it.
  /// - Returns: whether the connection goes on.
  func proceed(_ accept: (HTTPRequest) -> Bool) -> Bool {
    let isNew = state.withLock { state in
      guard case .none = state.answer, !state.isHandedOut else { return false }
      state.isHandedOut = true
      if let connection = state.connection {
        // Before it is handed out: the program may answer at once.
        state.isSuspended = true
        library.suspend(connection)
        return true
      }
      return false
    }
    if isNew {
      if !accept(self) { respond(status: 503, headers: [("Retry-After", "1")], body: []) }
      return true
    }
    return state.withLock { queue(&$0) }
  }

  private func queue(_ state: inout State) -> Bool {
    guard let connection = state.connection, !state.isQueued else { return true }
    let response: OpaquePointer?
    let status: Int
    let headers: [(String, String)]
    switch state.answer {
    case .none: return true
    case .whole(let code, let fields, let body):
      (status, headers) = (code, fields)
      response = body.withUnsafeBytes { http_response(library.calls, $0.baseAddress, $0.count) }
    case .pieces(let code, let fields):
      (status, headers) = (code, fields)
      let context = Unmanaged.passRetained(self).toOpaque()
      response = library.calls.pointee.read_response(
        http_unknown_size(), 1 << 14,
        { context, _, buffer, capacity in
          guard let context, let buffer else { return http_end() }
          return Unmanaged<HTTPRequest>.fromOpaque(context).takeUnretainedValue().read(into: buffer, capacity)
        }, context, { context in if let context { Unmanaged<HTTPRequest>.fromOpaque(context).release() } })
    }
    guard let response else { return false }
    defer { library.calls.pointee.destroy_response(response) }
    for (name, value) in headers { _ = library.calls.pointee.add_header(response, name, value) }
    state.isQueued = true
    return http_queue(library.calls, connection, UInt32(status), response) != 0
  }

  /// What is to be sent; suspends the connection while there is nothing.
  private func read(into buffer: UnsafeMutablePointer<CChar>, _ capacity: Int) -> Int {
    state.withLock { state in
      let count = min(capacity, state.pending.count)
      if count > 0 {
        state.pending.withUnsafeBytes { bytes in
          UnsafeMutableRawBufferPointer(start: buffer, count: count).copyMemory(from: .init(rebasing: bytes[..<count]))
        }
        state.pending.removeFirst(count)
        return count
      }
      if state.isFinished { return http_end() }
      if let connection = state.connection {
        state.isSuspended = true
        library.suspend(connection)
      }
      return 0
    }
  }

  /// The connection is done with it.
  func complete() {
    state.withLock { state in
      state.connection = nil
      state.isSuspended = false
    }
  }
}
