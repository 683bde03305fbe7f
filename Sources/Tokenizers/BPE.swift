import Formats

/// Byte-pair encoding: characters joined by ranked merges, lowest rank first, leftmost among equals.
struct BPE: Sendable {
  struct Merge: Sendable {
    let rank: Int32
    let id: Int32
  }
  struct Options: Sendable {
    var unknown: Int32?
    var fuseUnknown = false
    var byteFallback = false
    var ignoreMerges = false
  }

  let vocabulary: [UTF8Key: Int32]
  private let merges: [UInt64: Merge]
  private let characters: [UInt32: Int32]
  /// Ids of `<0x00>` to `<0xFF>`, -1 where absent.
  private let bytes: [Int32]
  private let options: Options

  /// The keys of `merges` are pairs of left and right id (`pair`), its values have the id of the joined token.
  init(vocabulary: [UTF8Key: Int32], merges: [UInt64: Merge], options: Options) {
    self.vocabulary = vocabulary
    self.merges = merges
    self.options = options
    var characters: [UInt32: Int32] = [:]
    var bytes = [Int32](repeating: -1, count: 256)
    for (key, id) in vocabulary {
      let scalars = key.string.unicodeScalars
      if let only = scalars.first, scalars.dropFirst().isEmpty { characters[only.value] = id }
      if key.string.utf8.count == 6, let byte = Decoder.byteToken(Array(key.string.utf8)),
        key.string.utf8.elementsEqual(BPE.byteName(byte).utf8)
      {
        bytes[Int(byte)] = id
      }
    }
    self.characters = characters
    self.bytes = bytes
  }

  static func byteName(_ byte: UInt8) -> String {
    let hex = String(byte, radix: 16, uppercase: true)
    return "<0x\(hex.utf8.count == 1 ? "0" : "")\(hex)>"
  }

  static func pair(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  /// A token of a word and the bytes that it stands for.
  struct Symbol {
    var id: Int32
    var start: Int32
    var end: Int32
    var range: Range<Int> { Int(start)..<Int(end) }
  }

  /// The tokens of one word.
  func encode(_ word: [UInt8]) -> [Symbol] {
    if options.ignoreMerges, let id = vocabulary[UTF8Key(String(decoding: word, as: UTF8.self))] {
      return [Symbol(id: id, start: 0, end: Int32(word.count))]
    }
    return join(symbols(word))
  }

  private func symbols(_ word: [UInt8]) -> [Symbol] {
    var out: [Symbol] = []
    out.reserveCapacity(word.count)
    var pending: Symbol?
    forEachScalar(word) { scalar, range in
      if let id = characters[scalar.value] {
        if let unknown = pending { out.append(unknown) }
        pending = nil
        out.append(Symbol(id: id, start: Int32(range.lowerBound), end: Int32(range.upperBound)))
        return
      }
      if options.byteFallback, range.allSatisfy({ bytes[Int(word[$0])] >= 0 }) {
        // A pending unknown stays pending, as in the tokenizers library.
        for i in range { out.append(Symbol(id: bytes[Int(word[i])], start: Int32(i), end: Int32(i + 1))) }
        return
      }
      if let unknown = options.unknown {
        var symbol = Symbol(id: unknown, start: Int32(range.lowerBound), end: Int32(range.upperBound))
        if let earlier = pending {
          if options.fuseUnknown { symbol.start = earlier.start } else { out.append(earlier) }
        }
        pending = symbol
      }
    }
    if let unknown = pending { out.append(unknown) }
    return out
  }

  /// A possible merge of the symbol at `position` with its successor.
  private struct Candidate: Comparable {
    let rank: Int32
    let position: Int32
    let id: Int32
    static func < (a: Candidate, b: Candidate) -> Bool { (a.rank, a.position) < (b.rank, b.position) }
  }

  private func join(_ symbols: [Symbol]) -> [Symbol] {
    let count = symbols.count
    guard count > 1 else { return symbols }
    var ids = symbols.map(\.id)
    // A doubly linked list over positions; a symbol that was joined to its left neighbour has id -1.
    var next = (0..<count).map { Int32($0 + 1) }
    var previous = (0..<count).map { Int32($0 - 1) }
    var queue = MinimumHeap<Candidate>()
    for i in 0..<count - 1 {
      if let merge = merges[BPE.pair(ids[i], ids[i + 1])] {
        queue.append(Candidate(rank: merge.rank, position: Int32(i), id: merge.id))
      }
    }
    queue.order()
    while let top = queue.pop() {
      let at = Int(top.position)
      guard ids[at] >= 0, Int(next[at]) < count else { continue }
      let right = Int(next[at])
      // The neighbourhood may have changed since the candidate was queued.
      guard let merge = merges[BPE.pair(ids[at], ids[right])], merge.id == top.id, merge.rank == top.rank else {
        continue
      }
      ids[at] = top.id
      ids[right] = -1
      next[at] = next[right]
      if Int(next[right]) < count { previous[Int(next[right])] = Int32(at) }
      if previous[at] >= 0, let merge = merges[BPE.pair(ids[Int(previous[at])], top.id)] {
        queue.push(Candidate(rank: merge.rank, position: previous[at], id: merge.id))
      }
      if Int(next[at]) < count, let merge = merges[BPE.pair(top.id, ids[Int(next[at])])] {
        queue.push(Candidate(rank: merge.rank, position: Int32(at), id: merge.id))
      }
    }
    return ids.indices.compactMap { at in
      ids[at] < 0 ? nil : Symbol(id: ids[at], start: symbols[at].start, end: symbols[Int(next[at]) - 1].end)
    }
  }
}

/// A binary heap with the least element on top.
struct MinimumHeap<Element: Comparable> {
  private var elements: [Element] = []

  /// Adds without ordering; call `order` before the first `pop`.
  mutating func append(_ element: Element) { elements.append(element) }

  mutating func order() {
    for i in stride(from: elements.count / 2 - 1, through: 0, by: -1) { sink(i) }
  }

  mutating func push(_ element: Element) {
    elements.append(element)
    var i = elements.count - 1
    while i > 0, elements[i] < elements[(i - 1) / 2] {
      elements.swapAt(i, (i - 1) / 2)
      i = (i - 1) / 2
    }
  }

  mutating func pop() -> Element? {
    guard let top = elements.first, let last = elements.popLast() else { return nil }
    if !elements.isEmpty {
      elements[0] = last
      sink(0)
    }
    return top
  }

  private mutating func sink(_ start: Int) {
    var i = start
    while true {
      var child = 2 * i + 1
      guard child < elements.count else { return }
      if child + 1 < elements.count, elements[child + 1] < elements[child] { child += 1 }
      guard elements[child] < elements[i] else { return }
      elements.swapAt(i, child)
      i = child
    }
  }
}
