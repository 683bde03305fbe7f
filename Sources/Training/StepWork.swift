import Models

/// Arithmetic of one optimizer step in floating-point operations, by what it runs on.
package struct StepWork: Sendable {
  /// Products with frozen matrices in 4 bits, with dense ones and of the adapters.
  package var quantized = 0.0
  package var dense = 0.0
  package var lowRank = 0.0
  /// Of attention and of recurrent layers.
  package var attention = 0.0
  /// Elements that dropout masks.
  package var masked = 0.0
  /// Bytes that the operations between the products read and write.
  package var passing = 0.0
  /// Trained elements, each updated once.
  package var updates = 0.0

  package var flops: Double { quantized + dense + lowRank + attention }

  package init() {}

  /// The work of both.
  static func += (sum: inout StepWork, other: StepWork) {
    sum.quantized += other.quantized
    sum.dense += other.dense
    sum.lowRank += other.lowRank
    sum.attention += other.attention
    sum.masked += other.masked
    sum.passing += other.passing
    sum.updates += other.updates
  }

  /// Forward and backward: 4 operations per frozen weight and token, 6 per trained one, 3.5 forward passes of causal
  /// attention (Dao 2023, section 3.2); with checkpointing the layers run forward once more.
  init(_ model: LanguageModel, _ request: PlanRequest) {
    let tokens = Double(request.batch * request.maxLength) / Double(request.ranks)
    let again = request.checkpointing ? 2.0 : 0
    var adapted = 0.0
    for module in model.modules where model.reads(module) {
      // Of experts, those of a token: how they are spread does not change their number.
      let numbers = module.isExpert ? model.spec.experts : nil
      let reached = tokens * (numbers.map { Double($0.perToken) / Double($0.count) } ?? 1)
      let size = Double(module.outFeatures) * Double(module.inFeatures) * reached
      let isHead = module === model.outputModule && model.stage?.isLast ?? true
      if module.kind == .linear || isHead {
        let perWeight = (module.weight?.requiresGradient ?? false ? 6 : 4) + (isHead ? 0 : again)
        let isDecoded = module.quantized != nil || module.blocks != nil
        if isDecoded { quantized += perWeight * size } else { dense += perWeight * size }
      }
      for adapter in module.adapters {
        // Once in the forward pass, twice in the backward pass.
        let (work, times) = (adapter.method.work(of: module), (3 + again / 2) * reached)
        lowRank += times * work.products
        masked += times * work.masked
        adapted += times * 4 * work.passed
      }
    }
    let spec = model.spec
    let queries = Double(spec.headCount * spec.headDimension)
    let pairs = tokens * Double(request.maxLength) / 2
    let layers = spec.layers[model.stage?.layers ?? 0..<spec.layerCount]
    let recurrent = Double(layers.count { $0.isRecurrent })
    attention = (request.checkpointing ? 4.5 : 3.5) * 4 * queries * pairs * (Double(layers.count) - recurrent)
    if let delta = spec.deltaNet { attention += recurrent * tokens * Self.recurrentWork(delta, request.checkpointing) }
    // Norms, rotations, gating, residuals and their gradients: about 40 passes over rows of the hidden size
    // and 14 over those of the feed-forward layer.
    let width = 40 * Double(spec.hiddenSize) + 14 * Double(spec.intermediateSize)
    passing =
      width * Double(model.computeType.byteCount) * Double(layers.count) * tokens
      + (model.stage?.isLast ?? true ? 16 * Double(spec.vocabularySize) * tokens : 0) + adapted
    updates = model.trainableParameters.reduce(0) { $0 + Double($1.tensor.elementCount) }
  }

  /// Of one token in one gated DeltaNet: three products with the state of each head, and those with half of the 64
  /// tokens of its chunk. The backward pass takes ten for the three.
  private static func recurrentWork(_ delta: DeltaNetNumbers, _ checkpointing: Bool) -> Double {
    let (keys, values) = (Double(delta.keyDimension), Double(delta.valueDimension))
    let once = Double(delta.valueHeads) * (6 * keys * values + 192 * values) + Double(delta.keyHeads) * 256 * keys
    return (checkpointing ? 5.3 : 4.3) * once
  }
}
