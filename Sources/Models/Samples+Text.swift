import Tokenizers

extension Samples {
  /// Adds a prompt, which is not trained, and the answer to it with the end-of-sequence token, which are. The ids are
  /// those of the one text that both make; a token across the border is trained. The beginning-of-sequence token comes
  /// first where the tokenizer opens a text with it and the prompt does not.
  /// - Throws: `ModelError.noTokenizer` for samples made without one; `ModelError.noTrainedTokens` for an answer
  ///   without tokens; `TokenizerError.tooLong`, `.regexMatch`, `.grows`; `TensorError.outOfMemory`.
  public func append(prompt: String, answer: String) throws {
    guard let tokenizer else { throw ModelError.noTokenizer(path: "samples") }
    var (ids, ranges) = try tokenizer.encode(parts: [prompt, answer])
    var start = ranges[1].lowerBound
    // As the model opens a text, but not as it ends one.
    if let bos = tokenizer.bos, ids.first != bos, try tokenizer.encode("", special: true).first == bos {
      ids.insert(bos, at: 0)
      start += 1
    }
    if let end = tokenizer.eos { ids.append(end) }
    guard try append(ids, trained: [start..<ids.count]) > 0 else { throw ModelError.noTrainedTokens }
  }
}
