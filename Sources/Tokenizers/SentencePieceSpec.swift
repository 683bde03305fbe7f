import Formats

extension TokenizerSpec {
  private static let mark = "\u{2581}"

  /// Sets merges, normalizer and decoder as sentencepiece's BPE has them.
  mutating func useSentencePiece(scores: [Float], mergeable: [Bool], addPrefix: Bool, collapseSpaces: Bool) {
    let scored = ScoredMerges(tokens: tokens, scores: scores, mergeable: mergeable)
    merges = scored.merges
    ranks = scored.ranks
    let replace = { (pattern: JSON, content: String) -> JSON in
      ["type": "Replace", "pattern": pattern, "content": .string(content)]
    }
    var steps: [JSON] = []
    if collapseSpaces {
      steps.append(replace(["Regex": "^ +| +$"], ""))
      steps.append(replace(["Regex": " {2,}"], " "))
    }
    if addPrefix { steps.append(["type": "Prepend", "prepend": .string(TokenizerSpec.mark)]) }
    steps.append(replace(["String": " "], TokenizerSpec.mark))
    normalizer = TokenizerSpec.sequence("normalizers", steps)
    var decoders: [JSON] = [
      replace(["String": .string(TokenizerSpec.mark)], " "), ["type": "ByteFallback"], ["type": "Fuse"],
    ]
    if addPrefix { decoders.append(["type": "Strip", "content": " ", "start": 1, "stop": 0]) }
    decoder = TokenizerSpec.sequence("decoders", decoders)
  }
}
