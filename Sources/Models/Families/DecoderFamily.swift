import Formats
import Tensors

/// A family of decoders: everything that sets it apart from Llama, whose ways are the defaults. One family is one file
/// of this folder and one line of `Families.all`.
package protocol DecoderFamily: SendableMetatype {
  /// `model_type` of config.json.
  static var modelType: String { get }
  /// The class in `architectures` of config.json.
  static var className: String { get }
  /// `general.architecture` of GGUF files; nil where such files carry another family's.
  static var ggufArchitecture: String? { get }
  /// The family as which GGUF files hold models of this one.
  static var ggufWriter: any DecoderFamily.Type { get }
  /// Whether GGUF files hold the rows of q and k in the order of llama.cpp's rotary embedding.
  static var ggufPairsHeads: Bool { get }
  /// Whether GGUF files hold the weights of norms plus one.
  static var ggufAddsOneToNorms: Bool { get }
  static var modules: LayerModules { get }
  static var outerNames: OuterNames { get }
  static var normalization: Normalization.Form { get }
  static var activation: Activation { get }
  static var isParallel: Bool { get }
  /// Whether only a part of each head may turn (`partial_rotary_factor`).
  static var rotatesPartOfHeads: Bool { get }
  /// The theta of layers with a window, in a family where they have a rope of their own; nil where all layers turn
  /// alike.
  static var slidingRope: SlidingRope? { get }
  /// What this family's configs call a `rope_type` besides its name.
  static var ropeTypeNames: [String: String] { get }
  /// Keys of config.json that `read` reads besides those of every family; see `ConfigTable`.
  static var ownKeys: [String: FieldDecision] { get }
  /// Decisions about keys of rope_parameters that differ from those of `ConfigTable.rope`.
  static var ownRopeKeys: [String: FieldDecision] { get }
  /// Keys of GGUF metadata that `read` reads besides those of every family, without the architecture; see `GGUFTable`.
  static var ownGGUFKeys: [String: FieldDecision] { get }
  /// Tensors that hold the matrices of all experts of a layer in some files.
  static var expertRows: [TensorStacks.Rows] { get }
  /// Ends of the names of tensors that old checkpoints have and nothing reads.
  static var leftovers: [String] { get }
  /// Beginnings of the names of tensors that belong to other parts of a checkpoint and nothing reads.
  static var leftoverParts: [String] { get }
  /// The multimodal family whose text model is of this one; nil for none.
  static var multimodal: MultimodalFamily? { get }
  /// What transformers takes where config.json says nothing.
  static var defaults: ConfigDefaults { get }
  /// Sizes of the small random model that stands for one of this family (`--smoke`).
  static var smokeSizes: SmokeSizes { get }
  /// Published models by the last part of their hub name in lower case, as config.json without `model_type`.
  static var published: [String: JSON] { get }

  /// Whether a GGUF file of `ggufArchitecture` is of this family; the first family that says so reads it.
  static func reads(_ gguf: GGUFFile) -> Bool
  /// Reads what only this family has in config.json.
  static func read(_ fields: ConfigFields, into spec: inout DecoderSpec) throws(FormatError)
  /// Reads what only this family has in GGUF metadata.
  static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError)
  /// Writes what only this family has in config.json.
  static func write(_ spec: DecoderSpec, into json: inout JSONObject)
  /// Writes what only this family has in GGUF metadata.
  static func write(_ spec: DecoderSpec, into gguf: inout GGUFDescription)
}

/// Values of absent keys of config.json.
package struct ConfigDefaults: Sendable {
  /// nil: one for each query head.
  package var keyValueHeadCount: Int?
  /// nil: hidden size over heads.
  package var headDimension: Int?
  package var maxPositions = 2048
  package var normEpsilon = 1e-6
  package var ropeTheta: Double = 10000
  package var partialRotaryFactor: Double = 1
  /// original_max_position_embeddings beside the rope parameters; it goes before the one inside.
  package var originalPositions: Int?
  package var tiesEmbeddings = false
  package var bosTokenID: Int? = 1
  package var eosTokenIDs = [2]
  package var padTokenID: Int?
  /// Sizes that a config of this family may leave out, by their keys; others must be there.
  package var sizes: [String: Int] = [:]
}

