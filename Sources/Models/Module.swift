import Autograd
import Quantization
import Tensors

/// What a module computes; the raw value is its name in texts.
public enum ModuleKind: String, Sendable {
  /// A product with a matrix, a table of rows by token id, and a norm.
  case linear, embedding, norm
  /// A causal convolution of each channel, and numbers that other modules compute with.
  case convolution, vector

  /// Whether its few numbers are f32 whatever they are stored in.
  package var isWide: Bool { self == .norm || self == .convolution || self == .vector }
}

/// A module of the model tree: a named place with a shape, and, once loaded, its tensors and adapters.
///
/// A header-only model has modules without tensors, so that selection and planning need no weights.
public final class Module {
  /// Full dotted name without `.weight`, as in the checkpoint: `model.layers.0.self_attn.q_proj`.
  public let name: String
  /// What the module computes.
  public let kind: ModuleKind
  /// Last component of the name: `q_proj`, `lm_head`, `input_layernorm`.
  public let role: String
  /// Number of the expert of many that it belongs to, which only some tokens reach; the families say `experts.N.` in
  /// its name. nil outside experts.
  package let expert: Int?
  /// Number of the decoder layer as in the tensor names (0-based), nil outside the layers.
  public let layer: Int?
  /// Columns of the weight ([out, in]); for an embedding and a norm the width, for a vector its length, for a
  /// convolution the tokens that it sees.
  public let inFeatures: Int
  /// Rows of the weight; for an embedding the vocabulary, for a norm or a vector 1, for a convolution the channels.
  public let outFeatures: Int
  /// Whether the spec gives it a bias [out].
  public let hasBias: Bool
  /// Whether it is the matrix that chooses experts, which is never stored in 4 bits by default.
  public let isRouter: Bool
  /// What the weight of a new model is.
  let initial: InitialWeight

  /// [out, in] (linear), [vocabulary, width] (embedding), [width] (norm, vector) or [channels, 1, tokens]
  /// (convolution), unless quantized.
  public var weight: Tensor?
  /// The weight in 4 bits, in place of `weight`.
  public var quantized: QuantizedOperand?
  /// The weight in a block format of its file, in place of `weight`.
  public var blocks: BlockOperand?
  /// f32 [out]; [in] of a norm.
  public var bias: Tensor?
  /// The adapters in use, whose changes add up; at most one of each set of the model.
  public package(set) var adapters: [Adapter] = []
  /// The first adapter in use; nil for none.
  public var adapter: Adapter? { adapters.first }
  /// What of the base is trained as a whole; nil for nothing. What it replaced comes back when it goes.
  public var trained: TrainedParts? {
    didSet {
      oldValue?.place(in: self, trained: false)
      trained?.place(in: self, trained: true)
    }
  }
  /// The hooks in the order in which they are called; see `addHook`.
  public internal(set) var hooks: [ForwardHook] = []
  /// What the module computes with instead of its own weight and bias for a while.
  package var standIn: StandIn?
  /// What the module tells that its matrix is needed; nil where matrices stay or layers come and go.
  var window: MatrixWindow?
  /// What loading will make of the module, for a model of which only the header was read.
  var planned: (quantization: FourBitKind?, format: GGMLType?, byteCount: Int) = (nil, nil, 0)
  /// Whether an adapter's start put another weight into the place of that which was loaded.
  private(set) var isReplaced = false

  init(
    name: String, kind: ModuleKind, layer: Int?, inFeatures: Int, outFeatures: Int, hasBias: Bool = false,
    isRouter: Bool = false, initial: InitialWeight = .random
  ) {
    self.name = name
    self.kind = kind
    self.role = name.split(separator: ".").last.map(String.init) ?? name
    self.layer = layer
    expert = Self.expert(in: name)
    self.inFeatures = inFeatures
    self.outFeatures = outFeatures
    self.hasBias = hasBias
    self.isRouter = isRouter
    self.initial = initial
  }

  /// A module of a decoder layer.
  convenience init(_ module: LayerModule, of spec: DecoderSpec, layer: Int) {
    let name = "\(spec.outerNames.layers)\(layer).\(module.name)"
    switch module.form {
    case .linear(let input, let output):
      self.init(
        name: name, kind: .linear, layer: layer, inFeatures: spec.size(input), outFeatures: spec.size(output),
        hasBias: module.hasBias, isRouter: module.isRouter)
    case .norm(let width):
      let form = module.normalization ?? spec.normalization.form
      self.init(
        name: name, kind: .norm, layer: layer, inFeatures: spec.size(width), outFeatures: 1, hasBias: form == .layer,
        initial: .constant(form.neutralWeight))
    case .convolution(let channels):
      self.init(
        name: name, kind: .convolution, layer: layer, inFeatures: spec.deltaNet?.taps ?? 0,
        outFeatures: spec.size(channels))
    case .vector(let count, let initial):
      self.init(
        name: name, kind: .vector, layer: layer, inFeatures: spec.size(count), outFeatures: 1, initial: initial)
    }
  }

