import LuaRuntime
import Serving
import Tensors

/// A server in Lua's hands. It stops when Lua drops it: the server itself may be released last on its own thread, which
/// cannot wait for its own end.
final class ServerObject: LuaObject {
  static var luaClassName: String { "HTTPServer" }
  let server: HTTPServer

  init(_ server: HTTPServer) { self.server = server }
  deinit { server.stop() }
}

/// A request in Lua's hands. One that Lua drops without an answer gets 503, so that its client and its connection go.
final class RequestObject: LuaObject {
  static var luaClassName: String { "HTTPRequest" }
  let request: HTTPRequest

  init(_ request: HTTPRequest) { self.request = request }
  deinit { request.abandon() }
}

/// HTTP for `qlora-run serve`: requests come in, answers go out; what they mean is decided in Lua.
extension Engine {
  var servingModule: NativeModule {
    NativeModule(
      "HTTP.",
      [
        NativeFunction(
          "http_server", "Listens for HTTP requests. Nothing is computed on its thread: it hands requests to `next`.",
          [
            Parameter(
              "options",
              .options([
                Parameter("host", .string, default: "127.0.0.1", "numeric IPv4 address; 0.0.0.0 is every one"),
                Parameter("port", .whole(0...65535), default: "0", "port number; 0 takes one that is free"),
              ]), optional: true, "the options below")
          ], returns: "HTTPServer", errors: "when the port is taken, or in a sandbox"
        ) { call in
          if self.isConfined { throw call.invalid("this sandbox does not allow it") }
          let options = call.options("options")
          return [
            .object(
              ServerObject(
                try HTTPServer(host: options.string("host") ?? "127.0.0.1", port: options.int("port") ?? 0)))
          ]
        }
      ])
  }

  var serverClass: NativeClass {
    NativeClass(
      "HTTPServer", "A port that is listened at, as native.http_server returns it.",
      properties: [
        NativeProperty("port", "integer", "the port number") { _, object in
          .integer((object as? ServerObject)?.server.port ?? 0)
        },
        NativeProperty("waiting", "integer", "requests that wait") { _, object in
          .integer((object as? ServerObject)?.server.waitingCount ?? 0)
        },
        NativeProperty("waiting_limit", "integer", "most requests that wait; one more gets 503") { _, _ in
          .integer(HTTPServer.waitingLimit)
        },
        NativeProperty("body_limit", "integer", "most bytes of a request's body") { _, _ in
          .integer(HTTPServer.bodyLimit)
        },
      ],
      methods: [
        NativeFunction(
          "next", "The next request, in the order of their coming; nil when none came in time.",
          [Parameter("seconds", .real(NumberRange(0...5)), "how long to wait")], returns: "HTTPRequest|nil"
        ) { call in
          let server = try call.receiver(as: ServerObject.self).server
          var left = try call.double("seconds")
          repeat {
            if let request = server.next(seconds: min(left, 0.05)) { return [.object(RequestObject(request))] }
            left -= 0.05
          } while left > 0 && !LuaState.isStopping
          return [.nil]
        },
        NativeFunction("stop", "Stops listening; requests without an answer get 503.") { call in
          try call.receiver(as: ServerObject.self).server.stop()
          return []
        },
      ])
  }

  var requestClass: NativeClass {
    let status = Parameter("status", .whole(200...599), "an HTTP status such as 200")
    let type = Parameter("type", .string, "the type of the body, such as application/json")
    func headers(_ call: Call) throws -> [(String, String)] { [("Content-Type", try call.string("type"))] }
    return NativeClass(
      "HTTPRequest", "A request that waits for its answer, as server:next returns it.",
      properties: [
        NativeProperty("method", "string", "GET, POST, …") { _, object in
          .string((object as? RequestObject)?.request.method ?? "")
        },
        NativeProperty("path", "string", "what follows the host, without a query") { _, object in
          .string((object as? RequestObject)?.request.path ?? "")
        },
        NativeProperty("body", "string", "the bytes that were sent; they are given once and not kept") { _, object in
          .bytes((object as? RequestObject)?.request.takeBody() ?? [])
        },
        NativeProperty("too_long", "boolean", "whether the body was longer than the server's body_limit") { _, object in
          .bool((object as? RequestObject)?.request.isTooLong ?? false)
        },
        NativeProperty("gone", "boolean", "whether the client went away") { _, object in
          .bool((object as? RequestObject)?.request.isGone ?? true)
        },
      ],
      methods: [
        NativeFunction(
          "header", "A header of the request; nil where it has none.",
          [Parameter("name", .string, "such as Authorization")], returns: "string|nil"
        ) { call in
          let header = try call.receiver(as: RequestObject.self).request.header(try call.string("name"))
          return [header.map { .string($0) } ?? .nil]
        },
        NativeFunction(
          "respond", "Answers as a whole; a second answer is ignored.",
          [status, type, Parameter("body", .bytes, "bytes to send")]
        ) { call in
          try call.receiver(as: RequestObject.self).request.respond(
            status: try call.int("status"), headers: try headers(call), body: try call.bytes("body"))
          return []
        },
        NativeFunction("begin", "Begins an answer in pieces.", [status, type]) { call in
          let fields = try headers(call) + [("Cache-Control", "no-cache")]
          try call.receiver(as: RequestObject.self).request.begin(status: try call.int("status"), headers: fields)
          return []
        },
        NativeFunction(
          "write", "Adds a piece to an answer that was begun.", [Parameter("text", .bytes, "bytes to send")]
        ) { call in
          try call.receiver(as: RequestObject.self).request.write(try call.bytes("text"))
          return []
        },
        NativeFunction("finish", "Ends an answer in pieces.") { call in
          try call.receiver(as: RequestObject.self).request.finish()
          return []
        },
      ])
  }
}
