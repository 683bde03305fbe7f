import Autograd
import Tensors

/// What a model has of one of several experiments on its base: the adapters, and what numbers their masks.
struct Variant {
  var adapterSets: [AdapterSet] = []
  var namesInUse: [String] = []
  var seed: UInt64
  var dropoutStep = 0

  /// The adapters in use by module, in the order in which they are applied.
  var adaptersByModule: [ObjectIdentifier: [Adapter]] {
    let used = namesInUse.compactMap { name in adapterSets.first { $0.name == name } }
    return Dictionary(grouping: used.flatMap(\.members)) { ObjectIdentifier($0.module) }.mapValues {
      $0.map(\.adapter)
    }
  }
}

/// A micro-batch of one variant.
public struct VariantPart: Sendable {
  /// The number of the variant.
  public let variant: Int
  /// What it trains on.
  public let part: MicroBatch

  /// A part of a shared pass.
  public init(variant: Int, part: MicroBatch) {
    self.variant = variant
    self.part = part
  }
}

/// Several experiments on one base. Of each the model looks as if it were alone: all it has is its own adapters. They
/// take turns (`enter`), or share passes (`losses`).
extension LanguageModel {
  /// Puts the adapters of the present variant aside and takes up those of another. A new one has none. The first is 0.
  /// - Throws: `ModelError.notTogether` where parts of the base are trained, which all variants would see.
  public func enter(variant number: Int) throws {
    guard number != variant else { return }
    if let module = modules.first(where: { $0.trained != nil }) {
      throw ModelError.notTogether(module: module.name, .trainedPart)
    }
    variantsAside[variant] = present
    let next = variantsAside.removeValue(forKey: number) ?? Variant(seed: seed)
    variant = number
    (adapterSets, seed, dropoutStep) = (next.adapterSets, next.seed, next.dropoutStep)
    use(next.namesInUse)
  }

  /// Whether another variant than the present one has the base too.
  package var hasVariants: Bool { variant != 0 || !variantsAside.isEmpty }

  /// Goes back to variant 0 and forgets all others, with their adapters.
  /// - Throws: as `enter`.
  public func leaveVariants() throws {
    try enter(variant: 0)
    variantsAside = [:]
  }

  /// Forgets the adapters of a variant that is not the present one.
  public func drop(variant number: Int) { variantsAside[number] = nil }

  /// The present variant as one that is put aside.
  private var present: Variant {
    Variant(adapterSets: adapterSets, namesInUse: namesInUse, seed: seed, dropoutStep: dropoutStep)
  }

  /// The mean cross-entropies of several variants in one pass over the base, each as `loss` gives it in a pass of its
  /// own up to rounding; recorded for `backward`, with dropout. A gradient reaches the adapters of its own variant
  /// alone.
  /// - Parameter parts: of variants that have adapters.
  /// - Returns: f32 [parts].
  /// - Throws: as `loss`; `ModelError.notTogether` for what cannot share a pass.
  public func losses(_ parts: [VariantPart]) throws -> Tensor {
    guard isLoaded else { throw ModelError.headerOnly(operation: "losses") }
    try checkSharing(parts.map(\.variant))
    var (shares, losses, row): ([RowShare], [LossRows], Int) = ([], [], 0)
    for part in parts {
      let batch = part.part.batch
      let trained = batch.trainedTokenCount
      guard trained > 0 else { throw ModelError.noTrainedTokens }
      if let denominator = part.part.denominator {
        try (1 ... .max).require(denominator, "denominator", operation: "losses")
      }
      let rows = row..<row + batch.tokenCount
      shares.append(RowShare(rows: rows, context: context(of: part)))
      losses.append(LossRows(rows: rows, scale: 1 / Float(part.part.denominator ?? trained)))
      row = rows.upperBound
    }
    let batch = Batch(joining: parts.map(\.part.batch))
    var context = ForwardContext(precision: computeType, adapters: [:], isTraining: true, seed: 0, dropoutStep: 0)
    context.shares = shares
    let hidden = try finished(try hiddenStates(batch, context))
    guard let head = outputModule.linearWeight else { throw ModelError.notLoaded(module: outputModule.name) }
    try check(batch.targets.filter { $0 != NextToken.untrained })
    return try linearCrossEntropy(
      hidden, head: head, labels: try Tensor(ids: batch.targets, on: backend), losses: losses,
      softCap: Float(spec.logitCap ?? 0), precision: context.precision)
  }

  /// What the rows of a part have alone; masks without a number are those that its variant has not used yet.
  private func context(of part: VariantPart) -> ForwardContext {
    var state = part.variant == variant ? present : variantsAside[part.variant] ?? Variant(seed: seed)
    var masks = part.part.masks
    if masks == nil {
      state.dropoutStep += 1
      masks = MaskNumber(unnamed: state.dropoutStep)
      if part.variant == variant { dropoutStep = state.dropoutStep } else { variantsAside[part.variant] = state }
    }
    return ForwardContext(
      precision: computeType, adapters: state.adaptersByModule, isTraining: true, seed: state.seed,
      dropoutStep: masks?.value ?? 0)
  }

  /// What would see or change the rows of another variant cannot share a pass.
  private func checkSharing(_ numbers: [Int]) throws {
    if spec.experts != nil { throw ModelError.notTogether(module: path, .experts) }
    for module in modules {
      if module.trained != nil || module.weight?.requiresGradient ?? false || module.bias?.requiresGradient ?? false {
        throw ModelError.notTogether(module: module.name, .trainedPart)
      }
      if module.isReplaced { throw ModelError.notTogether(module: module.name, .baseChange) }
      if !module.hooks.isEmpty { throw ModelError.notTogether(module: module.name, .hook) }
    }
    for number in numbers {
      let sets = number == variant ? adapterSets : variantsAside[number]?.adapterSets ?? []
      for (module, adapter) in sets.flatMap(\.members) {
        if !module.isLayerMatrix { throw ModelError.notTogether(module: module.name, .outsideLayers) }
        if adapter.baseChange != nil { throw ModelError.notTogether(module: module.name, .baseChange) }
      }
    }
  }
}

extension Batch {
  /// Packed batches one behind the other.
  init(joining batches: [Batch]) {
    var segments: [Int32] = [0]
    for batch in batches { segments += batch.segments.dropFirst().map { [end = segments.last ?? 0] in $0 + end } }
    self.init(
      ids: batches.flatMap(\.ids), targets: batches.flatMap(\.targets), positions: batches.flatMap(\.positions),
      segments: segments)
  }
}
