import Quantization
import Tensors

extension LanguageModel {
  /// A model with random weights: normal with `deviation` for matrices (transformers' initializer_range), norms
  /// that scale nothing, zeros for biases, all f32. With `trainsAllParameters` all require a gradient except quantized
  /// weights; otherwise all are frozen.
  /// - Throws: as `init(_:origin:options:backend:)`; `QuantizationError.badBlockSize`.
  package convenience init(
    random spec: DecoderSpec, name: String = "new", seed: UInt64, options: LoadOptions, trainsAllParameters: Bool,
    deviation: Double = 0.02, backend: any Backend
  ) throws {
    try self.init(spec, origin: .random(name: name), options: options, backend: backend)
    self.seed = seed
    for module in modules where reads(module) {
      module.weight = try module.initialTensor(.f32, .weights, on: backend)
      if module.weight == nil {
        let weight = try Tensor(empty: module.weightShape, category: .weights, on: backend)
        let stream = RandomStream(seed: seed, purpose: "initial_weight", module: module.name)
        try backend.fillNormal(weight, mean: 0, deviation: deviation, stream: stream)
        if let kind = options.quantization(of: module) {
          module.quantized = try FourBit.quantize(
            weight, kind: kind, blockSize: options.blockSize, double: options.doubleQuantization,
            rule: options.scaleRule, name: module.name)
        } else {
          module.weight = weight
        }
      }
      if module.hasBias {
        module.bias = try Tensor(full: module.biasShape, value: 0, category: .weights, on: backend)
      }
      if trainsAllParameters {
        module.weight?.requiresGradient = true
        module.bias?.requiresGradient = true
      }
    }
    isLoaded = true
  }
}
