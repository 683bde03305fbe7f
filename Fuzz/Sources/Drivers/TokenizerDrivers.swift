import Formats
import Tokenizers

/// Reads the tokenizer of a folder, and encodes and decodes texts with it.
final class TokenizerDriver: Driver {
  private let texts = [
    "", " ", "Hello, world! In the  morning 12345", "a\u{301}\u{0} <s>[INST] \n\n\t日本語 👍🏽 \u{FEFF}</s>",
    String(repeating: "a", count: 60) + "!", String(repeating: " ab1", count: 200),
  ]

  func read(_ folder: String, _ input: Input, _ random: inout Random) throws {
    guard let tokenizer = try Tokenizer.find(directory: folder) else {
      throw FormatError.missingFile(path: folder, looked: ["tokenizer.json", "tokenizer.model"])
    }
    let text = random.pick(texts)
    // Patterns and templates may fail on a text; the file itself was accepted.
    guard let ids = try? tokenizer.encode(text, continues: random.once(in: 2)) else { return }
    precondition(ids.allSatisfy { $0 >= 0 && Int($0) < tokenizer.vocabularySize }, "an id outside the vocabulary")
    _ = try? tokenizer.decode(ids, skipSpecial: random.once(in: 2))
    _ = (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.unknown, tokenizer.chatTemplate)
    let last = Int32(tokenizer.vocabularySize - 1)
    _ = try? tokenizer.decode([0, last])
  }
}

/// Matches a pattern, the first line of the file, against the text after it: in `fullMatch`, and as a tokenizer splits.
final class PatternDriver: Driver {
  func read(_ folder: String, _ input: Input, _ random: inout Random) throws {
    let bytes = input.files[0].bytes
    let end = bytes.firstIndex(of: 0x0A) ?? bytes.count
    let pattern = String(decoding: bytes[..<end], as: UTF8.self)
    let text = String(decoding: bytes[end...].dropFirst(), as: UTF8.self)
    if random.once(in: 2) { return _ = try fullMatch(pattern: pattern, text: text) }
    _ = try Regex(pattern, dialect: .oniguruma, file: folder).matches(in: Array(text.utf8))
  }
}
