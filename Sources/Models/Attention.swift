import Autograd
import Tensors

/// Attention of one decoder layer: projections, norms of q and k, rotation, the causal softmax, and the output
/// projection, in the form that `AttentionModules` says.
struct Attention: TokenMixer {
  private let form: AttentionModules.Form
  private let index: Int
  private let heads, keyValueHeads, headDimension, window: Int
  private let isGated: Bool
  /// Which of the model's rotary tables; nil for none.
  private let rotary: Int?
  private let scale, softCap: Float
  /// They share their input.
  private let inputs: [Module]
  private let queryNorm, keyNorm: Norm?
  private let output: Module
  private let sinks: Module?

  /// Attention of layer `index`, without weights.
  init(_ spec: DecoderSpec, index: Int, _ make: (LayerModule) -> Module) {
    self.index = index
    (heads, keyValueHeads, headDimension) = (spec.headCount, spec.keyValueHeadCount, spec.headDimension)
    let own = spec.layers[index]
    window = own.window ?? 0
    rotary = spec.rope(of: own).flatMap { spec.ropes.firstIndex(of: $0) }
    (scale, softCap) = (spec.queryKeyScale, Float(spec.scoreCap ?? 0))
    let places = spec.modules.attention
    (form, isGated) = (places.form, places.isGated)
    inputs = places.inputs.map(make)
    output = make(places.output)
    sinks = places.sinks.map(make)
    (queryNorm, keyNorm) = (Norm(places.queryNorm, spec, make), Norm(places.keyNorm, spec, make))
  }

  /// y[T, hidden] from x[T, hidden].
  func callAsFunction(_ x: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor {
    var projected = try projections(of: x, context)
    let gate = isGated ? projected.removeLast() : nil
    let q = try rotated(try normalized(projected[0], queryNorm), heads: heads, geometry)
    let k = try rotated(try normalized(projected[1], keyNorm), heads: keyValueHeads, geometry)
    try geometry.observer?(index, q, k)
    if let sinks, sinks.weight == nil { throw ModelError.notLoaded(module: sinks.name) }
    let shape = AttentionShape(
      heads: heads, kvHeads: keyValueHeads, headDim: headDimension, segments: geometry.segments, window: window,
      scale: scale, softCap: softCap, sinks: sinks?.weight)
    let mixed: Tensor
    if let cache = geometry.cache {
      mixed = try cache.attend(layer: index, q, k, projected[2], shape)
    } else {
      mixed = try attention(q, k, projected[2], shape)
    }
    return try output(try gate.map { try gated(.sigmoid, gate: $0, up: mixed) } ?? mixed, context)
  }

  /// q, k and v, and the gate where there is one, contiguous.
  private func projections(of x: Tensor, _ context: ForwardContext) throws -> [Tensor] {
    let made = try Module.outputs(of: inputs, x, context)
    let (queries, keys) = (heads * headDimension, keyValueHeads * headDimension)
    switch form {
    case .separate:
      guard isGated else { return made }
      let parts = try splitColumns(made[0], groups: heads, widths: [headDimension, headDimension])
      return [parts[0], made[1], made[2], parts[1]]
    case .stacked: return try splitColumns(made[0], widths: [queries, keys, keys])
    case .perHead:
      return try splitColumns(made[0], groups: heads, widths: [headDimension, headDimension, headDimension])
    }
  }

  private func normalized(_ x: Tensor, _ norm: Norm?) throws -> Tensor { try norm.map { try $0(x) } ?? x }

  private func rotated(_ x: Tensor, heads: Int, _ geometry: LayerGeometry) throws -> Tensor {
    guard let rotary else { return x }
    let table = geometry.rotary[rotary]
    return try rope(
      inPlace: x, heads: heads, headDim: headDimension, cosine: table.cosine, sine: table.sine,
      positions: geometry.positions)
  }
}
