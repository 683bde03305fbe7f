import Formats
import Foundation
import Testing

@testable import Tokenizers

@Suite struct GoldenTests {
  @Test(arguments: [
    "gpt2", "llama3", "digits", "qwen", "llama2", "metaspace_always", "metaspace_first", "whitespace", "punctuation",
  ])
  func tokenizerFilesMatchTheTokenizersLibrary(name: String) throws {
    let golden = try Golden(name)
    #expect(golden.cases.count > 20 && golden.loose.count == 20)
    for difference in try golden.differences(try fixture(name)) { Issue.record("\(name): \(difference)") }
  }

  @Test(arguments: ["spm", "spm_plain"])
  func sentencepieceModelsMatchSentencepiece(name: String) throws {
    let golden = try Golden(name)
    try withFolder { folder in
      try FileManager.default.copyItem(atPath: Golden.folder + name + ".model", toPath: folder + "/tokenizer.model")
      let tokenizer = try #require(try Tokenizer.find(directory: folder))
      for difference in try golden.differences(tokenizer) { Issue.record("\(name): \(difference)") }
      #expect(tokenizer.bos == 1 && tokenizer.eos == 2 && tokenizer.unknown == 0)
      #expect(try tokenizer.encode("a").first == 1)
      if name == "spm" {
        // The mark that stands for a space cannot come back as itself.
        for test in golden.cases where !test.text.contains("\u{2581}") {
          #expect(try tokenizer.decode(test.bare) == test.text)
        }
        let mask = try #require(tokenizer.id(of: "<mask>"))
        let ids = try tokenizer.encode("x<mask>y")
        #expect(ids.contains(mask))
      }
    }
  }

  static let smollm2: String? = {
    let path =
      ProcessInfo.processInfo.environment["QLORA_SMOLLM2_GGUF"]
      ?? Golden.package + "/downloads/SmolLM2-135M-Instruct.Q4_1.gguf"
    return FileManager.default.fileExists(atPath: path) ? path : nil
  }()

  @Test(.enabled(if: smollm2 != nil, "SmolLM2 is not here; `make smollm2` fetches it"))
  func theTokenizerOfSmolLM2sGGUFMatchesItsTokenizerFile() throws {
    let tokenizer = try Tokenizer(gguf: try GGUFFile(path: try #require(GoldenTests.smollm2)))
    for difference in try Golden("smollm2").differences(tokenizer) { Issue.record("\(difference)") }
    #expect(tokenizer.vocabularySize == 49152)
    #expect(tokenizer.bos == 1 && tokenizer.eos == 2 && tokenizer.pad == 2 && tokenizer.unknown == 0)
    #expect(tokenizer.token(1) == "<|im_start|>")
    #expect(tokenizer.chatTemplate?.contains("add_generation_prompt") == true)
    try withFolder { folder in
      try tokenizer.save(directory: folder + "/saved")
      let again = try #require(try Tokenizer.find(directory: folder + "/saved"))
      for difference in try Golden("smollm2").differences(again) { Issue.record("saved: \(difference)") }
      #expect(again.bos == 1 && again.eos == 2 && again.pad == 2 && again.chatTemplate == tokenizer.chatTemplate)
    }
  }
}
