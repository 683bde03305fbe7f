/// How the tensors of one architecture are called and laid out in a GGUF file. The names are stems, without
/// `.weight` and `.bias`.
package struct GGUFLayout: Sendable {
  /// Whether rows of q and k are stored in the order of llama.cpp's rotary embedding; see `GGUFFile.unpermuteRows`.
  package let pairsHeads: Bool
  /// The module whose rows are those of q, k and v of one head after the other, and in the file all of q, all of k and
  /// all of v; nil for none.
  package let fusedHeads: String?
  /// Whether the file holds the weights of norms plus one, but those of `plainNorms`.
  package let addsOneToNorms: Bool
  private let plainNorms: Set<String>
  /// How the gated DeltaNets lie, where the file has some.
  package var deltaNet: GGUFDeltaNet?
  /// Layers of the model; those behind them predict ahead and are not read. nil: all are read.
  package var layerCount: Int?
  private let layers: String
  private let whole: [String: String]
  private let block: [String: String]
  private let wholeBack: [String: String]
  private let blockBack: [String: String]
  /// Names with `#` by tensor; see `stack`.
  private let stacks: [String: String]
  private let partners: [String: String]
  private let vectors: [String: String]
  private let vectorsBack: [String: String]

  /// - Parameters:
  ///   - whole: tensors outside the layers: `token_embd` and `model.embed_tokens`.
  ///   - layers: what layers are called before their number: `model.layers.`.
  ///   - block: tensors of a layer: `attn_q` and `self_attn.q_proj`.
  ///   - stacks: tensors of a layer that hold a matrix for each expert, and what those are called, `#` for the number.
  ///   - partners: those of `stacks` whose matrices have every second row in another tensor, and that tensor.
  ///   - vectors: whole names of tensors of a layer, `attn_sinks.weight`, whose modules are elsewhere called as their
  ///     only tensor, `self_attn.sinks`.
  ///   - pairsHeads: whether rows of q and k are in the order of llama.cpp's rotary embedding.
  ///   - fusedHeads: the module with the rows of q, k and v of one head after the other.
  ///   - addsOneToNorms: whether the weights of norms are stored plus one.
  ///   - plainNorms: modules of a layer of which that is not so.
  package init(
    whole: [(gguf: String, huggingFace: String)], layers: String = "model.layers.",
    block: [(gguf: String, huggingFace: String)], stacks: [(gguf: String, huggingFace: String)] = [],
    partners: [(even: String, odd: String)] = [], vectors: [(gguf: String, huggingFace: String)] = [],
    pairsHeads: Bool, fusedHeads: String? = nil, addsOneToNorms: Bool = false, plainNorms: [String] = []
  ) {
    self.layers = layers
    self.pairsHeads = pairsHeads
    self.fusedHeads = fusedHeads
    self.addsOneToNorms = addsOneToNorms
    self.plainNorms = Set(plainNorms)
    self.whole = Dictionary(uniqueKeysWithValues: whole.map { ($0.gguf, $0.huggingFace) })
    self.block = Dictionary(uniqueKeysWithValues: block.map { ($0.gguf, $0.huggingFace) })
    self.stacks = Dictionary(uniqueKeysWithValues: stacks.map { ($0.gguf, $0.huggingFace) })
    self.partners = Dictionary(uniqueKeysWithValues: partners.flatMap { [($0.even, $0.odd), ($0.odd, $0.even)] })
    self.vectors = Dictionary(uniqueKeysWithValues: vectors.map { ($0.gguf, $0.huggingFace) })
    vectorsBack = Dictionary(uniqueKeysWithValues: vectors.map { ($0.huggingFace, $0.gguf) })
    wholeBack = Dictionary(uniqueKeysWithValues: whole.map { ($0.huggingFace, $0.gguf) })
    blockBack = Dictionary(uniqueKeysWithValues: block.map { ($0.huggingFace, $0.gguf) })
  }

  /// `blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`; nil for a tensor the architecture lacks.
  package func huggingFace(_ name: String) -> String? {
    if isAhead(name) { return nil }
    if let (layer, rest) = Self.layer(name, after: "blk."), let found = vectors[rest] {
      return "\(layers)\(layer).\(found)"
    }
    guard let (stem, kind) = Self.split(name) else { return nil }
    if let found = whole[stem] { return "\(found).\(kind)" }
    guard let (layer, rest) = Self.layer(stem, after: "blk."), let found = block[rest] else { return nil }
    return "\(layers)\(layer).\(found).\(kind)"
  }

  /// Whether the tensor is of a layer that predicts ahead.
  func isAhead(_ name: String) -> Bool {
    guard let layerCount, let (layer, _) = Self.layer(name, after: "blk.") else { return false }
    return layer >= layerCount
  }

  /// `model.layers.3.self_attn.q_proj.weight` -> `blk.3.attn_q.weight`; nil for a tensor the architecture lacks.
  package func gguf(_ name: String) -> String? {
    if let (layer, rest) = Self.layer(name, after: layers), let found = vectorsBack[rest] {
      return "blk.\(layer).\(found)"
    }
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

  /// Whether the file holds this tensor plus one.
  package func hasOneAdded(_ name: String) -> Bool {
    addsOneToNorms && name.hasSuffix("norm.weight") && !plainNorms.contains(module(name))
  }

  /// Whether the file holds the negated exponential of this tensor.
  package func isNegatedExponential(_ name: String) -> Bool { deltaNet?.logarithms.contains(module(name)) ?? false }

  /// Whether the tensor is a convolution's, whose shape has a 1 that the file has not.
  package func isConvolution(_ name: String) -> Bool { deltaNet?.convolutions.contains(module(name)) ?? false }

  /// The tensor with the gates of the module whose other rows `name` has, and what the module's weight is called; nil
  /// for a tensor that is whole.
  func split(_ name: String) -> (gates: String, weight: String)? {
    guard let split = deltaNet?.split, !isAhead(name), let (layer, rest) = Self.layer(name, after: "blk."),
      rest == split.rows + ".weight"
    else { return nil }
    return ("blk.\(layer).\(split.gates).weight", "\(layers)\(layer).\(split.module).weight")
  }

  /// Whether the tensor has the gates of such a module.
  func isSplitOff(_ name: String) -> Bool {
    guard let split = deltaNet?.split, let (_, rest) = Self.layer(name, after: "blk.") else { return false }
    return rest == split.gates + ".weight"
  }

  /// The module of a layer whose tensor this is, by its name behind the layer's number; empty for another.
  private func module(_ name: String) -> String {
    guard let (_, rest) = Self.layer(name, after: layers) else { return "" }
    return Self.split(rest)?.stem ?? rest
  }

  /// The stored row of each row of a tensor by its Hugging Face name, where the file has them in another order; nil
  /// where it has not.
  /// - Throws: `FormatError.badField` for rows that are not those of whole heads.
  package func storedRow(
    _ name: String, rows: Int, queryHeads: Int, keyHeads: Int, path: String
  ) throws(FormatError) -> ((Int) -> Int)? {
    if let fused = fusedHeads, name.contains(".\(fused).") {
      let width = rows / (3 * queryHeads)
      guard width > 0, rows % (3 * queryHeads) == 0 else {
        throw .badField(
          path: path, field: "rows of \(name)", value: "\(rows)", expected: "a multiple of 3 * \(queryHeads) heads")
      }
      return { row in
        let (head, part) = (row / (3 * width), row / width % 3)
        return (part * queryHeads + head) * width + row % width
      }
    }
    if let (count, map) = deltaNet?.storedRow(module(name)) {
      guard rows == count else {
        throw .badField(path: path, field: "rows of \(name)", value: "\(rows)", expected: "\(count)")
      }
      return map
    }
    guard pairsHeads, let heads = name.contains(".q_proj.") ? queryHeads : name.contains(".k_proj.") ? keyHeads : nil
    else { return nil }
    guard let map = GGUFFile.unpermuteRows(rowCount: rows, headCount: heads) else {
      throw .badField(
        path: path, field: "rows of \(name)", value: "\(rows)", expected: "a multiple of 2 * \(heads) heads")
    }
    return map
  }

  /// The stored column of each column of a tensor by its Hugging Face name; nil where the file has them in the same
  /// order.
  /// - Throws: `FormatError.badField` for columns that are not those of whole heads.
  package func storedColumn(
    _ name: String, columns: Int, path: String
  ) throws(FormatError) -> ((Int) -> Int)? {
    guard let (count, map) = deltaNet?.storedColumn(module(name)) else { return nil }
    guard columns == count else {
      throw .badField(path: path, field: "columns of \(name)", value: "\(columns)", expected: "\(count)")
    }
    return map
  }

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
