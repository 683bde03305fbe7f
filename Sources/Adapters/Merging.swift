import Models
import Quantization
import Tensors

extension LanguageModel {
  /// Adds every adapter into its weight: W := dequantized(W) + scaling * B A in f32, kept dense in the compute dtype.
  ///
  /// The sum is taken with the weights the adapter was trained on; requantizing would round most of a small change away
  /// (spec of NF4: the nearest threshold is 4 % of the block's maximum), so it is not done.
  public func mergeAdapters() throws {
    for module in modules {
      guard let adapter = module.adapter else { continue }
      let sum: Tensor
      if let quantized = module.quantized {
        sum = try quantized.dequantized(to: .f32, category: .weights)
      } else if let weight = module.weight {
        sum = try weight.converted(to: .f32, category: .weights)
      } else {
        throw ModelError.notLoaded(module: module.name)
      }
      try backend.matmul(
        adapter.b, transposeA: false, adapter.a, transposeB: false, alpha: Float(adapter.scaling), beta: 1, into: sum,
        precision: .f32)
      module.weight = computeType == .f32 ? sum : try sum.converted(to: computeType, category: .weights)
      module.quantized = nil
      module.adapter = nil
    }
  }
}
