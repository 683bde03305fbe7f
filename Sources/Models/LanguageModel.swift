import Autograd
import Tensors
import Tokenizers

/// A decoder-only causal language model: its spec, modules and tokenizer.
///
/// Weights are frozen unless their tensors require a gradient; adapters hang on the linear modules.
public final class LanguageModel {
  /// Sizes, layers and scales.
  public let spec: DecoderSpec
  /// The file that holds the weights, or the name of a random model.
  public let origin: Origin
  /// Where the model was read from, or what a random one is called.
  public var path: String { origin.name }
  /// All modules in checkpoint order; a tied output module is there once, as the embedding.
  public var modules: [Module] { tree.modules }
  /// Where weights lie and passes are computed.
  public let backend: any Backend
  /// How the weights were or would be read.
  public let options: LoadOptions
  /// The tokenizer of the model's files; nil where there is none or only the header was read.
  public var tokenizer: Tokenizer?
  /// The token with which the model's chat template ends an answer; generation stops there. nil for none.
  public var turnEnd: Int32?
  /// What the reader has to say about the files, a sentence each: fields and tensors that are passed over, two truths
  /// about one thing.
  public internal(set) var notices: [String] = []
  /// Whether adapters were merged into the base, which is another since.
  public package(set) var isMerged = false
  /// Whether the base is another than that which was loaded: adapters were merged, or the start of one replaced
  /// weights.
  public var hasOtherWeights: Bool { isMerged || modules.contains { $0.isReplaced } }
  /// Whether weights are present; a header-only model can be planned and selected from, not run.
  public internal(set) var isLoaded = false
  /// What of it this process holds; nil for a model in one piece.
  public let stage: Stage?
  /// Whether the adapters of all stages are here for a moment, to be written.
  var isGathered = false
  /// Called before a layer computes, for what goes on beside.
  package var beforeLayer: (() throws -> Void)?
  /// Brings weights in and out when they stay on disk; nil when they are resident.
  package internal(set) var stream: WeightStream?
  /// Keeps one matrix in memory; nil where layers come and go, or all stay.
  var matrixWindow: MatrixWindow? {
    didSet { for module in modules { module.window = matrixWindow } }
  }
  /// The pages of a resident base that lies in a file, on the books once it is decided to have it so.
  var filePages: FilePages?
  /// Recompute each decoder layer in the backward pass instead of keeping its activations. Always so when streaming,
  /// since the backward pass must tell which layer it has reached.
  public var checkpointing = false
  /// Layers that are recomputed together, at least 1: only the input of the first of them is kept. Streaming needs 1.
  public var checkpointInterval = 1
  /// Where the kept inputs are until the backward pass; nil keeps them in memory.
  public var activationStore: ActivationStore?
  /// Seed of dropout masks and adapter initialisation.
  public var seed: UInt64 = 0
  /// Losses so far that named no masks, which number their own; part of a checkpoint.
  public var dropoutStep = 0
  /// Whether passes from now on add the adapters, and see the trained parts of the base.
  public var usesAdapters = true {
    didSet { placeTrainedParts() }
  }
  /// All adapters that the model holds, in the order in which their sets were made.
  public package(set) var adapterSets: [AdapterSet] = []
  /// The names of the sets that are in use, in the order in which they are applied.
  public package(set) var namesInUse: [String] = []
  /// Whether weights with adapters in them stand in the places of its own; see `MergedWeights.run`.
  var computesMerged = false

  /// Which of several experiments on the base the adapters are of, and the others; see `enter(variant:)`.
  public internal(set) var variant = 0
  var variantsAside: [Int: Variant] = [:]

  private let tree: ModuleTree
  private let byName: [String: Module]
  let rotary: RotaryEmbedding

