import CPUBackend
import Foundation
import Testing
import Tokenizers

@testable import Models

/// No sample gets BOS twice.
@Suite struct BeginningTests {
  @Test func aPromptThatBeginsWithBOSGetsNoOther() throws {
    try withFolder { folder in
      let fixture = SmolLM2.root.appendingPathComponent("Tests/Fixtures/tokenizers/llama3.json").path
      try FileManager.default.copyItem(atPath: fixture, toPath: folder.path + "/tokenizer.json")
      try #"{"bos_token": "<|bos|>", "eos_token": "<|eos|>"}"#.write(
        toFile: folder.path + "/tokenizer_config.json", atomically: true, encoding: .utf8)
      let tokenizer = try #require(try Tokenizer.find(directory: folder.path))
      let bos = try #require(tokenizer.bos)
      let samples = Samples(on: CPUBackend(threadCount: 1), tokenizer: tokenizer)
      for prompt in ["Hello", "<|bos|>Hello"] { try samples.append(prompt: prompt, answer: " there") }
      let (plain, templated) = (try samples.ids(0), try samples.ids(1))
      #expect(plain == templated && plain.first == bos)
      #expect(plain.filter { $0 == bos }.count == 1)
    }
  }
}
