/// How the tensors of one architecture are called and laid out in a GGUF file. The names are stems, without
/// `.weight` and `.bias`.
package struct GGUFLayout: Sendable {
  /// Whether rows of q and k are stored in the order of llama.cpp's rotary embedding; see `GGUFFile.unpermuteRows`.
  package let pairsHeads: Bool
  /// The module whose rows are those of q, k and v of one head after the other, and in the file all of q, all of k and all
  /// of v; nil for none.
  package let fusedHeads: String?
  /// Whether the file holds the weights of norms plus one.
  package let addsOneToNorms: Bool
  private let layers: String
  private let whole: [String: String]
  private let block: [String: String]
  private let wholeBack: [String: String]
  private let blockBack: [String: String]
  /// Names with `#` by tensor; see `stack`.
  private let stacks: [String: String]
  private let partners: [String: String]

  /// - Parameters:
  ///   - whole: tensors outside the layers: `token_embd` and `model.embed_tokens`.
  ///   - layers: what layers are called before their number: `model.layers.`.
  ///   - block: tensors of a layer: `attn_q` and `self_attn.q_proj`.
  ///   - stacks: tensors of a layer that hold a matrix for each expert, and what those are called, `#` for the number.
  ///   - partners: those of `stacks` whose matrices have every second row in another tensor, and that tensor.
  ///   - pairsHeads: whether rows of q and k are in the order of llama.cpp's rotary embedding.
  ///   - fusedHeads: the module with the rows of q, k and v of one head after the other.
  ///   - addsOneToNorms: whether the weights of norms are stored plus one.
  package init(
    whole: [(gguf: String, huggingFace: String)], layers: String = "model.layers.",
    block: [(gguf: String, huggingFace: String)], stacks: [(gguf: String, huggingFace: String)] = [],
    partners: [(even: String, odd: String)] = [], pairsHeads: Bool, fusedHeads: String? = nil,
    addsOneToNorms: Bool = false
  ) {
    self.layers = layers
    self.pairsHeads = pairsHeads
    self.fusedHeads = fusedHeads
    self.addsOneToNorms = addsOneToNorms
    self.whole = Dictionary(uniqueKeysWithValues: whole.map { ($0.gguf, $0.huggingFace) })
    self.block = Dictionary(uniqueKeysWithValues: block.map { ($0.gguf, $0.huggingFace) })
    self.stacks = Dictionary(uniqueKeysWithValues: stacks.map { ($0.gguf, $0.huggingFace) })
    self.partners = Dictionary(uniqueKeysWithValues: partners.flatMap { [($0.even, $0.odd), ($0.odd, $0.even)] })
    wholeBack = Dictionary(uniqueKeysWithValues: whole.map { ($0.huggingFace, $0.gguf) })
    blockBack = Dictionary(uniqueKeysWithValues: block.map { ($0.huggingFace, $0.gguf) })
  }

  /// `blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`; nil for a tensor the architecture lacks.
  package func huggingFace(_ name: String) -> String? {
    guard let (stem, kind) = Self.split(name) else { return nil }
    if let found = whole[stem] { return "\(found).\(kind)" }
    guard let (layer, rest) = Self.layer(stem, after: "blk."), let found = block[rest] else { return nil }
    return "\(layers)\(layer).\(found).\(kind)"
  }

  /// `model.layers.3.self_attn.q_proj.weight` -> `blk.3.attn_q.weight`; nil for a tensor the architecture lacks.
  package func gguf(_ name: String) -> String? {
    guard let (stem, kind) = Self.split(name) else { return nil }
    if let found = wholeBack[stem] { return "\(found).\(kind)" }
    guard let (layer, rest) = Self.layer(stem, after: layers), let found = blockBack[rest] else { return nil }
    return "blk.\(layer).\(found).\(kind)"
  }

  /// `blk.3.ffn_up_exps.weight` -> what the matrix of an expert is called; nil for another tensor.
  package func stack(_ name: String) -> ((Int) -> String)? {
    guard let (stem, kind) = Self.split(name), let (layer, rest) = Self.layer(stem, after: "blk."),
      let pattern = stacks[rest], let place = pattern.firstIndex(of: "#")
    else { return nil }
    return { "\(layers)\(layer).\(pattern[..<place])\($0)\(pattern[pattern.index(after: place)...]).\(kind)" }
  }

  /// The tensor with the other rows of each of its matrices; nil for one that has all.
  package func partner(of name: String) -> String? {
    guard let (stem, kind) = Self.split(name), let (layer, rest) = Self.layer(stem, after: "blk.") else { return nil }
    return partners[rest].map { "blk.\(layer).\($0).\(kind)" }
  }

  /// Whether the tensor has the odd rows of another's matrices.
  func isPartner(_ name: String) -> Bool { partner(of: name) != nil && stack(name) == nil }

  private static func split(_ name: String) -> (stem: String, kind: String)? {
    for kind in ["weight", "bias"] where name.hasSuffix("." + kind) {
      return (String(name.dropLast(kind.count + 1)), kind)
    }
    return nil
  }

  /// The number is re-read and compared, so that blk.03 cannot collide with blk.3.
  private static func layer(_ stem: String, after prefix: String) -> (Int, String)? {
    guard stem.hasPrefix(prefix) else { return nil }
    let parts = stem.dropFirst(prefix.count).split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, let layer = Int(parts[0]), layer >= 0, "\(layer)" == parts[0] else { return nil }
    return (layer, String(parts[1]))
  }
}
