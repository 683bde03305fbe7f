import Formats

/// Trains byte-level BPE vocabularies: GPT-2's words, the most frequent adjacent pair first.
public enum BPETrainer {
  /// Learns a vocabulary from texts.
  /// - Parameters:
  ///   - texts: what words and pairs are counted in.
  ///   - vocabularySize: wanted number of tokens; fewer result when the texts hold no further pairs.
  ///   - specialTokens: get ids 0, 1, ...; the 256 bytes follow, then the merges in order.
  ///   - bos: the special token put before every text; none when nil.
  ///   - eos: the special token that ends a text; known, but not added.
  /// - Returns: the tokenizer. The same input gives the same tokenizer: among equally
  ///   frequent pairs that with the smaller ids is merged first, as in the tokenizers library.
  /// - Throws: `TokenizerError.training` for a vocabulary smaller than 256 and the special tokens, an empty or repeated
  ///   special token, or texts of 2^31 - 1 and more distinct word bytes; `TokenizerError.missingField` for a `bos` that
  ///   is no token; `TokenizerError.regexMatch` where cutting a text into words fails.
  public static func train(
    texts: [String], vocabularySize: Int, specialTokens: [String] = [], bos: String? = nil, eos: String? = nil
  ) throws -> Tokenizer {
    try check(vocabularySize, specialTokens)
    var spec = TokenizerSpec(
      tokens: specialTokens, merges: [], added: [],
      options: [("unk_token", nil), ("fuse_unk", false), ("byte_fallback", false), ("ignore_merges", false)])
    spec.preTokenizer = TokenizerSpec.byteLevel
    spec.decoder = TokenizerSpec.byteLevel
    spec.added = specialTokens.enumerated().map { AddedToken(id: Int32($0), content: $1) }
    // Byte tokens in order of their letters, as the tokenizers library numbers them.
    let letters = ByteLevel.scalars.enumerated().sorted { $0.element.value < $1.element.value }
    var idOfByte = [Int32](repeating: 0, count: 256)
    for (byte, scalar) in letters {
      idOfByte[byte] = Int32(spec.tokens.count)
      spec.tokens.append(String(Character(scalar)))
    }
    var corpus = try PairCounts(words: try count(texts, specialTokens), idOfByte: idOfByte)
    var known = Set(spec.tokens.map { UTF8Key($0) })
    while spec.tokens.count < vocabularySize, let (left, right) = corpus.best() {
      let joined = spec.tokens[Int(left)] + spec.tokens[Int(right)]
      guard known.insert(UTF8Key(joined)).inserted else {
        // Only a special token spelled in GPT-2's letters can be in the way; its id must not mean two things.
        corpus.forget(left, right)
        continue
      }
      corpus.merge(left, right, into: Int32(spec.tokens.count))
      spec.merges.append((spec.tokens[Int(left)], spec.tokens[Int(right)]))
      spec.tokens.append(joined)
    }
    spec.before = bos.map { [$0] } ?? []
    spec.settings.bos = bos
    spec.settings.eos = eos
    return try Tokenizer(spec: spec, file: "trained tokenizer")
  }

  private static func check(_ size: Int, _ special: [String]) throws(TokenizerError) {
    guard size >= 256 + special.count else {
      throw .training(problem: .vocabularyTooSmall(size: size, minimum: 256 + special.count))
    }
    var seen = Set(ByteLevel.scalars.map { UTF8Key(String(Character($0))) })
    for token in special {
      guard !token.isEmpty else { throw .training(problem: .emptySpecialToken) }
      guard seen.insert(UTF8Key(token)).inserted else { throw .training(problem: .duplicateSpecialToken(token)) }
    }
  }

  /// How often each word occurs, in the order of first occurrence. Special tokens are not part of words.
  private static func count(_ texts: [String], _ special: [String]) throws -> [(word: [UInt8], count: Int)] {
    let regex = try Regex(ByteLevel.pattern, dialect: .oniguruma, file: "trained tokenizer")
    var matcher = AddedTokenMatcher()
    for (id, token) in special.enumerated() {
      matcher.insert(AddedToken(id: Int32(id), content: token), spelling: Array(token.utf8))
    }
    var index: [[UInt8]: Int] = [:]
    var words: [(word: [UInt8], count: Int)] = []
    for text in texts {
      let bytes = Array(text.utf8)
      try matcher.forEachPart(bytes, isLiteral: { _ in false }) { id, range in
        guard id == nil else { return }
        let part = range.count == bytes.count ? bytes : Array(bytes[range])
        // The pattern's alternatives cover every character, so that the matches are all the words.
        for match in try regex.matches(in: part) {
          let word = Array(part[match])
          if let at = index[word] {
            words[at].count += 1
          } else {
            index[word] = words.count
            words.append((word, 1))
          }
        }
      }
    }
    return words
  }
}

