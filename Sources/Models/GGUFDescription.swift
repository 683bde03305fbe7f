import Formats

/// The metadata of a GGUF file that is written, and the tensors beside the weights. Keys without a prefix stand under
/// the architecture's, as in `GGUFFields`.
package struct GGUFDescription {
  package let architecture: String
  package private(set) var values: [(key: String, value: GGUFValue)]
  /// Vectors of f32 that belong to no module.
  package private(set) var vectors: [(name: String, values: [Float])] = []

  package init(architecture: String) {
    self.architecture = architecture
    values = [("general.architecture", .string(architecture))]
  }

  package mutating func set(_ name: String, _ value: GGUFValue) {
    let key = name.hasPrefix("general.") || name.hasPrefix("tokenizer.") ? name : "\(architecture).\(name)"
    values.removeAll { $0.key == key }
    values.append((key, value))
  }

  package mutating func set(_ name: String, _ count: Int) { set(name, .unsigned(UInt64(count))) }
  package mutating func set(_ name: String, _ number: Double) { set(name, .float32(Float(number))) }

  mutating func add(_ name: String, _ numbers: [Double]) { vectors.append((name, numbers.map { Float($0) })) }
}

extension DecoderSpec {
  /// What llama.cpp reads about a decoder of this kind, in the keys that `init(gguf:)` reads.
  /// - Throws: `ModelError.notInGGUF` for what such files cannot say.
  func ggufDescription() throws -> GGUFDescription {
    let architecture = try ggufWriting().architecture
    guard let reader = GGUFArchitecture.table[architecture] else {
      throw ModelError.notInGGUF(family: modelType, what: ["family"])
    }
    let fields = reader.fieldsNotRead(of: self)
    guard fields.isEmpty else { throw ModelError.notInGGUF(family: modelType, what: fields) }
    var gguf = GGUFDescription(architecture: architecture)
    gguf.set("general.type", .string("model"))
    gguf.set("vocab_size", vocabularySize)
    gguf.set("context_length", maxPositions)
    gguf.set("embedding_length", hiddenSize)
    gguf.set("block_count", layerCount)
    gguf.set("feed_forward_length", intermediateSize)
    gguf.set("attention.head_count", headCount)
    gguf.set("attention.head_count_kv", keyValueHeadCount)
    gguf.set("attention.key_length", headDimension)
    gguf.set("attention.value_length", headDimension)
    gguf.set(
      normalization.form == .layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", normEpsilon)
    gguf.set("rope.dimension_count", rope.width(headDimension: headDimension))
    rope.write(into: &gguf, headDimension: headDimension)
    if Families.named(modelType)?.slidingRope != nil,
      let own = layers.first(where: { $0.window != nil }).flatMap({ rope(of: $0) })
    {
      gguf.set("rope.freq_base_swa", own.theta)
    }
    Families.named(modelType)?.write(self, into: &gguf)
    return gguf
  }

  /// The architecture that GGUF files of this decoder name, and how they lay out its tensors.
  /// - Throws: `ModelError.notInGGUF` where llama.cpp computes no such decoder.
  package func ggufWriting() throws -> (architecture: String, layout: GGUFLayout) {
    guard let writer = Families.named(modelType)?.ggufWriter, let architecture = writer.ggufArchitecture else {
      throw ModelError.notInGGUF(family: modelType, what: ["family"])
    }
    guard writer.modules.experts == nil else { throw ModelError.notInGGUF(family: modelType, what: ["experts"]) }
    var layout = writer.ggufLayout
    layout.deltaNet = deltaNet.flatMap { writer.modules.deltaNet?.inGGUF($0) }
    return (architecture, layout)
  }

  /// This decoder as a file of `ggufDescription` says it: what llama.cpp leaves out, and has in other words.
  func inGGUF() throws -> DecoderSpec {
    var spec = self
    // llama.cpp knows no windows of Mistral's; that is said.
    if modelType == "mistral" { for index in layers.indices { spec.layers[index].window = nil } }
    if try ggufCopiesEmbedding() { spec.tiesEmbeddings = false }
    spec.rope = rope.inGGUF(headDimension: headDimension, maxPositions: maxPositions)
    return spec
  }

  /// Whether the embedding is written a second time, as the output matrix that llama.cpp asks for.
  func ggufCopiesEmbedding() throws -> Bool {
    let architecture = try ggufWriting().architecture
    return tiesEmbeddings && GGUFArchitecture.table[architecture]?.output == .always
  }

  /// Names of config.json's fields in which a spec read from a GGUF file differs from this one; f32 holds numbers
  /// there.
  func fieldsLost(in read: DecoderSpec) -> [String] {
    let others: Set = [
      "architectures", "model_type", "torch_dtype", "dtype", "quantization_config", "bos_token_id", "eos_token_id",
      "pad_token_id", "transformers_version",
    ]
    let (own, stored) = (whole.toJSON().object ?? JSONObject(), read.toJSON().object ?? JSONObject())
    return own.filter { key, value in
      guard !others.contains(key) else { return false }
      guard let found = stored[key] else { return modelType == read.modelType && !value.isNull }
      return !value.isNear(found)
    }.map(\.0).sorted()
  }
}

extension Rope {
  /// The keys that `init(_:_:headDimension:maxPositions:)` reads.
  fileprivate func write(into gguf: inout GGUFDescription, headDimension: Int) {
    gguf.set("rope.freq_base", theta)
    func scaling(_ type: String) { gguf.set("rope.scaling.type", .string(type)) }
    switch self.scaling {
    case .none, .dynamic: break
    case .linear(let factor):
      scaling("linear")
      gguf.set("rope.scaling.factor", factor)
    case .yarn(let yarn):
      scaling("yarn")
      gguf.set("rope.scaling.factor", yarn.factor)
      gguf.set("rope.scaling.original_context_length", yarn.originalPositions)
      // llama.cpp computes the usual factor, and multiplies it by attn_factor.
      let usual = YaRN.attentionFactor(yarn.factor)
      gguf.set("rope.scaling.yarn_attn_factor", usual)
      if yarn.attentionFactor != usual { gguf.set("rope.scaling.attn_factor", yarn.attentionFactor / usual) }
      gguf.set("rope.scaling.yarn_beta_fast", yarn.betaFast)
      gguf.set("rope.scaling.yarn_beta_slow", yarn.betaSlow)
    case .longrope(let long):
      scaling("longrope")
      gguf.set("rope.scaling.attn_factor", long.attentionFactor)
      gguf.set("rope.scaling.original_context_length", long.originalPositions)
      gguf.add(Self.factorTensors.short, long.shortFactors)
      gguf.add(Self.factorTensors.long, long.longFactors)
    case .llama3: gguf.add("rope_freqs.weight", divisors(headDimension: headDimension))
    }
  }

