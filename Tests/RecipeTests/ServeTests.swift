import Foundation
import Testing

/// `qlora-run serve` as a client sees it.
@Suite struct ServeTests {
  /// A server on a free port, ended with the test.
  private final class Server {
    let process: Process
    let port: Int

    init(_ arguments: [String] = []) throws {
      let directory = try Program.temporaryDirectory()
      process = Program.process(["serve", "tiny", "--port", "0", "--quiet"] + arguments, in: directory)
      let output = Pipe()
      process.standardOutput = output
      // The threads of the test library block signals, which a program inherits.
      var (none, before) = (sigset_t(), sigset_t())
      sigemptyset(&none)
      pthread_sigmask(SIG_SETMASK, &none, &before)
      defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
      try process.run()
      var text = ""
      while !text.contains("/v1\n") {
        let data = output.fileHandleForReading.availableData
        if data.isEmpty { break }
        text += String(decoding: data, as: UTF8.self)
      }
      port = Int(text.split(separator: ":").last?.prefix { $0.isNumber } ?? "") ?? 0
      try #require(port > 0, "\(text)")
    }

    deinit {
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }

    /// Sends bytes on a connection of its own; nil where the server takes none.
    func send(_ request: String) -> Int32? {
      let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = in_port_t(port).bigEndian
      address.sin_addr.s_addr = inet_addr("127.0.0.1")
      let status = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
      guard status == 0 else {
        close(descriptor)
        return nil
      }
      _ = request.withCString { write(descriptor, $0, strlen($0)) }
      return descriptor
    }

    /// Reads until the server closes, or only the first bytes.
    func receive(_ descriptor: Int32, leavesEarly: Bool = false) -> String {
      defer { close(descriptor) }
      var bytes: [UInt8] = []
      var chunk = [UInt8](repeating: 0, count: 4096)
      while true {
        let count = read(descriptor, &chunk, chunk.count)
        if count <= 0 { break }
        bytes += chunk[..<count]
        if leavesEarly { break }
      }
      return String(decoding: bytes, as: UTF8.self)
    }

    func request(_ method: String, _ path: String, _ body: String, headers: String = "") -> String {
      "\(method) \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(headers)"
        + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    func ask(
      _ method: String, _ path: String, _ body: String = "", headers: String = "", leavesEarly: Bool = false
    ) -> (status: String, text: String) {
      let descriptor = send(request(method, path, body, headers: headers))
      let answer = descriptor.map { receive($0, leavesEarly: leavesEarly) } ?? "no connection"
      return (String(answer.dropFirst(9).prefix(3)), answer)
    }
  }

  @Test func modelsAndTextAreAnswered() throws {
    let server = try Server()
    let models = server.ask("GET", "/v1/models")
    #expect(models.status == "200" && models.text.contains("\"id\":\"tiny\""), "\(models)")
    let body = #"{"model":"tiny","prompt":"Mia the baker walked to","max_tokens":6,"temperature":0}"#
    let (first, second) = (server.ask("POST", "/v1/completions", body), server.ask("POST", "/v1/completions", body))
    #expect(first.status == "200" && first.text.contains("\"finish_reason\":\"length\""), "\(first)")
    #expect(first.text.contains("\"completion_tokens\":6") && second.status == "200")
    let chat = #"{"messages":[{"role":"user","content":"Mia"}],"max_tokens":4,"stream":true}"#
    let stream = server.ask("POST", "/v1/chat/completions", chat)
    #expect(stream.status == "200" && stream.text.contains("text/event-stream"), "\(stream)")
    #expect(stream.text.contains("data: [DONE]") && stream.text.contains("chat.completion.chunk"), "\(stream)")
  }