  /// [out, in]; [in] of a norm or a vector; [out, 1, in] of a convolution.
  public var weightShape: [Int] {
    switch kind {
    case .linear, .embedding: [outFeatures, inFeatures]
    case .norm, .vector: [inFeatures]
    case .convolution: [outFeatures, 1, inFeatures]
    }
  }

  /// What a checkpoint calls the weight: behind the module's name, but a vector is called as the module.
  package var weightName: String { name + weightEnding }

  var weightEnding: String { kind == .vector ? "" : ".weight" }

  /// [out]; [in] of a norm.
  var biasShape: [Int] { kind == .norm ? [inFeatures] : [outFeatures] }

  /// Whether it is a matrix of a decoder layer, which is what adapters are for by default: every linear module but the
  /// output matrix.
  public var isLayerMatrix: Bool { kind == .linear && layer != nil }

  /// Whether it is a matrix of one expert of many, which only some tokens reach.
  public var isExpert: Bool { expert != nil }

  private static func expert(in name: String) -> Int? {
    let parts = name.utf8.split(separator: UInt8(ascii: "."))
    guard let index = parts.firstIndex(where: { $0.elementsEqual("experts".utf8) }), index + 1 < parts.count else {
      return nil
    }
    return Int(Substring(parts[index + 1]))
  }

  /// Whether 4 bits are for it by default: a matrix of a decoder layer that is no router.
  public var isFourBitByDefault: Bool { isLayerMatrix && !isRouter }

  /// Number of frozen or trained parameters, without the adapter.
  public var parameterCount: Int { outFeatures * inFeatures + (hasBias ? biasShape[0] : 0) }

  /// Whether the weight is present; false in a header-only model.
  public var isLoaded: Bool { weight != nil || quantized != nil || blocks != nil }

  /// Bytes of the tensors as loaded, or as they will be, without the adapter.
  public var byteCount: Int {
    guard isLoaded else { return planned.byteCount }
    return (quantized?.byteCount ?? blocks?.byteCount ?? weight?.byteCount ?? 0) + (bias?.byteCount ?? 0)
  }

  /// The 4-bit type of the weight as loaded, or as it will be.
  public var quantization: FourBitKind? { isLoaded ? quantized?.kind : planned.quantization }

  /// The block format in which the weight is kept as its file has it, or will be; nil for another form.
  public var blockFormat: GGMLType? { isLoaded ? blocks?.format : planned.format }

  /// The name of the form in which the weight is stored in few bits, as loaded or as it will be: "nf4", "Q4_K".
  public var storedForm: String? { quantization?.rawValue ?? blockFormat?.name }

  /// Puts a weight in 4 bits into the place of the dense one; nil notes it for a header-only model.
  package func replaceWeight(with operand: QuantizedOperand?, kind: FourBitKind, byteCount: Int) {
    planned = (kind, nil, byteCount)
    isReplaced = true
    guard let operand else { return }
    (weight, quantized) = (nil, operand)
  }

  /// All that is frozen: what of it is a view of a file comes and goes when the base is streamed.
  package var tensors: [Tensor?] {
    [
      weight, bias, quantized?.codes, quantized?.absmax, quantized?.codebook, quantized?.nested?.absmax,
      quantized?.nested?.map, blocks?.bytes, blocks?.rows.second,
    ]
  }

  /// A new f32 tensor with the values of the weight, dequantized where it is stored in few bits.
  /// Shape `weightShape`. It is charged to `category`.
  /// - Throws: `ModelError.notLoaded`, `TensorError.outOfMemory`.
  public func denseWeight(category: MemoryCategory = .activations) throws -> Tensor {
    if let quantized { return try quantized.dequantized(to: .f32, category: category) }
    if let blocks { return try blocks.dequantized(to: .f32, category: category) }
    guard let weight else { throw ModelError.notLoaded(module: name) }
    return try weight.converted(to: .f32, category: category)
  }

