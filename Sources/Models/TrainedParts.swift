import Tensors

/// Parts of a base module that are trained as a whole beside the adapters, and what they stand for: PEFT's
/// `modules_to_save` and `bias`. A header-only model has the flags alone.
public struct TrainedParts {
  /// Whether the weight is trained.
  public let trainsWeight: Bool
  /// Whether the bias is trained.
  public let trainsBias: Bool
  /// f32 copies that take the places of weight and bias; nil where not trained or not loaded.
  public let weight: Tensor?
  /// See `weight`.
  public let bias: Tensor?
  let originalWeight: Tensor?
  let originalBias: Tensor?

  /// Copies of the parts of `module`, charged to the adapters; the module does not change.
  /// - Throws: `TensorError.outOfMemory`, or what the device reports.
  public init(of module: Module, weight trainsWeight: Bool, bias trainsBias: Bool, requiresGradient: Bool) throws {
    func copy(_ tensor: Tensor?, _ isTrained: Bool) throws -> Tensor? {
      guard isTrained, let tensor else { return nil }
      let copy = try Tensor(empty: tensor.shape, category: .adapters, on: tensor.backend)
      try tensor.backend.copy(tensor, into: copy)
      copy.requiresGradient = requiresGradient
      return copy
    }
    self.trainsWeight = trainsWeight
    self.trainsBias = trainsBias && module.hasBias
    (originalWeight, originalBias) = (module.weight, module.bias)
    weight = try copy(module.weight, trainsWeight)
    bias = try copy(module.bias, trainsBias)
  }

  /// Elements that are trained.
  public var elementCount: Int { (weight?.elementCount ?? 0) + (bias?.elementCount ?? 0) }

  /// Puts the trained parts into the module, or the original ones back.
  func place(in module: Module, trained: Bool) {
    if trainsWeight { module.weight = trained ? weight : originalWeight }
    if trainsBias { module.bias = trained ? bias : originalBias }
  }
}
