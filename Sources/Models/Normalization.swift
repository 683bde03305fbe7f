import Autograd
import Tensors

/// The norms of a decoder: what they compute, and what is added under their root.
package struct Normalization: Sendable, Equatable {
  package enum Form: Sendable, Equatable {
    /// x / rms(x) * weight.
    case rms
    /// x / rms(x) * (1 + weight), as Gemma stores it.
    case rmsLessOne
    /// (x - mean(x)) / deviation(x) * weight + bias.
    case layer

    /// The weight of a norm that leaves its input's scale as it is.
    var neutralWeight: Double { self == .rmsLessOne ? 0 : 1 }
  }

  package var form: Form
  package var epsilon: Double

  /// y[.., width] from x[.., width].
  func callAsFunction(_ x: Tensor, _ module: Module) throws -> Tensor {
    guard let weight = module.weight else { throw ModelError.notLoaded(module: module.name) }
    switch form {
    case .rms: return try rmsNorm(x, weight: weight, epsilon: Float(epsilon))
    case .rmsLessOne: return try rmsNorm(x, weight: weight, offset: 1, epsilon: Float(epsilon))
    case .layer:
      guard let bias = module.bias else { throw ModelError.notLoaded(module: module.name) }
      return try layerNorm(x, weight: weight, bias: bias, epsilon: Float(epsilon))
    }
  }
}
