import Testing

@testable import Adapters

@Suite struct BaseNameTests {
  @Test(
    arguments: [
      ("org/name", "org/name", nil), ("org/name@v1", "org/name", "v1"), ("models/tiny", "models/tiny", nil),
      ("/home/me/.cache/huggingface/hub/models--org--name/snapshots/abc", "org/name", nil),
      ("/cache/models--org--name/snapshots/abc/x.Q4_0.gguf", "org/name", nil),
      ("/home/me@work/x", "/home/me@work/x", nil),
      ("smol.gguf", "smol.gguf", nil),
    ] as [(String, String, String?)])
  func baseIsFollowedByItsName(path: String, name: String, revision: String?) {
    #expect(PEFTFiles.base(path).name == name)
    #expect(PEFTFiles.base(path).revision == revision)
  }
}