  /// The frozen weight under the adapters in use, a new f32 tensor: what is left of it where their start took a part
  /// out.
  /// - Throws: as `denseWeight`.
  package func adaptedWeight(category: MemoryCategory) throws -> Tensor {
    try adapter?.baseChange?.residual?.converted(to: .f32, category: category) ?? denseWeight(category: category)
  }

  /// A new weight, f32 `weightShape`, and a new bias with the adapters in use added; the module stays as it is.
  /// - Throws: `ModelError.notLoaded`, `TensorError.outOfMemory`.
  package func merged(category: MemoryCategory) throws -> (weight: Tensor, bias: Tensor?) {
    let weight = try adaptedWeight(category: category)
    let bias = try bias?.converted(to: .f32, category: category)
    for adapter in adapters { try adapter.method.merge(adapter.tensors, weight: weight, bias: bias) }
    return (weight, bias)
  }

  /// The weight of a module that is never stored in few bits.
  func loadedWeight() throws -> Tensor {
    guard let weight else { throw ModelError.notLoaded(module: name) }
    return weight
  }

  /// The matrix as a product takes it; nil until loaded.
  package var linearWeight: LinearWeight? {
    if let quantized { return .quantized(quantized) }
    if let blocks { return .blocks(blocks) }
    return weight.map { .dense($0) }
  }

  /// y[.., width] from x[.., width], of a norm.
  func normalized(_ x: Tensor, _ form: Normalization) throws -> Tensor {
    try observed(x, try form(x, self))
  }

  /// y[T, out] from x[T, in]: base product, bias and adapter.
  func callAsFunction(_ x: Tensor, _ context: ForwardContext) throws -> Tensor {
    try Module.outputs(of: [self], x, context)[0]
  }

  /// The outputs of modules that share their input, computed together.
  static func outputs(of modules: [Module], _ x: Tensor, _ context: ForwardContext) throws -> [Tensor] {
    guard context.shares.isEmpty else { return try sharedOutputs(of: modules, x, context) }
    // One matrix at a time.
    if modules.count > 1, modules.contains(where: { $0.standIn != nil || $0.window != nil }) {
      return try modules.flatMap { try outputs(of: [$0], x, context) }
    }
    let layers = try modules.map { module in
      let adapter = context.adapters(of: module).first
      let own = try module.operand()
      return LinearLayer(
        weight: adapter?.baseChange?.residual.map { .dense($0) } ?? own.weight, bias: own.bias,
        branch: adapter?.branch(context))
    }
    let products = try linear(x, layers, precision: context.precision)
    // As a rule there is nothing to add, and nobody looks.
    if context.adapters.isEmpty, modules.allSatisfy({ $0.hooks.isEmpty }) { return products }
    return try zip(modules, products).map { module, base in
      // The branch of the first is computed together with the base product.
      let adapters = context.adapters(of: module)
      let y = try adapters.dropFirst(adapters.first?.lowRank == nil ? 0 : 1).reduce(base) {
        try $1.applied(to: $0, x, of: module, context)
      }
      // A tied embedding is the output module too; its hooks see the embedding, not the logits.
      return module.kind == .linear ? try module.observed(x, y) : y
    }
  }
}

/// What a forward pass needs to know besides its input; a value, so that recomputation sees the same.
public struct ForwardContext: Sendable {
  /// How products round their operands: f32 or bf16.
  public var precision: DType
  /// The adapters that are added, by module. Those in use may be others when the pass is recomputed.
  var adapters: [ObjectIdentifier: [Adapter]]
  /// Whether dropout is active.
  public var isTraining: Bool
  /// Seed of the dropout masks.
  public var seed: UInt64
  /// Numbers the forward passes of a run, so that each has masks of its own.
  public var dropoutStep: Int
  /// Counts what the routers of a model with experts choose; nil where nobody asks.
  package var balance: RouterBalance?
  /// Whose rows are which where variants share the pass; what is said above is then that of none.
  var shares: [RowShare] = []

  /// What is added to a product; an embedding has other places for its own (`EmbeddingMethod`).
  func adapters(of module: Module) -> [Adapter] { module.kind == .linear ? allAdapters(of: module) : [] }

  func allAdapters(of module: Module) -> [Adapter] { adapters[ObjectIdentifier(module)] ?? [] }

  /// Random numbers of one purpose in one module, new for each training pass and the same when it is recomputed.
  public func randomStream(_ purpose: String, module: String) -> RandomStream {
    RandomStream(seed: seed, purpose: purpose, step: dropoutStep, module: module)
  }
}