  /// A model without weights; `ModelLoader` reads one with them.
  /// - Throws: `ModelError.fewLayers`, `.staged` for a model that cannot be cut into stages;
  ///   `ModelError.unknownModule` for a name in `options.moduleQuantization` that no module has;
  ///   `ModelError.badOption` for a 4-bit type of a module that is not linear; `TensorError.outOfMemory`.
  public init(_ spec: DecoderSpec, origin: Origin, options: LoadOptions, backend: any Backend) throws {
    self.spec = spec
    self.origin = origin
    self.options = options
    self.backend = backend
    self.tree = ModuleTree(spec)
    self.byName = Dictionary(uniqueKeysWithValues: tree.modules.map { ($0.name, $0) })
    self.rotary = try RotaryEmbedding(spec, backend: backend)
    self.stage = try options.stage.map { try Stage($0.index, of: $0.count, layerCount: spec.layerCount) }
    try checkStage()
    for (name, kind) in options.moduleQuantization {
      guard let module = byName[name] else {
        throw ModelError.unknownModule(name: name, nearest: nearestModules(to: name))
      }
      if let kind, module.kind != .linear {
        throw ModelError.badOption(
          name: "quant of \(name)", value: kind.rawValue, expected: "nothing: only linear layers are stored in 4 bits")
      }
    }
    for module in modules { module.planned = (options.quantization(of: module), nil, options.byteCount(of: module)) }
  }

  /// The module of this full name (`Module.name`); nil where there is none.
  public func module(_ name: String) -> Module? { byName[name] }

  /// The module that turns hidden states into logits: `lm_head`, or the embedding when tied.
  public var outputModule: Module { tree.output }

  /// f32 or bf16: dtype of activations and rounding of products.
  public var computeType: DType { options.computeType }

  /// The adapters in use, in module order.
  public var adapters: [Adapter] { modules.flatMap(\.adapters) }

  /// Everything that is in use and trained in this process, with names, in module order.
  public var trainableParameters: [(name: String, tensor: Tensor)] {
    var found: [(String, Tensor)] = []
    for module in isGathered ? modules : heldModules {
      if let weight = module.weight, weight.requiresGradient { found.append((module.weightName, weight)) }
      if let bias = module.bias, bias.requiresGradient { found.append((module.name + ".bias", bias)) }
      for adapter in module.adapters {
        for parameter in adapter.parameters where parameter.tensor.requiresGradient {
          found.append((adapter.uniqueName(parameter.name), parameter.tensor))
        }
      }
    }
    return found
  }

  /// Mean cross-entropy -log p(target) over the trained targets of `batch`, in nats; recorded for `backward`.
  /// - Parameters:
  ///   - batch: sequences of at most `spec.positionLimit` tokens each.
  ///   - denominator: divides the sum instead of the batch's own count, for exact accumulation over several batches of
  ///     one step; at least 1.
  ///   - masks: the dropout masks; nil takes those not used yet.
  ///   - isTraining: whether dropout is active, and the loss of the routers is added where the config says so.
  /// - Returns: f32 [1].
  /// - Throws: `ModelError.headerOnly`, `.noTrainedTokens`, `.tokenOutOfRange`, `.tooLong`; `.unreadableWeights` when
  ///   streamed; `.badReplacement`, `.recursiveHook` and what a hook throws; `.badAdapterOutput` and what an adapter's
  ///   method throws; `TensorError.badValue` for a denominator or a `checkpointInterval` below 1, `.outOfMemory`,
  ///   `.noThread` when streaming starts, and `.spillFailed` with a `activationStore`.
  public func loss(
    _ batch: Batch, denominator: Int? = nil, masks: MaskNumber? = nil, isTraining: Bool = true
  ) throws -> Tensor {
    try requireWhole("loss")
    return try pass(batch, denominator: denominator, masks: masks, isTraining: isTraining)
  }

