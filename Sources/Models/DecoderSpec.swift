import Formats
import Tensors

/// What a decoder is: a value that loading, saving, planning and computing read. It comes from `config.json`, from GGUF
/// metadata or from the table of published models, and its family (`DecoderFamily`) says how.
///
/// Counts are elements. Values from files are checked, so that products of two sizes cannot overflow.
public struct DecoderSpec: Sendable, Equatable {
  /// What one layer does differently from others.
  public struct Layer: Sendable, Hashable {
    /// Which rotary embedding turns queries and keys.
    public enum Rotation: Sendable, Hashable {
      /// The model's `rope`.
      case model
      /// A rope of the layer's own.
      case own(Rope)
      /// Positions are seen through the causal mask alone.
      case none
    }

    /// Tokens a query may look back to, itself included; nil for full attention.
    public var window: Int?
    /// The rotary embedding of the layer.
    public var rotation = Rotation.model
    /// Whether experts stand in the place of the feed-forward layer.
    public package(set) var hasExperts = false
    /// Whether a gated DeltaNet stands in the place of attention.
    public package(set) var isRecurrent = false

    /// Full attention with the model's rope.
    public init() {}
  }

  /// `model_type` of config.json.
  public let modelType: String
  /// Width of the residual stream, 1 to 2^20.
  public package(set) var hiddenSize: Int
  /// Width of the feed-forward layer, 1 to 2^22.
  public package(set) var intermediateSize: Int
  /// Query heads of a layer, 1 to 2^14.
  public package(set) var headCount: Int
  /// Key and value heads of a layer; a divisor of `headCount`.
  public package(set) var keyValueHeadCount: Int
  /// Width of one head: even, at most 2^14.
  public package(set) var headDimension: Int
  /// Rows of the embedding, 1 to 2^24; token ids are below it.
  public package(set) var vocabularySize: Int
  /// `max_position_embeddings`, 1 to 2^30.
  public package(set) var maxPositions: Int

  /// The modules of a layer, with their names, shapes and biases.
  package var modules: LayerModules
  /// Of the layers that have experts; nil where none has.
  public package(set) var experts: ExpertNumbers?
  /// Of the layers that are recurrent; nil where none is.
  public package(set) var deltaNet: DeltaNetNumbers?
  /// One for each layer.
  public package(set) var layers: [Layer]
  /// Number of decoder layers, 1 to 4096 from a file.
  public var layerCount: Int { layers.count }
  /// What modules outside the layers are called, and the layers themselves.
  package var outerNames: OuterNames
  /// What the norms compute.
  package var normalization: Normalization
  /// Added to the mean square or the variance in norms; between 0 and 1.
  public package(set) var normEpsilon: Double {
    get { normalization.epsilon }
    set { normalization.epsilon = newValue }
  }
  /// The activation of the feed-forward layer.
  package var activation: Activation
  /// The rotary embedding of layers without one of their own.
  public package(set) var rope = Rope()
  /// Whether the embedding is the output matrix too.
  public package(set) var tiesEmbeddings = false
  /// Whether attention and feed-forward layer both read the layer's input, instead of one after the other.
  public package(set) var isParallel: Bool
  /// Multiplies the rows of the embedding.
  public package(set) var embeddingScale: Double = 1
  /// Multiplies what attention and feed-forward layer add to the residual stream.
  public package(set) var residualScale: Double = 1
  /// Multiplies products of queries and keys; nil is 1 / sqrt(headDimension).
  public package(set) var attentionScale: Double?
  /// Scores s of attention become cap * tanh(s / cap); nil leaves them as they are.
  package var scoreCap: Double?
  /// Multiplies the logits.
  public package(set) var logitScale: Double = 1
  /// Logits z become cap * tanh(z / cap); nil leaves them as they are.
  package var logitCap: Double?

  /// Token that opens a text; nil where the file names none.
  public package(set) var bosTokenID: Int?
  /// Tokens that end a text; generation stops at each.
  public package(set) var eosTokenIDs: [Int] = []
  /// Token that fills up batches elsewhere; batches here have no padding.
  public package(set) var padTokenID: Int?
  /// As written in the file, for example `bfloat16`.
  public package(set) var storedType: String?
  /// Unchanged from the file; interpreted by whoever knows the quantization.
  public package(set) var quantizationConfig: JSON?

  /// A decoder of `family` with these sizes and the family's modules. Not checked; see `validate`.
  package init(
    _ family: any DecoderFamily.Type, hiddenSize: Int, intermediateSize: Int, layerCount: Int, headCount: Int,
    keyValueHeadCount: Int, headDimension: Int, vocabularySize: Int, maxPositions: Int
  ) {
    modelType = family.modelType
    self.hiddenSize = hiddenSize
    self.intermediateSize = intermediateSize
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headDimension = headDimension
    self.vocabularySize = vocabularySize
    self.maxPositions = maxPositions
    modules = family.modules
    outerNames = family.outerNames
    normalization = Normalization(form: family.normalization, epsilon: 1e-6)
    activation = family.activation
    isParallel = family.isParallel
    layers = Array(repeating: Layer(), count: layerCount)
  }

  /// Scale of the products of queries and keys.
  package var queryKeyScale: Float { attentionScale.map { Float($0) } ?? 1 / Float(headDimension).squareRoot() }

  /// The rope that a layer applies; nil for none.
  package func rope(of layer: Layer) -> Rope? {
    switch layer.rotation {
    case .model: rope
    case .own(let rope): rope
    case .none: nil
    }
  }

  /// The different ropes of the layers.
  package var ropes: [Rope] {
    var found: [Rope] = []
    for case let rope? in layers.map(rope(of:)) where !found.contains(rope) { found.append(rope) }
    return found
  }

