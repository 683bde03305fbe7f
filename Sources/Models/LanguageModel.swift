import Autograd
import Formats
import Tensors
import Tokenizers

/// A decoder-only causal language model of the Llama family: modules, configuration, tokenizer.
///
/// Weights are frozen unless `trainsAllParameters`; adapters hang on the linear modules.
public final class LanguageModel {
  public let config: ModelConfig
  /// Where the model was read from: a directory, a GGUF file or a known name.
  public let path: String
  public var modules: [Module] { tree.modules }
  public let backend: any Backend
  /// How the weights were or would be read.
  public let options: LoadOptions
  public var tokenizer: Tokenizer?
  /// Whether weights are present; a header-only model can be planned and selected from, not run.
  public internal(set) var isLoaded = false
  /// Brings weights in and out when they stay on disk; nil when they are resident.
  public internal(set) var stream: WeightStream?
  /// The pages of a resident base that lies in a file, on the books once it is decided to have it so.
  var filePages: FilePages?
  /// Recompute each decoder layer in the backward pass instead of keeping its activations. Always so when streaming,
  /// since the backward pass must tell which layer it has reached.
  public var checkpointing = false
  /// Layers that are recomputed together: only the input of the first of them is kept. Streaming needs 1.
  public var checkpointInterval = 1
  /// Where the kept inputs are until the backward pass; nil keeps them in memory.
  public var checkpointStore: CheckpointStore?
  /// Seed of dropout masks and adapter initialisation.
  public var seed: UInt64 = 0
  /// Losses so far that named no masks, which number their own; part of a checkpoint.
  public var dropoutStep = 0
  public var usesAdapters = true

  private let tree: ModuleTree
  private let byName: [String: Module]
  let rotary: RotaryTables

  /// A model without weights; see `ModelLoader` and `init(random:)`.
  public init(config: ModelConfig, path: String, options: LoadOptions, backend: any Backend) throws {
    self.config = config
    self.path = path
    self.options = options
    self.backend = backend
    self.tree = ModuleTree(config)
    self.byName = Dictionary(uniqueKeysWithValues: tree.modules.map { ($0.name, $0) })
    self.rotary = try RotaryTables(config: config, backend: backend)
    for (name, kind) in options.moduleQuantization {
      guard let module = byName[name] else {
        throw ModelError.unknownModule(name: name, nearest: modules.map(\.name).filter { $0.hasSuffix(name) })
      }
      if let kind, module.kind != .linear {
        throw ModelError.badOption(
          name: "quant of \(name)", value: kind.rawValue, expected: "nothing: only linear layers are stored in 4 bits")
      }
    }
    for module in modules { module.planned = (options.quantization(of: module), options.byteCount(of: module)) }
  }

  public func module(_ name: String) -> Module? { byName[name] }

  /// The module that turns hidden states into logits: `lm_head`, or the embedding when tied.
  public var outputModule: Module { tree.output }

  /// f32 or bf16: dtype of activations and rounding of products.
  public var computeType: DType { options.computeType }

  public var adapters: [LowRankAdapter] { modules.compactMap(\.adapter) }

  /// Everything that is trained, with names, in module order.
  public var trainableParameters: [(name: String, tensor: Tensor)] {
    var found: [(String, Tensor)] = []
    for module in modules {
      if let weight = module.weight, weight.requiresGradient { found.append((module.name + ".weight", weight)) }
      if let bias = module.bias, bias.requiresGradient { found.append((module.name + ".bias", bias)) }
      if let adapter = module.adapter { found += adapter.parameters.filter { $0.tensor.requiresGradient } }
    }
    return found
  }

  /// Mean cross-entropy over the trained targets of `batch`, f32 [1]; recorded for `backward`.
  /// - Parameter denominator: divides the sum instead of the batch's own count, for exact accumulation over
  ///   several batches of one step.
  /// - Parameter masks: the dropout masks; nil takes those not used yet.
  /// - Throws: `noTrainedTokens`, `tokenOutOfRange`, `tooLong`, `headerOnly`.
  public func loss(
    _ batch: Batch, denominator: Int? = nil, masks: MaskNumber? = nil, isTraining: Bool = true
  ) throws -> Tensor {
    guard isLoaded else { throw ModelError.headerOnly(operation: "loss") }
    let trained = batch.trainedTokenCount
    guard trained > 0 else { throw ModelError.noTrainedTokens }
    let context = isTraining ? context(masks: masks ?? nextMasks()) : evaluation
    let hidden = try hiddenStates(batch, context)
    let head = outputModule
    guard let weight = head.linearWeight else { throw ModelError.notLoaded(module: head.name) }
    try check(batch.targets.filter { $0 != -100 })
    let targets = try Tensor(ids: batch.targets, on: backend)
    let scale = 1 / Float(max(1, denominator ?? trained))
    if !head.hooks.isEmpty, head.kind == .linear {
      return try crossEntropy(try head(hidden, context), labels: targets, scale: scale)
    }
    if let adapter = head.adapter, context.usesAdapters {
      return try adaptedHeadLoss(hidden, head, adapter, weight, targets, scale, context)
    }
    return try linearCrossEntropy(hidden, head: weight, labels: targets, scale: scale, precision: context.precision)
  }