/// Words as ids, with the count of every adjacent pair and the words it may occur in.
private struct PairCounts {
  private var symbols: [Int32] = []
  /// Bounds of each word in `symbols`; merging shortens a word in place.
  private var words: [Range<Int>] = []
  private var weights: [Int] = []
  private var counts: [UInt64: Int] = [:]
  private var places: [UInt64: [Int32]] = [:]
  private var queue = MinimumHeap<Entry>()

  private struct Entry: Comparable {
    let count: Int
    let pair: UInt64
    static func < (a: Entry, b: Entry) -> Bool { (-a.count, a.pair) < (-b.count, b.pair) }
  }

  init(words list: [(word: [UInt8], count: Int)], idOfByte: [Int32]) throws(TokenizerError) {
    guard list.reduce(0, { $0 + $1.word.count }) < Int(Int32.max) else { throw .training(problem: .textTooLarge) }
    for (word, count) in list {
      let start = symbols.count
      for byte in word { symbols.append(idOfByte[Int(byte)]) }
      let number = Int32(words.count)
      words.append(start..<symbols.count)
      weights.append(count)
      for i in start..<max(symbols.count - 1, start) {
        let pair = BPE.pair(symbols[i], symbols[i + 1])
        counts[pair, default: 0] += count
        if places[pair]?.last != number { places[pair, default: []].append(number) }
      }
    }
    for (pair, count) in counts { queue.append(Entry(count: count, pair: pair)) }
    queue.order()
  }

  /// The most frequent pair. Queued counts can be out of date; such entries go back with the present count.
  mutating func best() -> (Int32, Int32)? {
    while let top = queue.pop() {
      let count = counts[top.pair] ?? 0
      guard count > 0 else { continue }
      if count == top.count { return (Int32(top.pair >> 32), Int32(top.pair & 0xFFFF_FFFF)) }
      if count < top.count { queue.push(Entry(count: count, pair: top.pair)) }
    }
    return nil
  }

  mutating func forget(_ left: Int32, _ right: Int32) { counts[BPE.pair(left, right)] = nil }

  mutating func merge(_ left: Int32, _ right: Int32, into id: Int32) {
    let pair = BPE.pair(left, right)
    var fresh: Set<UInt64> = []
    for number in places.removeValue(forKey: pair) ?? [] {
      let range = words[Int(number)], weight = weights[Int(number)]
      var write = range.lowerBound, read = range.lowerBound
      while read < range.upperBound {
        guard symbols[read] == left, read + 1 < range.upperBound, symbols[read + 1] == right else {
          symbols[write] = symbols[read]
          write += 1
          read += 1
          continue
        }
        // Symbols before `write` are final, those from `read` on are still the old ones.
        if write > range.lowerBound {
          let before = symbols[write - 1]
          counts[BPE.pair(before, left), default: 0] -= weight
          add(BPE.pair(before, id), weight, number, &fresh)
        }
        if read + 2 < range.upperBound {
          let after = symbols[read + 2]
          counts[BPE.pair(right, after), default: 0] -= weight
          add(BPE.pair(id, after), weight, number, &fresh)
        }
        symbols[write] = id
        write += 1
        read += 2
      }
      words[Int(number)] = range.lowerBound..<write
    }
    counts[pair] = nil
    for pair in fresh {
      if let count = counts[pair], count > 0 { queue.push(Entry(count: count, pair: pair)) }
    }
  }

  private mutating func add(_ pair: UInt64, _ weight: Int, _ number: Int32, _ fresh: inout Set<UInt64>) {
    counts[pair, default: 0] += weight
    if places[pair]?.last != number { places[pair, default: []].append(number) }
    fresh.insert(pair)
  }
}
