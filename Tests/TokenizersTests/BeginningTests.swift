import Testing

@testable import Tokenizers

/// No text gets BOS twice.
@Suite struct BeginningTests {
  @Test(arguments: [("llama3", "<|bos|>"), ("llama2", "<s>")])
  func aTextThatBeginsWithBOSGetsNoOther(name: String, text: String) throws {
    let tokenizer = try fixture(name)
    let plain = try tokenizer.encode("Hello there")
    let bos = try #require(plain.first)
    #expect(tokenizer.token(bos) == text)
    let templated = try tokenizer.encode(text + "Hello there")
    #expect(templated == [bos] + (try tokenizer.encode(text + "Hello there", special: false)).dropFirst())
    #expect(templated.filter { $0 == bos }.count == 1)
    #expect(try tokenizer.encode(text) == [bos])
    // Written as text, it is text.
    #expect(try tokenizer.encode(text + "Hello", literal: true).first == bos)
    #expect(try tokenizer.encode(text + "Hello", literal: true).dropFirst().first != bos)
    // One inside is the text's own affair.
    #expect(try tokenizer.encode("Hello" + text).filter { $0 == bos }.count == 2)
  }
}
