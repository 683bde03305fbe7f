import Models
import Tensors

extension LanguageModel {
  /// Adds every adapter in use into its weight, as its method does in f32, and keeps the weight dense in the compute
  /// dtype.
  ///
  /// The sum is taken with the weights the adapter was trained on; requantizing would round most of a small change away
  /// (spec of NF4: the nearest threshold is 4 % of the block's maximum), so it is not done.
  ///
  /// A module that is merged has no adapter any more, so that after an error the model still computes the same, and the
  /// call can be made again.
  /// - Throws: `AdapterError.othersWouldBeLeft` where there are sets that are not in use: they were made for the base
  ///   as it is. `ModelError.mergeUnties`, `.notLoaded`, `TensorError.outOfMemory`.
  public func mergeAdapters() throws {
    let others = adapterSets.map(\.name).filter { !namesInUse.contains($0) }
    guard others.isEmpty else { throw AdapterError.othersWouldBeLeft(names: others) }
    guard !hasVariants else { throw ModelError.notTogether(module: path, .merge) }
    try checkMergeable()
    isMerged = true
    tokenizer = mergedTokenizer
    for module in modules {
      if let parts = module.trained { try keep(parts, in: module) }
      guard !module.adapters.isEmpty else { continue }
      let (weight, bias) = try module.merged(category: .weights)
      module.weight = computeType == .f32 ? weight : try weight.converted(to: computeType, category: .weights)
      (module.quantized, module.blocks) = (nil, nil)
      bias?.requiresGradient = module.bias?.requiresGradient ?? false
      module.bias = bias
      removeAdapters(of: module)
    }
    removeAdapters()
  }

  /// What was trained as a whole is the base's own from now on, and frozen.
  private func keep(_ parts: TrainedParts, in module: Module) throws {
    module.trained = nil
    for tensor in [parts.weight, parts.bias] { tensor?.requiresGradient = false }
    if let weight = parts.weight {
      let stays = computeType == .f32 || module.kind.isWide
      module.weight = stays ? weight : try weight.converted(to: computeType, category: .weights)
    }
    if let bias = parts.bias { module.bias = bias }
  }
}
