import Formats
import Foundation
import Testing

@testable import Hub

/// Downloads from a hub on the loopback.
@Suite(
  .serialized, .enabled(if: !HubServer.python.isEmpty, "python3 runs the server"),
  .enabled(if: (try? CurlLibrary.open()) != nil, "libcurl fetches: package libcurl4"))
struct FetchTests {
  private static let commit = "0123456789abcdef0123456789abcdef01234567"
  /// Three parts and a bit.
  private static let large = Data(
    (0..<(3 * Blob.partSize + 1000)).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 11) })
  private static let small = Data((0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 7 ^ $0 >> 9) })

  private func fetch(_ server: HubServer, _ name: String, token: String? = nil) throws -> String {
    try Hub(HubSettings(server.environment(token))).fetch(HubName(name))
  }

  private func content(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }

  @Test func theCacheIsThatOfAllProgramsOfTheHub() throws {
    let config = Data("{}".utf8)
    let server = try HubServer([
      "models/org/a/config.json": config, "models/org/a/model.safetensors": Self.small,
      "models/org/a/additional_chat_templates/tool.jinja": config, "models/org/a/pytorch_model.bin": Self.small,
    ])
    let hub = Hub(try HubSettings(server.environment("hf_right")))
    #expect(hub.cached(try HubName("org/a")) == nil)
    let path = try fetch(server, "org/a", token: "hf_right")
    let model = server.cache + "/models--org--a"
    #expect(path == model + "/snapshots/" + Self.commit)
    #expect(hub.cached(try HubName("org/a")) == path)
    #expect(try content(model + "/refs/main") == Data(Self.commit.utf8))
    let link = try FileManager.default.destinationOfSymbolicLink(atPath: path + "/model.safetensors")
    #expect(link == "../../blobs/" + Self.small.withUnsafeBytes { SHA256.hash($0) })
    #expect(try content(path + "/model.safetensors") == Self.small)
    #expect(try content(path + "/additional_chat_templates/tool.jinja") == config)
    #expect(!FileManager.default.fileExists(atPath: path + "/pytorch_model.bin"))
    // The token is the hub's, and no other host's.
    let requests = server.log.map { $0.split(separator: " ").map(String.init) }
    #expect(requests.contains { $0[1].hasPrefix("localhost") } && requests.contains { $0[1].hasPrefix("127.") })
    for request in requests { #expect((request[4] == "token") == request[1].hasPrefix("127."), "\(request)") }
    // What is there is not fetched again.
    _ = try fetch(server, "org/a@v1")
    #expect(server.log.count == requests.count + 1)
    #expect(try content(model + "/refs/v1") == Data(Self.commit.utf8))
  }

  @Test(arguments: ["broken", "unstable", "expiring", "no-ranges", "busy", "corrupt-once", "bare"])
  func aBadServerIsBorneWith(kind: String) throws {
    let server = try HubServer(["models/org/\(kind)/x.gguf": kind == "broken" ? Self.small : Self.large])
    let path = try fetch(server, "org/\(kind)")
    #expect(path.hasSuffix("/x.gguf"))
    #expect(try content(path) == (kind == "broken" ? Self.small : Self.large))
    let ranges = server.log.filter { $0.contains(" /cdn/") && !$0.hasPrefix("HEAD") }
    #expect(kind == "no-ranges" || ranges.contains { $0.contains("bytes=0-") })
  }

  @Test func whatHasArrivedIsGoneOnWith() throws {
    let server = try HubServer(["models/org/a/x.gguf": Self.large])
    let blobs = server.cache + "/models--org--a/blobs"
    try FileManager.default.createDirectory(atPath: blobs, withIntermediateDirectories: true)
    let hash = Self.large.withUnsafeBytes { SHA256.hash($0) }
    try Self.large.prefix(1_000_003).write(to: URL(fileURLWithPath: "\(blobs)/\(hash).incomplete"))
    #expect(try content(try fetch(server, "org/a")) == Self.large)
    #expect(!server.log.contains { $0.contains("bytes=0-") } && server.log.contains { $0.contains("bytes=1000003-") })
    #expect(server.log.contains { $0.hasSuffix(" if") }, "later parts say which file they belong to")
    #expect(try FileManager.default.contentsOfDirectory(atPath: blobs) == [hash])
  }

  @Test func wrongBytesAreNotKept() throws {
    let server = try HubServer(["models/org/corrupt/x.gguf": Self.small])
    #expect(throws: HubError.self) { try fetch(server, "org/corrupt") }
    #expect(try FileManager.default.contentsOfDirectory(atPath: server.cache + "/models--org--corrupt/blobs").isEmpty)
  }

  @Test(
    arguments: [
      ("org/gated", nil, "accept its terms on"), ("org/gated-forbidden", "hf_right", "with the account of your token"),
      ("org/a", "hf_wrong", "is not valid"), ("org/nobody", nil, "or it is private"),
      ("org/a@v2", nil, "no branch, tag"),
      ("hf://org/a/y.gguf", nil, "it has x.gguf"), ("org/always-busy", nil, "asks to wait 3000 s"),
      ("org/escaping", nil, "would leave the cache"), ("org/bad-hash", nil, "no size or hash"),
      ("hf://datasets/org/pq", nil, "Parquet files"), ("org/two", nil, "name one of hf://org/two/"),
      ("org/always-broken", nil, "fetch again to go on"),
      ("org/shorter", nil, "2 bytes of a file that it lists with 4"),
      ("org/always-cut", nil, "each time sends a part"),
    ] as [(String, String?, String)])
  func errorsSayWhatToDo(name: String, token: String?, words: String) throws {
    let names = [
      "gated", "gated-forbidden", "a", "always-busy", "escaping", "bad-hash", "always-broken", "two", "shorter",
      "always-cut",
    ]
    var files = Dictionary(uniqueKeysWithValues: names.map { ("models/org/\($0)/x.gguf", Data("GGUF".utf8)) })
    files["models/org/two/y.gguf"] = Data("GGUF".utf8)
    files["datasets/org/pq/train.parquet"] = Data("PAR1".utf8)
    let server = try HubServer(files)
    let error = #expect(throws: HubError.self) { try fetch(server, name, token: token) }
    #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
    #expect(!FileManager.default.fileExists(atPath: server.folder.path + "/escaped"))
  }

  @Test func dataSetsAreFetched() throws {
    let server = try HubServer([
      "datasets/org/d/train.jsonl": Self.small, "datasets/org/d/test.jsonl": Data(), "datasets/org/d/README.md": Data(),
      "datasets/org/n/rows.ndjson": Self.small, "datasets/org/n/notes.txt": Data(),
    ])
    #expect(try fetch(server, "hf://datasets/org/n").hasSuffix("/rows.ndjson"))
    #expect(try fetch(server, "hf://datasets/org/d").hasSuffix("/train.jsonl"))
    #expect(try content(try fetch(server, "hf://datasets/org/d/test.jsonl")).isEmpty)
  }

  @Test func offlineNothingIsAsked() throws {
    let server = try HubServer(["models/org/a/x.gguf": Self.small])
    let environment = server.environment(nil)
    let settings = try HubSettings { $0 == "HF_HUB_OFFLINE" ? "1" : environment($0) }
    #expect(throws: HubError.offline(name: "org/a")) { try Hub(settings).fetch(HubName("org/a")) }
    let path = try fetch(server, "org/a")
    let count = server.log.count
    #expect(try Hub(settings).fetch(HubName("org/a")) == path && server.log.count == count)
  }

  /// Another process that brings the blob is waited for.
  @Test func oneBringsABlobAtATime() throws {
    let server = try HubServer(["models/org/a/x.gguf": Self.small])
    let locks = server.cache + "/.locks/models--org--a"
    try FileSystem.makeDirectory(locks)
    var lock: FileLock? = try FileLock(path: locks + "/" + Self.small.withUnsafeBytes { SHA256.hash($0) } + ".lock")
    var waited = 0
    let hub = Hub(try HubSettings(server.environment(nil))) { progress in
      guard progress.waitingFor?.contains("process") == true else { return }
      waited += 1
      if waited == 2 { lock = nil }
    }
    #expect(try content(try hub.fetch(HubName("org/a"))) == Self.small)
    #expect(waited >= 2 && lock == nil)
  }
}
