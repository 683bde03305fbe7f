import Autograd
import Tensors

/// What mixes the tokens of a layer, between its norm and the residual stream.
protocol TokenMixer {
  /// y[T, hidden] from x[T, hidden].
  func callAsFunction(_ x: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor
}

/// The gated DeltaNet of one decoder layer (Yang et al. 2024): projections, a short convolution, the gated delta rule
/// in chunks, a norm of each head, the gate, and the output projection.
struct DeltaNet: TokenMixer {
  private let index: Int
  private let form: DeltaNetModules.Form
  private let numbers: DeltaNetNumbers
  /// They share their input.
  private let inputs: [Module]
  private let convolution, rates, bias, output: Module
  private let norm: Norm?

  /// That of layer `index`, without weights.
  init(
    _ places: DeltaNetModules, _ numbers: DeltaNetNumbers, _ spec: DecoderSpec, index: Int,
    _ make: (LayerModule) -> Module
  ) {
    (self.index, self.numbers, form) = (index, numbers, places.form)
    inputs = places.inputs.map(make)
    (convolution, rates, bias) = (make(places.convolution), make(places.rates), make(places.bias))
    norm = Norm(places.norm, spec, make)
    output = make(places.output)
  }

  func callAsFunction(_ x: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor {
    let projected = try projections(of: x, context)
    let decay = try headDecays(projected[3], rate: try rates.loadedWeight(), bias: try bias.loadedWeight())
    let beta = try unary(.sigmoid, projected[2])
    let mixed: Tensor
    if let cache = geometry.cache {
      mixed = try cache.recur(layer: index, projected[0], numbers, convolve: convolved) {
        mixed, rows, segments, state in
        try deltaRule(
          mixed, decay: try decay.narrowed(0, rows), beta: try beta.narrowed(0, rows), shape(segments), state: state)
      }
    } else {
      mixed = try deltaRule(
        try convolved(projected[0], geometry.segments), decay: decay, beta: beta, shape(geometry.segments))
    }
    return try output(try gated(.silu, gate: projected[1], up: try norm?(mixed) ?? mixed), context)
  }

  /// Queries, keys and values together, the gates, the strengths of writing and the decays.
  private func projections(of x: Tensor, _ context: ForwardContext) throws -> [Tensor] {
    let made = try Module.outputs(of: inputs, x, context)
    guard form == .perHead else { return made }
    let heads = numbers.keyHeads, perKey = numbers.valueHeads / heads, values = perKey * numbers.valueDimension
    let rows = try splitColumns(
      made[0], groups: heads, widths: [numbers.keyDimension, numbers.keyDimension, values, values])
    let rates = try splitColumns(made[1], groups: heads, widths: [perKey, perKey])
    return [try concatenate(Array(rows[..<3]), axis: 1), rows[3], rates[0], rates[1]]
  }

  private func convolved(_ x: Tensor, _ segments: Tensor) throws -> Tensor {
    try convolution.observed(
      x, try causalConvolution(x, weight: try convolution.loadedWeight(), segments: segments))
  }

  private func shape(_ segments: Tensor) -> DeltaRuleShape {
    DeltaRuleShape(
      keyHeads: numbers.keyHeads, valueHeads: numbers.valueHeads, keyDim: numbers.keyDimension,
      valueDim: numbers.valueDimension, segments: segments)
  }
}
