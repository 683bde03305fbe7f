import Formats

/// Where llama.cpp ends a text that it generates from a GGUF file.
enum GGUFEnds {
  /// Texts of tokens that end a generated text wherever a vocabulary has them (llama-vocab.cpp: end of turn, of message
  /// and of text, and borders of fill-in-the-middle), whatever the keys of the file say.
  private static let texts: Set<String> = [
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
    "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<|file_sep|>",
  ]

  /// The ids, those of the keys first.
  static func ids(_ fields: GGUFFields) throws(FormatError) -> [Int] {
    var found: [Int] = []
    for name in ["eos", "eot", "eom"] {
      guard let id = try fields.integer("tokenizer.ggml.\(name)_token_id"), !found.contains(id) else { continue }
      found.append(id)
    }
    var named: [String: Int] = [:]
    for (id, token) in (fields.file.metadata["tokenizer.ggml.tokens"]?.array ?? []).enumerated() {
      if let text = token.string, texts.contains(text), named[text] == nil { named[text] = id }
    }
    // Where a message is called, <|end|> ends only one of its parts; where a tool may answer, </s> is plain text.
    let calls = named["<|call|>"] ?? named["<|calls|>"], returns = named["<|return|>"] ?? named["<|flush|>"]
    if calls != nil, returns != nil { named["<|end|>"] = nil }
    if named["<|tool_response>"] != nil { named["</s>"] = nil }
    return found + named.values.filter { !found.contains($0) }.sorted()
  }
}
