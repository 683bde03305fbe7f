import Foundation
import Testing

@testable import Adapters

@Suite struct BaseNameTests {
  @Test(
    arguments: [
      ("org/name", "org/name", nil), ("org/name@v1", "org/name", "v1"),
      ("/home/me/.cache/huggingface/hub/models--org--name/snapshots/abc", "org/name", "abc"),
      ("/cache/models--org--name/snapshots/abc/x.Q4_0.gguf", "org/name", "abc"),
      ("/home/me@work/x", "/home/me@work/x", nil),
      ("smol.gguf", "smol.gguf", nil),
    ] as [(String, String, String?)])
  func baseIsFollowedByItsName(path: String, name: String, revision: String?) {
    #expect(PEFTFiles.base(path).name == name)
    #expect(PEFTFiles.base(path).revision == revision)
  }

  /// A path is followed from any folder.
  @Test func aPathThatIsThereIsAbsolute() {
    let here = FileManager.default.currentDirectoryPath
    #expect(PEFTFiles.base("Tests/AdaptersTests").name == here + "/Tests/AdaptersTests")
    #expect(PEFTFiles.base("./Tests/../Sources").name == here + "/Sources")
    #expect(PEFTFiles.base("/tmp").name == "/tmp")
  }
}
