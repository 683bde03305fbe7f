import Autograd
import Tensors

/// A dense feed-forward layer or an expert, in the form that `FeedForwardModules` says.
struct FeedForward {
  private let form: FeedForwardModules.Form
  private let activation: Activation
  /// They share their input.
  private let inputs: [Module]
  private let output: Module

  /// A layer without weights.
  init(_ places: FeedForwardModules, _ activation: Activation, _ make: (LayerModule) -> Module) {
    (form, self.activation) = (places.form, activation)
    inputs = places.inputs.map(make)
    output = make(places.output)
  }

  /// y[T, hidden] from x[T, hidden].
  func callAsFunction(_ x: Tensor, _ context: ForwardContext) throws -> Tensor {
    let made = try Module.outputs(of: inputs, x, context)
    switch form {
    case .gated: return try output(try gated(activation, gate: made[0], up: made[1]), context)
    case .fusedGate:
      let width = output.inFeatures
      let parts = try splitColumns(made[0], widths: [width, width])
      return try output(try gated(activation, gate: parts[0], up: parts[1]), context)
    case .alternatingGate:
      let parts = try splitColumns(made[0], groups: output.inFeatures, widths: [1, 1])
      return try output(try gated(activation, gate: parts[0], up: parts[1]), context)
    case .plain: return try output(try activated(activation, made[0]), context)
    }
  }
}