  /// What this process computes of a loss: what its layers make of `input`, which the layers before left (nil where it
  /// has the embedding), and the loss where it has the output module.
  /// - Throws: as `loss`.
  package func pass(
    _ batch: Batch, from input: Tensor? = nil, denominator: Int? = nil, masks: MaskNumber? = nil,
    isTraining: Bool = true
  ) throws -> Tensor {
    guard isLoaded else { throw ModelError.headerOnly(operation: "loss") }
    try check(batch.targets.filter { $0 != NextToken.untrained })
    let trained = batch.trainedTokenCount
    guard trained > 0 else { throw ModelError.noTrainedTokens }
    if let denominator { try (1 ... .max).require(denominator, "denominator", operation: "loss") }
    var context = isTraining ? context(masks: masks ?? nextMasks()) : evaluation
    // The routers' loss is for training; an evaluation asks for the texts' likelihood.
    context.balance = isTraining && spec.experts?.addsBalance ?? false ? RouterBalance() : nil
    let share = denominator.map { Double(trained) / Double($0) } ?? 1
    let left = try hiddenStates(batch, context, from: input)
    if let stage, !stage.isLast { return left }
    let hidden = try finished(left)
    let head = outputModule
    let targets = try Tensor(ids: batch.targets, on: backend)
    let scale = 1 / Float(denominator ?? trained)
    // Hooks see the logits and the gradients of an adapter need them, so they are kept whole then.
    let isWatched = head.kind == .linear && (!head.hooks.isEmpty || !context.adapters(of: head).isEmpty)
    if isWatched || context.changesLogits(of: head) {
      let logits = try context.tied(try head(hidden, context), hidden, head)
      return try balanced(try crossEntropy(try capped(logits), labels: targets, scale: scale), context, share)
    }
    let loss = try linearCrossEntropy(
      hidden, head: try head.operand().weight, labels: targets, scale: scale, softCap: Float(spec.logitCap ?? 0),
      precision: context.precision)
    return try balanced(loss, context, share)
  }

  /// With the loss of the routers where the model has one, as transformers adds it. `share` is this batch's part of the
  /// trained tokens.
  private func balanced(_ loss: Tensor, _ context: ForwardContext, _ share: Double) throws -> Tensor {
    guard let balance = context.balance, let experts = spec.experts else { return loss }
    return try balance.added(share * experts.balanceCoefficient, to: loss)
  }

  /// Logits f32 [T, V] of every position, without recording and without dropout.
  /// - Throws: `ModelError.headerOnly`, `.emptyInput`, `.tokenOutOfRange`, `.tooLong`; `.unreadableWeights` when
  ///   streamed; `.badReplacement`, `.recursiveHook` and what a hook throws; `.badAdapterOutput` and what an adapter's
  ///   method throws; `TensorError.outOfMemory`, and `.noThread` when streaming starts.
  public func logits(_ ids: [Int32]) throws -> Tensor { try logits(ids, observer: nil) }

  func logits(_ ids: [Int32], observer: ((Int, Tensor, Tensor) throws -> Void)?) throws -> Tensor {
    guard isLoaded else { throw ModelError.headerOnly(operation: "logits") }
    try requireWhole("logits")
    return try GradientMode.disabled {
      let context = evaluation
      let hidden = try hiddenStates(try Batch([(ids, nil)]), context, observer: observer)
      return try headLogits(try finished(hidden), context)
    }
  }

  /// What the output module takes of every position of a batch, [T, hidden], without recording and without dropout.
  /// - Throws: as `logits`.
  func finalStates(_ batch: Batch) throws -> Tensor {
    guard isLoaded else { throw ModelError.headerOnly(operation: "logits") }
    try requireWhole("logits")
    return try GradientMode.disabled { try finished(try hiddenStates(batch, evaluation)) }
  }

  /// Logits f32 [rows, V] of rows of `finalStates`.
  /// - Throws: as `logits`.
  func logits(ofStates rows: Tensor) throws -> Tensor {
    try GradientMode.disabled { try headLogits(rows, evaluation) }
  }

  /// Runs `body` with the base model alone; `usesAdapters` is as before afterwards.
  /// - Throws: what `body` throws.
  public func withoutAdapters<R>(_ body: () throws -> R) rethrows -> R {
    let before = usesAdapters
    usesAdapters = false
    defer { usesAdapters = before }
    return try body()
  }

  // MARK: Forward

  private func nextMasks() -> MaskNumber {
    dropoutStep += 1
    return MaskNumber(unnamed: dropoutStep)
  }

  private func context(masks: MaskNumber) -> ForwardContext {
    ForwardContext(
      precision: computeType, adapters: adaptersByModule, isTraining: true, seed: seed, dropoutStep: masks.value)
  }

  /// Without dropout.
  var evaluation: ForwardContext {
    ForwardContext(
      precision: computeType, adapters: adaptersByModule, isTraining: false, seed: seed, dropoutStep: 0)
  }

  private var adaptersByModule: [ObjectIdentifier: [Adapter]] {
    guard usesAdapters, !namesInUse.isEmpty else { return [:] }
    let adapted = modules.filter { !$0.adapters.isEmpty }
    return Dictionary(uniqueKeysWithValues: adapted.map { (ObjectIdentifier($0), $0.adapters) })
  }