  /// Who serves an adapter that cannot be loaded is told so, with the error of loading, before anyone asks; so is who
  /// chats or measures, of a second one too.
  @Test func anAdapterThatCannotLoadIsRefusedAtTheStart() throws {
    let directory = try Program.temporaryDirectory()
    let make = """
      local m = qlora.load(qlora.resource "models/tiny", { quiet = true }); \
      m:add_lora { select = { "q_proj" }, rank = 2, quiet = true }; m:save_adapter "good"; m:save_adapter "inside/one"
      """
    #expect(try Program.run(["--quiet", "-e", make], in: directory).code == 0)
    let files = FileManager.default
    let (good, bad) = (directory.appendingPathComponent("good"), directory.appendingPathComponent("bad"))
    try files.copyItem(at: good, to: bad)
    let weights = bad.appendingPathComponent("adapter_model.safetensors")
    try Data(contentsOf: weights).prefix(1000).write(to: weights)
    try "{}".write(to: directory.appendingPathComponent("data.jsonl"), atomically: true, encoding: .utf8)
    for command in [["serve", "--port", "0"], ["chat"], ["eval", "--data", "data.jsonl"]] {
      for (adapter, words) in [
        ("bad", "bad/adapter_model.safetensors"), ("inside", "there is one in inside/one, which can be named"),
        ("none", "none: not an adapter"),
      ] {
        let outcome = try Program.run(
          command.prefix(1) + ["tiny", "good", "x=\(adapter)"] + command.dropFirst(), in: directory, seconds: 20)
        #expect(outcome.code == 1 && outcome.errors.contains(words), "\(command) \(adapter): \(outcome)")
        #expect(!outcome.output.contains("/v1"), "\(outcome)")
      }
    }
  }