/// The theta of layers with a window.
package struct SlidingRope: Sendable {
  /// The key of config.json that holds it; nil where only rope_parameters does.
  package let thetaKey: String?
  /// Where nothing is said.
  package let theta: Double
}

package struct SmokeSizes: Sendable {
  package var hidden = 64
  package var intermediate = 128
  package var heads = 4
  /// Key heads where the model shares them between query heads.
  package var sharedHeads = 2
  package var headDimension = 16
  package var experts = 4
  package var expertsPerToken = 2
  package var expertWidth = 32
  package var maxPositions = 2048
  package var vocabulary = 256
}

extension DecoderFamily {
  package static var ggufArchitecture: String? { modelType }
  package static var ggufWriter: any DecoderFamily.Type { Self.self }
  package static var ggufPairsHeads: Bool { false }
  package static var ggufAddsOneToNorms: Bool { false }
  package static var expertRows: [TensorStacks.Rows] { [] }
  package static var leftovers: [String] { [] }
  package static var leftoverParts: [String] { [] }
  package static var ownRopeKeys: [String: FieldDecision] { [:] }
  package static var multimodal: MultimodalFamily? { nil }
  package static var modules: LayerModules { LayerModules() }
  package static var outerNames: OuterNames { OuterNames() }
  package static var normalization: Normalization.Form { .rms }
  package static var activation: Activation { .silu }
  package static var isParallel: Bool { false }
  package static var rotatesPartOfHeads: Bool { false }
  package static var slidingRope: SlidingRope? { nil }
  package static var ropeTypeNames: [String: String] { [:] }
  package static var ownKeys: [String: FieldDecision] { [:] }
  package static var ownGGUFKeys: [String: FieldDecision] { [:] }
  package static var defaults: ConfigDefaults { ConfigDefaults() }
  package static var smokeSizes: SmokeSizes { SmokeSizes() }
  package static var published: [String: JSON] { [:] }
  package static func reads(_ gguf: GGUFFile) -> Bool { true }
  package static func read(_ fields: GGUFFields, into spec: inout DecoderSpec) throws(FormatError) {}
  package static func write(_ spec: DecoderSpec, into gguf: inout GGUFDescription) {}

  /// Names and order of this family's tensors in GGUF files.
  package static var ggufLayout: GGUFLayout {
    let all = modules.all + (modules.deltaNet?.all ?? []) + (modules.experts?.ofEveryToken ?? [])
    return GGUFLayout(
      whole: outerNames.inGGUF, layers: outerNames.layers,
      block: all.filter { !$0.isVector }.map { ($0.gguf, $0.name) },
      stacks: (modules.experts?.stacks ?? []).map { ($0.gguf, $0.name) },
      partners: modules.experts.flatMap { experts in experts.partner.map { [(experts.stacks[0].gguf, $0)] } } ?? [],
      vectors: all.filter(\.isVector).map { ($0.gguf, $0.name) },
      pairsHeads: ggufPairsHeads,
      fusedHeads: modules.attention.form == .perHead ? modules.attention.inputs[0].name : nil,
      addsOneToNorms: ggufAddsOneToNorms, plainNorms: all.filter { $0.normalization != nil }.map(\.name))
  }

  /// The tensors in safetensors that are not a module's own.
  package static var tensorStacks: TensorStacks {
    let experts = modules.experts.flatMap { $0.isStacked ? $0.stacks : nil } ?? []
    return TensorStacks(modules: experts.map(\.name), rows: expertRows)
  }

