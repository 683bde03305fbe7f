import CMicroHTTPD

/// libmicrohttpd, opened at run time; see cmicrohttpd.h for why.
struct HTTPLibrary: @unchecked Sendable {
  /// Filled once, never changed, never freed.
  let calls: UnsafePointer<http_library>

  private static let opened = Result { try HTTPLibrary() }

  /// - Throws: `ServingError.noLibrary`.
  static func open() throws -> HTTPLibrary { try opened.get() }

  private init() throws {
    let calls = UnsafeMutablePointer<http_library>.allocate(capacity: 1)
    calls.initialize(to: http_library())
    if let reason = http_open(calls) { throw ServingError.noLibrary(reason: String(cString: reason)) }
    self.calls = UnsafePointer(calls)
  }

  func suspend(_ connection: OpaquePointer) { calls.pointee.suspend(connection) }
  func resume(_ connection: OpaquePointer) { calls.pointee.resume(connection) }
}
