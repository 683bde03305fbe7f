/// Mutations of a safetensors file: its header as JSON with the right length in front, or the length itself.
enum SafetensorsMutator {
  static func mutated(_ bytes: [UInt8], with other: [UInt8], _ random: inout Random) -> [UInt8] {
    guard let (header, data) = split(bytes) else { return ByteMutator.mutated(bytes, with: other, &random) }
    let twin = split(other)?.header ?? []
    if random.once(in: 8) {
      var bytes = bytes
      let near = UInt64(header.count) &+ UInt64(random.below(17)) &- 8
      ByteMutator.overwrite(&bytes, at: 0, width: 8, value: random.pick([near] + ByteMutator.extremes))
      return bytes
    }
    let changed = JSONMutator.mutated(header, with: twin, &random)
    return withUnsafeBytes(of: UInt64(changed.count).littleEndian) { Array($0) } + changed + data
  }

  private static func split(_ bytes: [UInt8]) -> (header: [UInt8], data: ArraySlice<UInt8>)? {
    guard bytes.count > 8 else { return nil }
    let count = bytes.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
    guard count > 0, count <= UInt64(bytes.count - 8) else { return nil }
    return (Array(bytes[8..<8 + Int(count)]), bytes[(8 + Int(count))...])
  }
}

/// Mutations of a GGUF file by the fields of its header: counts, lengths, types, values, extents, offsets, texts.
enum GGUFMutator {
  private enum Field {
    case integer(at: Int, width: Int)
    /// The place of the length; the text follows.
    case text(at: Int, count: Int)
  }

  static func mutated(_ bytes: [UInt8], with other: [UInt8], _ random: inout Random) -> [UInt8] {
    var bytes = bytes
    guard let field = fields(bytes).randomElement(&random) else {
      return ByteMutator.mutated(bytes, with: other, &random)
    }
    switch field {
    case .integer(let at, let width):
      let old = (0..<width).reduce(UInt64(0)) { $0 | UInt64(bytes[at + $1]) << UInt64(8 * $1) }
      let value = random.pick([old &+ 1, old &- 1, old &* 2, old ^ 1 << UInt64(random.below(8 * width))])
      ByteMutator.overwrite(
        &bytes, at: at, width: width, value: random.once(in: 2) ? value : random.pick(ByteMutator.extremes))
    case .text(let at, let count):
      let texts = [
        "", "llama", "qwen3", "gpt2", "smollm", "general.alignment", "\u{0}", "é", "token_embd.weight", "blk.0.",
      ]
      var text =
        random.once(in: 3)
        ? ByteMutator.mutated(Array(bytes[at + 8..<at + 8 + count]), with: other, &random)
        : Array(random.pick(texts).utf8)
      text = Array(text.prefix(4096))
      bytes.replaceSubrange(at + 8..<at + 8 + count, with: text)
      ByteMutator.overwrite(&bytes, at: at, width: 8, value: UInt64(text.count))
      // The data moved with the header; the padding gives the last tensor room again.
      bytes += [UInt8](repeating: 0, count: 32)
    }
    return bytes
  }

  /// The fields of the header, as far as it can be read.
  private static func fields(_ bytes: [UInt8]) -> [Field] {
    var fields: [Field] = []
    var at = 4
    func integer(_ width: Int) -> UInt64? {
      guard at + width <= bytes.count else { return nil }
      fields.append(.integer(at: at, width: width))
      defer { at += width }
      return (0..<width).reduce(UInt64(0)) { $0 | UInt64(bytes[at + $1]) << UInt64(8 * $1) }
    }
    func text() -> Bool {
      let place = at
      guard let count = integer(8), count <= UInt64(bytes.count - at) else { return false }
      fields.append(.text(at: place, count: Int(count)))
      at += Int(count)
      return true
    }
    func value(_ type: UInt64) -> Bool {
      let widths: [UInt64: Int] = [0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8]
      if let width = widths[type] { return integer(width) != nil }
      if type == 8 { return text() }
      guard type == 9, let element = integer(4), let count = integer(8), count < 4096 else { return false }
      for _ in 0..<count where !value(element) { return false }
      return true
    }
    _ = integer(4)
    guard let tensors = integer(8), let entries = integer(8), tensors < 4096, entries < 4096 else { return fields }
    for _ in 0..<entries {
      guard text(), let type = integer(4), value(type) else { return fields }
    }
    for _ in 0..<tensors {
      guard text(), let rank = integer(4), rank <= 8 else { return fields }
      for _ in 0..<rank where integer(8) == nil { return fields }
      guard integer(4) != nil, integer(8) != nil else { return fields }
    }
    return fields
  }
}

