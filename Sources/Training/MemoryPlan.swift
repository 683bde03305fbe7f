import Models
import Tensors

/// What a training step will need, computed from shapes alone.
public struct PlanRequest: Sendable {
  /// Sequences of one forward pass, and tokens of each.
  public var microBatch: Int
  public var maxLength: Int
  /// Sequences of one optimizer step.
  public var batch: Int
  public var checkpointing: Bool
  /// Bytes of optimizer state per trained parameter (8 for AdamW in 32 bits, about 2 in 8 bits).
  public var stateBytesPerParameter: Double
  /// Bytes of optimizer state that stay in memory, when it is paged.
  public var stateBudget: Int?

  public init(
    microBatch: Int, maxLength: Int, batch: Int, checkpointing: Bool, stateBytesPerParameter: Double,
    stateBudget: Int? = nil
  ) {
    self.microBatch = microBatch
    self.maxLength = maxLength
    self.batch = batch
    self.checkpointing = checkpointing
    self.stateBytesPerParameter = stateBytesPerParameter
    self.stateBudget = stateBudget
  }
}

/// Memory by category and by moment of the step, disk, and arithmetic.
public struct MemoryPlan: Sendable {
  public var categories: [(name: String, bytes: Int)] = []
  public var moments: [(name: String, bytes: Int)] = []
  public var trainableCount = 0
  public var parameterCount = 0
  /// Bytes of the spill file of a paged optimizer.
  public var diskBytes = 0
  public var flopsPerStep = 0.0

  public var peak: Int { moments.map(\.bytes).max() ?? 0 }
}

extension MemoryPlan {
  /// Plans one step of `model`, which may be header-only.
  ///
  /// Activations are what the rules in Autograd save (DecoderRules): per layer and token the residual stream twice, q, k,
  /// v, the attention output, gate and up in the compute dtype, and the low-rank activations and row statistics in f32;
  /// normalised inputs and the product of gate and up are computed again.
  public init(_ model: LanguageModel, _ request: PlanRequest) {
    let config = model.config
    let tokens = request.microBatch * request.maxLength
    let bytes = model.computeType.byteCount
    let adapters = model.adapters
    trainableCount = model.trainableParameters.reduce(0) { $0 + $1.tensor.elementCount }
    parameterCount = model.modules.reduce(0) { $0 + $1.parameterCount }

    let weights = model.modules.reduce(0) { $0 + model.plannedByteCount($1) }
    let adapterBytes = adapters.reduce(0) { $0 + 4 * ($1.a.elementCount + $1.b.elementCount) }
    let gradients = 4 * trainableCount
    let state = Int(request.stateBytesPerParameter * Double(trainableCount))
    let residentState = min(state, request.stateBudget ?? state)
    diskBytes = state - residentState

    let queries = config.headCount * config.headDimension
    let keys = config.keyValueHeadCount * config.headDimension
    let hidden = config.hiddenSize
    let perTokenLayer =
      bytes * (2 * hidden + 2 * queries + 2 * keys + 2 * config.intermediateSize) + 4 * (config.headCount + 2)
      + 4 * adapters.filter { model.module($0.moduleName)?.layer == 0 }.reduce(0) { $0 + $1.rank }
    let allLayers = perTokenLayer * tokens * config.layerCount
    let saved = request.checkpointing
      ? tokens * bytes * hidden * (config.layerCount + 1) + perTokenLayer * tokens : allLayers
    // One layer's backward holds gradients of gate, up and their product, or f32 sums of dK and dV of every query head,
    // and a few of width `hidden`.
    let transient = tokens * (4 * bytes * hidden + max(3 * bytes * config.intermediateSize, 8 * queries))
    let chunk = min(tokens, 128) * config.vocabularySize * 4
    let head = chunk + 2 * tokens * hidden * bytes

    categories = [
      ("weights", weights), ("adapters", adapterBytes), ("gradients", gradients), ("optimizer", residentState),
      ("activations", saved + transient), ("workspace", chunk),
    ]
    let resident = weights + adapterBytes + residentState
    moments = [
      ("load", weights + largestLoadedTensor(model)),
      ("forward", resident + saved + head),
      ("backward", resident + gradients + saved + transient),
      ("optimizer", resident + gradients),
    ]
    flopsPerStep = MemoryPlan.flops(model, tokens: request.batch * request.maxLength, length: request.maxLength)
      * (request.checkpointing ? 4.0 / 3.0 : 1)
  }

  /// f32 copy of the largest tensor that is quantized while loading.
  private func largestLoadedTensor(_ model: LanguageModel) -> Int {
    model.modules.filter { $0.kind == .linear }.map { 4 * $0.outFeatures * $0.inFeatures }.max() ?? 0
  }

  /// Forward and backward of the frozen products (4 per weight and token), the adapters (6) and causal attention.
  private static func flops(_ model: LanguageModel, tokens: Int, length: Int) -> Double {
    var perToken = 0.0
    for module in model.modules where module.kind == .linear {
      perToken += 4 * Double(module.outFeatures) * Double(module.inFeatures)
      if let adapter = module.adapter { perToken += 6 * Double(adapter.a.elementCount + adapter.b.elementCount) }
    }
    if model.config.tiesEmbeddings {
      perToken += 4 * Double(model.config.vocabularySize) * Double(model.config.hiddenSize)
    }
    let queries = Double(model.config.headCount * model.config.headDimension)
    let attention = 3.5 * 2 * 2 * queries * Double(length) / 2 * Double(model.config.layerCount)
    return (perToken + attention) * Double(tokens)
  }
}

extension LanguageModel {
  /// Bytes of a module's tensors: as loaded, or as they will be loaded under the model's options.
  public func plannedByteCount(_ module: Module) -> Int { module.byteCount }
}