  /// A row of `published`: its sizes (hidden, intermediate, layers, heads, key-value heads, head dimension) and
  /// whatever else its config.json says.
  package static func sizes(
    _ s: (Int, Int, Int, Int, Int, Int), vocabulary: Int, positions: Int, _ others: JSON
  ) -> JSON {
    var json = others.object ?? JSONObject()
    json["hidden_size"] = .int(s.0)
    json["intermediate_size"] = .int(s.1)
    json["num_hidden_layers"] = .int(s.2)
    json["num_attention_heads"] = .int(s.3)
    json["num_key_value_heads"] = .int(s.4)
    json["head_dim"] = .int(s.5)
    json["vocab_size"] = .int(vocabulary)
    json["max_position_embeddings"] = .int(positions)
    if json["torch_dtype"] == nil { json["torch_dtype"] = "bfloat16" }
    return .object(json)
  }
}

/// The families that the engine knows.
package enum Families {
  package static let all: [any DecoderFamily.Type] = [
    // GGUF files call it llama too.
    Mixtral.self,
    Llama.self, Mistral.self, Qwen2.self, Qwen3.self,
    Qwen3MoE.self,
    Qwen35.self, Qwen35MoE.self, Qwen3Next.self,
    OLMoE.self,
    GPTOSS.self,
    Granite.self,
    SmolLM3.self,
    OLMo3.self,
    OLMo2.self,
    Phi3.self,
    Gemma.self,
    Gemma2.self,
    Gemma3.self,
    GPTNeoX.self,
  ]

  package static func named(_ modelType: String) -> (any DecoderFamily.Type)? {
    all.first { $0.modelType == modelType }
  }

  /// The family whose text models are a part of checkpoints of this `model_type`.
  static func multimodal(
    _ modelType: String?
  ) -> (family: any DecoderFamily.Type, whole: MultimodalFamily)? {
    for family in all {
      if let whole = family.multimodal, whole.modelType == modelType { return (family, whole) }
    }
    return nil
  }

  package static func reading(_ ggufArchitecture: String, _ gguf: GGUFFile) -> (any DecoderFamily.Type)? {
    all.first { $0.ggufArchitecture == ggufArchitecture && $0.reads(gguf) }
  }

  /// The error for a family that `field` of a file names and nothing here computes.
  static func unsupported(
    _ name: String?, path: String, field: String, supported: [String]
  ) -> FormatError {
    let kind = name.flatMap(UnsupportedFamilies.named)
    return .unsupportedFamily(
      path: path, field: field, value: name ?? "absent", nearest: kind?.nearest, difference: kind?.difference,
      supported: supported)
  }

  /// How the family that reads the file lays out its tensors.
  package static func layout(_ gguf: GGUFFile) -> GGUFLayout? {
    let architecture = gguf.metadata["general.architecture"]?.string ?? ""
    guard let family = reading(architecture, gguf) else { return nil }
    var layout = family.ggufLayout
    if let modules = family.modules.deltaNet {
      let fields = GGUFFields(file: gguf, architecture: architecture)
      layout.deltaNet = (try? DeltaNetNumbers(fields)).map { modules.inGGUF($0) }
      layout.layerCount = try? fields.layerCount()
    }
    return layout
  }

  /// Names that `published` accepts, sorted.
  package static var publishedNames: [String] { table.keys.sorted() }

  /// The config.json of a published model by its hub name; see `DecoderSpec.known`.
  package static func published(_ name: String) -> JSON? {
    var key = name.lowercased()
    if let slash = key.lastIndex(of: "/") { key = String(key[key.index(after: slash)...]) }
    for suffix in ["-hf", "-instruct", "-chat", "-base"] where key.hasSuffix(suffix) {
      key = String(key.dropLast(suffix.count))
    }
    for part in ["-chat-", "-instruct-", "-base-"] { key = key.replacing(part, with: "-") }
    if key.hasPrefix("meta-llama-") { key = String(key.dropFirst(5)) }
    return table[key]
  }

  private static let table: [String: JSON] = {
    var table: [String: JSON] = [:]
    for family in all {
      for (name, json) in family.published {
        var members = json.object ?? JSONObject()
        members["model_type"] = .string(family.modelType)
        table[name] = .object(members)
      }
    }
    return table
  }()
}