/// Mutations of a protobuf message: numbers as long as a varint may be or longer, lengths that lie, other wire types.
enum ProtobufMutator {
  static func mutated(_ bytes: [UInt8], with other: [UInt8], _ random: inout Random) -> [UInt8] {
    var bytes = bytes
    guard !bytes.isEmpty else { return bytes }
    let at = random.below(bytes.count)
    switch random.below(4) {
    case 0:
      let count = random.pick([1, 4, 8, 9, 10, 11])
      bytes.replaceSubrange(
        at..<at + 1, with: [UInt8](repeating: 0xFF, count: count) + [UInt8(random.pick([0, 1, 0x7F]))])
    case 1: bytes[at] = (bytes[at] & 0xF8) | UInt8(random.below(8))
    case 2: bytes[at] = bytes[at] &+ UInt8(random.pick([1, 0xFF, 8, 0xF8]))
    default: return ByteMutator.mutated(bytes, with: other, &random)
    }
    return bytes
  }
}

/// Mutations of a pattern (first line) and the text that it meets (the rest), from pieces that make matching hard.
enum PatternMutator {
  private static let pieces = [
    "(a+)+", "(a*)*b", "(a|a)*", "(.*)*", "(?:", "(", ")", "[", "]", "[^", "|", "*", "+", "?", "*+", "??", "{2}",
    "{0,999}",
    "{1000}", "{65535}", "{65536}", "\\p{L}", "\\p{N}", "\\p{Foo}", "\\s", "\\S", "[\\S]", "\\w", "[\\W]", "\\d", "\\b",
    "\\1",
    "\\k<a>", "(?<a>", "(?=", "(?!", "(?<=", "(?<!a{1,3})", "(?>", "(?i)", "(?i:", "(?s-i:", "(?R)", "(?1)",
    "(?(1)a|b)", "\\K",
    "\\Q", "\\E", "\\x{110000}", "\\x{d800}", "\\u0041", "(*LIMIT_MATCH=1)", "(*UTF)", "(*F)", "(?C1)", "\\C", "\\X",
    "\\R", "^", "$",
    "\\z", "\\A", "\\G", "é", "日本", "'s|'t|'re", "[a-", "[[:alpha:]]", "[a-z&&[^b]]", "\\",
  ]

  static func mutated(_ bytes: [UInt8], with other: [UInt8], _ random: inout Random) -> [UInt8] {
    let end = bytes.firstIndex(of: 0x0A) ?? bytes.count
    var pattern = Array(bytes[..<end]), text = Array(bytes[end...].dropFirst())
    let piece = Array(random.pick(pieces).utf8)
    switch random.below(6) {
    case 0, 1, 2: pattern.insert(contentsOf: piece, at: random.below(pattern.count + 1))
    case 3:
      let times = random.pick([2, 10, 100, 1000])
      pattern += Array(repeatElement(piece, count: times).joined())
    case 4:
      let unit = Array(random.pick(["a", "ab", "aé", " ", "\n", "1", "a!", "日", "\u{0}"]).utf8)
      text += Array(repeatElement(unit, count: random.pick([1, 20, 40, 1000, 20_000])).joined())
    default: pattern = ByteMutator.mutated(pattern, with: Array(other.prefix(64)), &random)
    }
    return Array(pattern.prefix(65_536)) + [0x0A] + text.prefix(1 << 17)
  }
}