  func check(_ ids: [Int32]) throws {
    for id in ids where id < 0 || Int(id) >= spec.vocabularySize {
      throw ModelError.tokenOutOfRange(id: Int(id), vocabulary: spec.vocabularySize)
    }
  }

  private func embed(_ ids: [Int32], _ context: ForwardContext) throws -> Tensor {
    guard isLoaded else { throw ModelError.headerOnly(operation: "forward") }
    guard !computesMerged || context.adapters.isEmpty else { throw ModelError.adaptersOnMerged(sets: namesInUse) }
    guard !ids.isEmpty else { throw ModelError.emptyInput(operation: "forward") }
    try check(ids)
    let numbers = try Tensor(ids: ids, on: backend)
    let rows = try context.embedded(
      try embedding(try tree.embedding.operand().weight, ids: numbers, dtype: computeType), ids, tree.embedding)
    let seen = try tree.embedding.observed(numbers, rows)
    return try scaled(inPlace: seen, by: Float(spec.embeddingScale))
  }

  /// What the last layer leaves for a packed batch: [T, hidden].
  func hiddenStates(
    _ batch: Batch, _ context: ForwardContext, from input: Tensor? = nil,
    observer: ((Int, Tensor, Tensor) throws -> Void)? = nil
  ) throws -> Tensor {
    guard batch.longestSequence <= spec.positionLimit else {
      throw ModelError.tooLong(tokens: batch.longestSequence, limit: spec.positionLimit)
    }
    return try run(batch.ids, context, lengths: batch.lengths, from: input) { rotary, starts in
      LayerGeometry(
        rotary: rotary, positions: try Tensor(ids: batch.positions(from: starts), on: backend),
        segments: try Tensor(ids: batch.segments, on: backend), cache: nil, stream: stream, observer: observer)
    }
  }

  /// Brings `ids` through embedding and layers: [T, hidden], from `input` where the layers before computed it.
  /// `lengths` are those of their sequences, of which `starts` are the first rows of the rotary tables.
  func run(
    _ ids: [Int32], _ context: ForwardContext, lengths: [Int], from input: Tensor? = nil,
    _ makeGeometry: (_ rotary: [RotaryTables], _ starts: [Int]) throws -> LayerGeometry
  ) throws -> Tensor {
    try decideStreaming()
    var hidden = try input ?? embed(ids, context)
    stream?.leaveEmbedding()
    let starts = try rotary.reserve(lengths)
    let geometry = try makeGeometry(rotary.tables, starts)
    func pass(_ layers: Range<Int>, _ input: Tensor) throws -> Tensor {
      try layers.reduce(input) { hidden, index in
        try stream?.enter(index)
        try beforeLayer?()
        return try tree.layers[index](hidden, geometry, context)
      }
    }
    let own = stage?.layers ?? 0..<spec.layerCount
    if checkpointing || stream != nil {
      try (1 ... .max).require(checkpointInterval, "checkpointInterval", operation: "forward")
      for start in stride(from: own.lowerBound, to: own.upperBound, by: checkpointInterval) {
        let layers = start..<start + min(checkpointInterval, own.upperBound - start)
        hidden = try checkpointed(hidden, in: activationStore) { try pass(layers, $0) }
      }
    } else {
      hidden = try pass(own, hidden)
    }
    try stream?.enter(spec.layerCount)
    return hidden
  }

  /// Normalised hidden states as the output module takes them.
  func finished(_ hidden: Tensor) throws -> Tensor {
    // The output module is linear, so a scale of its logits may go on its input.
    try scaled(
      inPlace: try tree.norm.normalized(hidden, spec.normalization), by: Float(spec.logitScale))
  }

  /// Logits f32 [rows, V] of hidden states.
  func headLogits(_ hidden: Tensor, _ context: ForwardContext) throws -> Tensor {
    let logits = try context.tied(try outputModule(hidden, context), hidden, outputModule)
    return try capped(logits.dtype == .f32 ? logits : try logits.converted(to: .f32))
  }

  private func capped(_ logits: Tensor) throws -> Tensor {
    guard let cap = spec.logitCap else { return logits }
    return try softCapped(try convert(logits, to: .f32), Float(cap))
  }
}
