import Tokenizers

extension Samples {
  /// Adds a prompt, which is not trained, and the answer to it with the end-of-sequence token, which are.
  /// - Throws: `noTokenizer` for samples made without one; `noTrainedTokens` for an answer without tokens;
  ///   `TokenizerError`, `TensorError.outOfMemory`.
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
