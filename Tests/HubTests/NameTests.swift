import Formats
import Testing

@testable import Hub

@Suite struct NameTests {
  @Test(
    arguments: [
      ("org/name", HubName.Kind.model, "org/name", "main", nil), ("org/name@v1.0", .model, "org/name", "v1.0", nil),
      ("hf://org/name@abc/sub/x.Q4_0.gguf", .model, "org/name", "abc", "sub/x.Q4_0.gguf"),
      ("hf://datasets/org/name/train.jsonl", .dataset, "org/name", "main", "train.jsonl"),
      ("datasets/org/name", .dataset, "org/name", "main", nil), ("hf://gpt2", .model, "gpt2", "main", nil),
      ("models/tiny", .model, "models/tiny", "main", nil),
    ] as [(String, HubName.Kind, String, String, String?)])
  func namesAreRead(text: String, kind: HubName.Kind, repository: String, revision: String, file: String?) throws {
    let name = try HubName(text)
    #expect(name.kind == kind && name.repository == repository)
    #expect(name.revision == revision && name.file == file)
    #expect(try HubName(name.text) == name)
  }

  @Test(arguments: [
    "", "/x", "../x", "a/..", "a/b/c", "org/na me", "org/name@", "org/name@../x", "hf://org/name/../x",
    "hf://org/name/",
    "hf://org/name//x", "hf://org/name/a\\b", "hf://org/name/a\nb", "org/.git", "hf:///etc/passwd",
  ])
  func otherTextsAreRefused(text: String) { #expect(throws: FormatError.self) { try HubName(text) } }

  @Test func namesOfSnapshotsAreFollowed() {
    #expect(HubCache.origin(ofSnapshot: "/c/hub/models--org--na-me/snapshots/abc")?.name == "org/na-me")
    #expect(HubCache.origin(ofSnapshot: "/c/hub/models--gpt2/snapshots/abc/x.gguf")?.name == "gpt2")
    #expect(HubCache.origin(ofSnapshot: "/c/hub/models--gpt2/snapshots/abc/x.gguf")?.commit == "abc")
    #expect(HubCache.origin(ofSnapshot: "/c/snapshots/abc") == nil)
  }

  @Test(arguments: [
    ("https://huggingface.co/x?y", "https://huggingface.co", false), ("http://[::1]:80/x", "http://[::1]:80", true),
    ("https://huggingface.co@evil.org/x", "https://evil.org", false),
    ("HTTP://LocalHost:1/", "http://localhost:1", true),
    ("https://evil.org\\@huggingface.co/", "https://evil.org", false),
    ("http://127.0.0.1.evil.org/", "http://127.0.0.1.evil.org", false),
  ])
  func whoIsSpokenToIsSeen(text: String, origin: String, isLoopback: Bool) {
    #expect(Address(text)?.origin == origin)
    #expect(Address(text)?.isLoopback == isLoopback)
  }

  /// A token goes out encrypted, or stays on the machine.
  @Test func tokensAreNotSentInTheOpen() throws {
    func token(_ endpoint: String) throws -> String? {
      try HubSettings { ["HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_x\n"][$0] }.token
    }
    #expect(try token("https://hub.example") == "hf_x" && token("http://localhost:8/") == "hf_x")
    #expect(try token("http://hub.example") == nil)
    #expect(throws: HubError.badEndpoint("hub")) { try token("hub") }
  }
}
