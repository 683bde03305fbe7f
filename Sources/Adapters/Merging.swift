import Models
import Tensors

extension LanguageModel {
  /// Adds every adapter into its weight, as its method does in f32, and keeps the weight dense in the compute dtype.
  ///
  /// The sum is taken with the weights the adapter was trained on; requantizing would round most of a small change away
  /// (spec of NF4: the nearest threshold is 4 % of the block's maximum), so it is not done.
  /// - Throws: `ModelError.notLoaded`, `TensorError.outOfMemory`.
  public func mergeAdapters() throws {
    for module in modules {
      guard let adapter = module.adapter else { continue }
      let weight = try module.denseWeight(category: .weights)
      let bias = try module.bias?.converted(to: .f32, category: .weights)
      try adapter.method.merge(adapter.tensors, weight: weight, bias: bias)
      module.weight = computeType == .f32 ? weight : try weight.converted(to: computeType, category: .weights)
      (module.quantized, module.blocks) = (nil, nil)
      bias?.requiresGradient = module.bias?.requiresGradient ?? false
      module.bias = bias
      module.adapter = nil
    }
  }
}
