import Models
import Tensors

extension LanguageModel {
  /// Adds every adapter in use into its weight, as its method does in f32, and keeps the weight dense in the compute
  /// dtype.
  ///
  /// The sum is taken with the weights the adapter was trained on; requantizing would round most of a small change away
  /// (spec of NF4: the nearest threshold is 4 % of the block's maximum), so it is not done.
  /// - Throws: `AdapterError.othersWouldBeLeft` where there are sets that are not in use: they were made for the base as
  ///   it is. `ModelError.notLoaded`, `TensorError.outOfMemory`.
  public func mergeAdapters() throws {
    let others = adapterSets.map(\.name).filter { !namesInUse.contains($0) }
    guard others.isEmpty else { throw AdapterError.othersWouldBeLeft(names: others) }
    for module in modules where !module.adapters.isEmpty {
      let (weight, bias) = try module.merged(category: .weights)
      module.weight = computeType == .f32 ? weight : try weight.converted(to: computeType, category: .weights)
      (module.quantized, module.blocks) = (nil, nil)
      bias?.requiresGradient = module.bias?.requiresGradient ?? false
      module.bias = bias
    }
    removeAdapters()
  }
}