  /// Logits f32 [T, V] of every position, without recording.
  /// - Throws: `headerOnly`, `emptyInput`, `tokenOutOfRange`, `tooLong`.
  public func logits(_ ids: [Int32]) throws -> Tensor {
    guard isLoaded else { throw ModelError.headerOnly(operation: "logits") }
    return try GradientMode.disabled {
      let context = evaluation
      let hidden = try hiddenStates(try Batch([(ids, nil)]), context)
      return try headLogits(hidden, context)
    }
  }

  /// Runs `body` with the base model alone.
  public func withoutAdapters<R>(_ body: () throws -> R) rethrows -> R {
    let before = usesAdapters
    usesAdapters = false
    defer { usesAdapters = before }
    return try body()
  }

  // MARK: Forward

  private func nextMasks() -> MaskNumber {
    dropoutStep += 1
    return MaskNumber(dropoutStep)
  }

  private func context(masks: MaskNumber) -> ForwardContext {
    ForwardContext(
      precision: computeType, usesAdapters: usesAdapters, isTraining: true, seed: seed, dropoutStep: masks.value)
  }

  /// Without dropout.
  private var evaluation: ForwardContext {
    ForwardContext(precision: computeType, usesAdapters: usesAdapters, isTraining: false, seed: seed, dropoutStep: 0)
  }

  private func check(_ ids: [Int32]) throws {
    for id in ids where id < 0 || Int(id) >= config.vocabularySize {
      throw ModelError.tokenOutOfRange(id: Int(id), vocabulary: config.vocabularySize)
    }
  }

  private func embed(_ ids: [Int32]) throws -> Tensor {
    guard isLoaded, let table = tree.embedding.weight else { throw ModelError.headerOnly(operation: "forward") }
    guard !ids.isEmpty else { throw ModelError.emptyInput(operation: "forward") }
    try check(ids)
    let ids = try Tensor(ids: ids, on: backend)
    return try tree.embedding.observed(ids, try embedding(table, ids: ids, dtype: computeType))
  }

  /// Final normalised hidden states [T, hidden] of a packed batch.
  func hiddenStates(_ batch: Batch, _ context: ForwardContext) throws -> Tensor {
    guard batch.longestSequence <= config.maxPositions else {
      throw ModelError.tooLong(tokens: batch.longestSequence, limit: config.maxPositions)
    }
    try decideStreaming()
    var hidden = try embed(batch.ids)
    stream?.leaveEmbedding()
    try rotary.reserve(batch.longestSequence)
    let geometry = LayerGeometry(
      cosine: rotary.cosine, sine: rotary.sine, positions: try Tensor(ids: batch.positions, on: backend),
      segments: try Tensor(ids: batch.segments, on: backend), cache: nil)
    func run(_ layers: Range<Int>, _ input: Tensor) throws -> Tensor {
      try layers.reduce(input) { hidden, index in
        try stream?.enter(index)
        return try tree.layers[index](hidden, geometry, context)
      }
    }
    if checkpointing || stream != nil {
      for start in stride(from: 0, to: config.layerCount, by: checkpointInterval) {
        let layers = start..<min(start + checkpointInterval, config.layerCount)
        hidden = try checkpointed(hidden, in: checkpointStore) { try run(layers, $0) }
      }
    } else {
      hidden = try run(0..<config.layerCount, hidden)
    }
    try stream?.enter(config.layerCount)
    return try tree.norm.normalized(hidden, epsilon: Float(config.normEpsilon))
  }

  /// Logits f32 [rows, V] of hidden states.
  func headLogits(_ hidden: Tensor, _ context: ForwardContext) throws -> Tensor {
    let logits = try outputModule(hidden, context)
    return logits.dtype == .f32 ? logits : try logits.converted(to: .f32)
  }

  /// Logits f32 [1, V] of the last of `ids`, which continue the sequence in `cache`.
  func step(_ ids: [Int32], cache: KeyValueCache) throws -> Tensor {
    try GradientMode.disabled {
      let context = evaluation
      try decideStreaming()
      var hidden = try embed(ids)
      stream?.leaveEmbedding()
      let start = cache.length
      try cache.reserve(start + ids.count)
      try rotary.reserve(start + ids.count)
      let positions = (start..<start + ids.count).map { Int32($0) }
      let geometry = LayerGeometry(
        cosine: rotary.cosine, sine: rotary.sine, positions: try Tensor(ids: positions, on: backend),
        segments: try Tensor(ids: [0, Int32(ids.count)], on: backend), cache: cache)
      for index in 0..<config.layerCount {
        try stream?.enter(index)
        hidden = try tree.layers[index](hidden, geometry, context)
      }
      cache.length += ids.count
      try stream?.enter(config.layerCount)
      let last = try hidden.narrowed(0, ids.count - 1..<ids.count)
      return try headLogits(try tree.norm.normalized(last, epsilon: Float(config.normEpsilon)), context)
    }
  }

  /// The head with an adapter: its logits are kept whole, since the adapter's gradients need them.
  private func adaptedHeadLoss(
    _ hidden: Tensor, _ head: Module, _ adapter: LowRankAdapter, _ weight: LinearWeight, _ targets: Tensor,
    _ scale: Float, _ context: ForwardContext
  ) throws -> Tensor {
    let logits = try linear(
      hidden, weight, bias: head.bias, branch: adapter.branch(context), precision: context.precision)
    return try crossEntropy(logits, labels: targets, scale: scale)
  }
}