  /// Most tokens of one sequence: `maxPositions`, or what a scaling of positions was made for where that is more.
  public var positionLimit: Int { max(maxPositions, ropes.compactMap(\.stretchedPositions).max() ?? 0) }

  /// Gives layers with a window this rope.
  mutating func setRope(ofWindows own: Rope) {
    for index in layers.indices where layers[index].window != nil {
      layers[index].rotation = own == rope ? .model : .own(own)
    }
  }

  package func size(_ width: LayerModule.Width) -> Int {
    switch width {
    case .hidden: hiddenSize
    case .inner: intermediateSize
    case .queries: headCount * headDimension
    case .keys: keyValueHeadCount * headDimension
    case .head: headDimension
    case .heads: headCount
    case .queriesKeysAndValues: size(.queries) + 2 * size(.keys)
    case .gateAndUp: 2 * intermediateSize
    case .expert: experts?.width ?? 0
    case .expertGateAndUp: 2 * (experts?.width ?? 0)
    case .experts: experts?.count ?? 0
    case .sharedExpert: experts?.sharedWidth ?? 0
    case .one: 1
    case .queriesAndGates: 2 * size(.queries)
    case .deltaRows: deltaNet?.rows ?? 0
    case .deltaValues: deltaNet?.values ?? 0
    case .deltaHead: deltaNet?.valueDimension ?? 0
    case .deltaHeads: deltaNet?.valueHeads ?? 0
    case .deltaRowsAndGates: size(.deltaRows) + size(.deltaValues)
    case .deltaRates: 2 * size(.deltaHeads)
    }
  }

  /// The modules of a layer, in checkpoint order.
  package func modules(ofLayer index: Int) -> [LayerModule] {
    let layer = layers[index]
    return modules.all(recurrent: layer.isRecurrent, experts: layer.hasExperts ? experts?.count : nil)
  }

  /// The same decoder as a model of its own, which is what is written of one that is a part of another.
  var whole: DecoderSpec {
    var alone = self
    if let family = Families.named(modelType) { alone.outerNames = family.outerNames }
    return alone
  }

  /// Whether the decoder is a part of a multimodal model.
  package var isPart: Bool { outerNames != whole.outerNames }

  /// What a module is called in `whole`.
  package func savedName(_ name: String) -> String {
    let own = whole.outerNames
    if name.hasPrefix(outerNames.layers) { return own.layers + name.dropFirst(outerNames.layers.count) }
    return [outerNames.embedding: own.embedding, outerNames.norm: own.norm, outerNames.output: own.output][name] ?? name
  }

  /// A number of layers from a file, before it sizes a list.
  static func checked(layerCount: Int, path: String) throws(FormatError) -> Int {
    guard (1...4096).contains(layerCount) else {
      throw .badField(path: path, field: "num_hidden_layers", value: "\(layerCount)", expected: "1 to 4096")
    }
    return layerCount
  }

  /// Numbers of the arithmetic, which are computed with in f32, and so are the inverses of some.
  static let factors = (range: 1e-38...1e38, words: "1e-38 to 1e38")

  /// Checks the numbers; `path` is named in the error.
  package func validate(path: String) throws(FormatError) {
    let limits: [(String, Int, Int)] = [
      ("hidden_size", hiddenSize, 1 << 20), ("intermediate_size", intermediateSize, 1 << 22),
      ("num_attention_heads", headCount, 1 << 14),
      ("num_key_value_heads", keyValueHeadCount, headCount), ("head_dim", headDimension, 1 << 14),
      ("vocab_size", vocabularySize, 1 << 24), ("max_position_embeddings", maxPositions, 1 << 30),
    ]
    for (field, value, most) in limits where value < 1 || value > most {
      throw .badField(path: path, field: field, value: "\(value)", expected: "1 to \(most)")
    }
    if let experts { try experts.validate(path: path) }
    if let deltaNet { try deltaNet.validate(path: path) }
    guard headCount % keyValueHeadCount == 0 else {
      throw .badField(
        path: path, field: "num_attention_heads", value: "\(headCount)",
        expected: "a multiple of num_key_value_heads (\(keyValueHeadCount))")
    }
    guard headDimension % 2 == 0 else {
      throw .badField(path: path, field: "head_dim", value: "\(headDimension)", expected: "an even number")
    }
    guard Self.factors.range.contains(normEpsilon), normEpsilon < 1 else {
      let field = normalization.form == .layer ? "layer_norm_eps" : "rms_norm_eps"
      throw .badField(path: path, field: field, value: "\(normEpsilon)", expected: "at least 1e-38 and below 1")
    }
    let numbers = [
      ("rope_theta", rope.theta), ("embedding_multiplier", embeddingScale), ("residual_multiplier", residualScale),
      ("attention_multiplier", attentionScale), ("logits_scaling", 1 / logitScale),
      ("attn_logit_softcapping", scoreCap), ("final_logit_softcapping", logitCap),
    ]
    for case (let field, let value?) in numbers where !Self.factors.range.contains(value) {
      throw .badField(path: path, field: field, value: "\(value)", expected: Self.factors.words)
    }
    for rope in ropes { try rope.validate(headDimension: headDimension, path: path) }
    for window in layers.compactMap(\.window) where window < 1 || window > 1 << 30 {
      throw .badField(path: path, field: "sliding_window", value: "\(window)", expected: "1 to 2^30")
    }
    for id in [bosTokenID, padTokenID].compactMap({ $0 }) + eosTokenIDs where id < -1 || id >= 1 << 24 {
      throw .badField(path: path, field: "token id", value: "\(id)", expected: "below 2^24")
    }
  }
}