  @Test func wrongRequestsGetErrorsOfTheAPI() throws {
    let server = try Server(["--api-key=secret"])
    let key = "Authorization: Bearer secret\r\n"
    for (method, path, body, status, word) in [
      ("GET", "/v1/nothing", "", "404", "nothing at"), ("POST", "/v1/models", "{}", "405", "takes GET"),
      ("POST", "/v1/completions", "{", "400", "not a JSON object"),
      ("POST", "/v1/completions", #"{"prompt":"a","max_tokns":1}"#, "400", "unknown field 'max_tokns'"),
      ("POST", "/v1/completions", #"{"prompt":"a","n":2}"#, "400", "'n' must be"),
      ("POST", "/v1/completions", #"{"prompt":[99999999]}"#, "400", "there is no token"),
      ("POST", "/v1/completions", #"{"prompt":["1","2"]}"#, "400", "a list of token ids"),
      ("POST", "/v1/completions", #"{"prompt":"a","model":"gpt"}"#, "404", "does not exist"),
      ("POST", "/v1/completions", "{}", "400", "'prompt' is missing"),
      ("POST", "/v1/chat/completions", #"{"messages":[{"role":"user"}]}"#, "400", "content"),
      (
        "POST", "/v1/chat/completions",
        #"{"messages":[{"role":"system","content":"In French."},{"role":"user","content":"Hi"}]}"#, "400",
        "no chat template"
      ),
    ] {
      let answer = server.ask(method, path, body, headers: key)
      #expect(answer.status == status && answer.text.contains(word), "\(path) \(body): \(answer)")
      #expect(answer.text.contains(#""type":"invalid_request_error""#), "\(answer)")
    }
    #expect(server.ask("GET", "/v1/models").status == "401")
    #expect(server.ask("GET", "/v1/models", headers: key).status == "200")
  }

  /// A template by name lets a model without one answer conversations, in parts too; ids of answers are never the same.
  @Test func aTemplateIsNamed() throws {
    let body =
      #"{"messages":[{"role":"system","content":"Hi."},{"role":"user","content":[{"type":"text","text":"Mia"}]}],"#
      + #""max_tokens":100000,"temperature":0}"#
    var ids: Set<Substring> = []
    for _ in 0..<2 {
      let server = try Server(["--template", "chatml"])
      let answer = server.ask("POST", "/v1/chat/completions", body)
      #expect(answer.status == "200", "\(answer)")
      if let id = answer.text.firstMatch(of: /"id":"(chatcmpl-[0-9a-f]{32})"/) { ids.insert(id.1) }
    }
    #expect(ids.count == 2, "\(ids)")
  }

  private func post(_ server: Server, _ body: String) -> (status: String, text: String) {
    server.ask("POST", "/v1/completions", body)
  }

  /// The text of an answer.
  private func text(_ answer: String) -> String? {
    answer.firstMatch(of: #/"text":"([^"]*)"/#).map { String($0.1) }
  }

  /// Many at once are all answered, with the texts that they get alone, though there are fewer places.
  @Test func manyClientsAreAnswered() async throws {
    let server = try Server(["--parallel", "7"])
    let bodies = (0..<64).map { i in
      #"{"prompt":"Mia the baker number \#(i)","max_tokens":\#(2 + i % 5),"temperature":0}"#
    }
    nonisolated(unsafe) let shared = server
    let answers = await withTaskGroup(of: (Int, String).self) { group in
      for (i, body) in bodies.enumerated() { group.addTask { (i, shared.ask("POST", "/v1/completions", body).text) } }
      return await group.reduce(into: [Int: String]()) { $0[$1.0] = $1.1 }
    }
    #expect(answers.count == 64)
    for i in [0, 17, 63] {
      #expect(text(answers[i] ?? "") != nil && text(answers[i] ?? "") == text(post(server, bodies[i]).text))
    }
  }

  /// A client that reads nothing more has its place given to the next, in the middle of its text.
  @Test func aClientThatGoesAwayMakesWay() throws {
    let server = try Server(["--parallel", "1"])
    let long = #"{"prompt":"Mia","max_tokens":250,"stream":true,"temperature":1,"seed":3}"#
    for _ in 0..<3 { _ = server.ask("POST", "/v1/completions", long, leavesEarly: true) }
    #expect(post(server, #"{"prompt":"Tom","max_tokens":2}"#).status == "200")
    #expect(server.ask("GET", "/health").text.contains(#""answering":0"#))
  }

  /// An answer that the end of the server cuts off, or that still waits then, says so, as a whole and as a stream.
  @Test func theEndOfTheServerIsToldToAll() throws {
    let server = try Server(["--parallel", "2"])
    let connections = try (0..<24).map { i in
      let body = #"{"prompt":"Mia","max_tokens":250,"stream":\#(i % 2 == 0),"temperature":0}"#
      return try #require(server.send(server.request("POST", "/v1/completions", body)))
    }
    // Until two of them grow, a stream and a whole one, while the others wait.
    var health = ""
    for _ in 0..<1000 where !health.contains(#""answering":2"#) { health = server.ask("GET", "/health").text }
    kill(server.process.processIdentifier, SIGTERM)
    let answers = connections.map { server.receive($0) }
    var (cut, streams) = (0, 0)
    for answer in answers {
      let isCut = answer.contains("the server is ending") && answer.contains(#""type":"server_error""#)
      let isWhole = answer.contains(#""finish_reason":"length""#) || answer.contains(#""finish_reason":"stop""#)
      #expect(isCut != isWhole && !(isCut && answer.contains("[DONE]")), "\(answer)")
      let isStream = answer.contains("text/event-stream")
      #expect(isWhole || isStream || answer.contains("HTTP/1.1 503"), "\(answer)")
      cut += isCut ? 1 : 0
      streams += isCut && isStream ? 1 : 0
    }
    #expect(cut >= 12 && streams >= 1, "\(answers)")
  }

  /// What needs no place is answered while all are taken, and answers of several adapters do not mix.
  @Test func adaptersShareTheServer() async throws {
    let directory = try Program.temporaryDirectory()
    let made = try Program.run(
      [
        "-e",
        """
        local qlora = require "qlora"
        for i, name in ipairs { "one", "two" } do
          qlora.seed(i)
          local model = qlora.load(qlora.resource "models/tiny", { quiet = true })
          model:add_lora { select = "all-linear", rank = 4, alpha = 400, quiet = true, init = "gaussian" }
          for _, p in ipairs(model:trainable()) do p:copy_(qlora.randn(table.unpack(p:shape())) * 0.1) end
          model:save_adapter(name)
        end
        """,
      ], in: directory)
    #expect(made.code == 0, "\(made.errors)")
    let server = try Server(
      ["--parallel", "6"] + ["one", "two"].flatMap { ["--adapter", "\($0)=\(directory.path)/\($0)"] })
    let bodies = ["tiny", "one", "two"].map {
      #"{"model":"\#($0)","prompt":"Mia the baker walked","max_tokens":20,"temperature":0}"#
    }
    let alone = bodies.map { text(post(server, $0).text) }
    #expect(Set(alone.compactMap { $0 }).count == 3, "\(alone)")
    nonisolated(unsafe) let shared = server
    let together = await withTaskGroup(of: (Int, String).self) { group in
      for i in 0..<24 { group.addTask { (i, shared.ask("POST", "/v1/completions", bodies[i % 3]).text) } }
      return await group.reduce(into: [Int: String]()) { $0[$1.0] = $1.1 }
    }
    #expect(together.count == 24)
    for (i, answer) in together { #expect(text(answer) == alone[i % 3], "\(i)") }
  }
}
