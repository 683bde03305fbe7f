import Formats

extension TokenizerSpec {
  private static let mark = "\u{2581}"

  /// Where a mark, which stands for a space, is put before the text.
  enum PrefixMark {
    case none
    /// Before every part between special tokens, also where a space begins it.
    case sentencePiece
    /// Before the whole text, unless a space begins it ("legacy": false).
    case textStart
    /// Before every part between special tokens, unless a space begins it ("legacy": true).
    case everyPart

    /// The scheme of a Metaspace pre-tokenizer that does so.
    var scheme: String? {
      switch self {
      case .none, .sentencePiece: nil
      case .textStart: "first"
      case .everyPart: "always"
      }
    }
  }

  /// Sets merges, normalizer, pre-tokenizer and decoder as sentencepiece's BPE, or transformers' reading of it, has
  /// them.
  mutating func useSentencePiece(scores: [Float], mergeable: [Bool], prefix: PrefixMark, collapseSpaces: Bool) {
    let scored = ScoredMerges(tokens: tokens, scores: scores, mergeable: mergeable)
    merges = scored.merges
    ranks = scored.ranks
    let replace = { (pattern: JSON, content: String) -> JSON in
      ["type": "Replace", "pattern": pattern, "content": .string(content)]
    }
    var steps: [JSON] = []
    if collapseSpaces {
      steps.append(replace(["Regex": "\\A +| +\\z"], ""))
      steps.append(replace(["Regex": " {2,}"], " "))
    }
    if let scheme = prefix.scheme {
      preTokenizer = [
        "type": "Metaspace", "replacement": .string(TokenizerSpec.mark), "prepend_scheme": .string(scheme),
        "split": false,
      ]
    } else {
      if prefix == .sentencePiece { steps.append(["type": "Prepend", "prepend": .string(TokenizerSpec.mark)]) }
      steps.append(replace(["String": " "], TokenizerSpec.mark))
    }
    normalizer = steps.isEmpty ? .null : TokenizerSpec.sequence("normalizers", steps)
    var decoders: [JSON] = [
      replace(["String": .string(TokenizerSpec.mark)], " "), ["type": "ByteFallback"], ["type": "Fuse"],
    ]
    if prefix != .none { decoders.append(["type": "Strip", "content": " ", "start": 1, "stop": 0]) }
    decoder = TokenizerSpec.sequence("decoders", decoders)
  }
}