  /// By what the scaling divides each frequency.
  private func divisors(headDimension: Int) -> [Double] {
    let slowed = frequencies(headDimension: headDimension, length: 1)
    let plain = Rope(theta: theta).frequencies(headDimension: width(headDimension: headDimension), length: 1)
    return zip(plain, slowed).map { Double($0 / $1) }
  }

  /// The same frequencies as a reader finds them: the numbers of llama3 scaling are not in a file, but what follows
  /// from them is.
  fileprivate func inGGUF(headDimension: Int, maxPositions: Int) -> Rope {
    guard case .llama3 = scaling else { return self }
    var read = self
    read.scaling = divided(by: divisors(headDimension: headDimension), maxPositions: maxPositions)
    return read
  }
}

extension JSON {
  /// Whether both are the same but for numbers rounded to f32.
  fileprivate func isNear(_ other: JSON) -> Bool {
    if let a = double, let b = other.double { return abs(a - b) <= 1e-6 * max(abs(a), abs(b)) }
    if let a = array, let b = other.array { return a.count == b.count && zip(a, b).allSatisfy { $0.isNear($1) } }
    if let a = object, let b = other.object {
      return a.count == b.count && a.allSatisfy { key, value in b[key].map { value.isNear($0) } ?? false }
    }
    return self == other
  }
}
