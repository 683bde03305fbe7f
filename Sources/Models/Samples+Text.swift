import Tokenizers

extension Samples {
  /// Adds a prompt, which is not trained, and the answer to it with the end-of-sequence token, which are.
  /// The beginning-of-sequence token comes first where the tokenizer opens a text with it.
  /// - Throws: `ModelError.noTokenizer` for samples made without one; `ModelError.noTrainedTokens` for an answer
  ///   without tokens; `TokenizerError.tooLong`, `.regexMatch`; `TensorError.outOfMemory`.
  public func append(prompt: String, answer: String) throws {
    guard let tokenizer else { throw ModelError.noTokenizer(path: "samples") }
    var ids = try tokenizer.encode(prompt, special: false)
    // As the model opens a text, but not as it ends one.
    if let bos = tokenizer.bos, try tokenizer.encode("", special: true).first == bos { ids.insert(bos, at: 0) }
    let start = ids.count
    ids += try tokenizer.encode(answer, special: false, continues: true)
    if let end = tokenizer.eos { ids.append(end) }
    guard try append(ids, trained: [start..<ids.count]) > 0 else { throw ModelError.noTrainedTokens }
  }
}
