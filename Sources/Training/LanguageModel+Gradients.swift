import Models
import Optimizers
import Tensors

extension LanguageModel {
  /// Everything that is trained, as an optimizer takes it: names of PEFT, and the factor on the rate of each tensor.
  public var optimizedParameters: [OptimizedParameter] {
    var factors: [ObjectIdentifier: Double] = [:]
    for parameter in adapters.flatMap(\.parameters) {
      factors[ObjectIdentifier(parameter.tensor)] = parameter.learningRateFactor
    }
    return trainableParameters.map { name, tensor in
      OptimizedParameter(name: name, tensor: tensor, learningRateFactor: factors[ObjectIdentifier(tensor)] ?? 1)
    }
  }

  /// Names of what is trained and got no gradient, or one of zeros: it takes no part in the loss. An adapter is named
  /// by its module when none of its tensors has one. Of the others those count that the backward pass did not reach: B
  /// starts at zero, so A's first gradient is zero.
  /// - Throws: `TensorError.outOfMemory`.
  public func missingGradients() throws -> [String] {
    var missing: [String] = []
    for module in heldModules {
      let own = [(module.weightName, module.weight), (module.name + ".bias", module.bias)]
      for (name, tensor) in own {
        if let tensor, tensor.requiresGradient, try Gradients.isMissing(tensor) { missing.append(name) }
      }
      for adapter in module.adapters {
        let trained = adapter.parameters.filter { $0.tensor.requiresGradient }
        if !trained.isEmpty, try trained.allSatisfy({ try Gradients.isMissing($0.tensor) }) {
          missing.append(module.name)
        } else {
          missing += trained.filter { $0.tensor.gradient == nil }.map { $0.name }
        }
      }
    }
    return missing
  }

  /// Names of what is trained and whose gradient holds a NaN or an infinity.
  /// - Throws: `TensorError.outOfMemory`.
  public func nonFiniteGradients() throws -> [String] {
    try trainableParameters.filter { try Gradients.isNonFinite($0.tensor) }.map(\.name)
  }
}
