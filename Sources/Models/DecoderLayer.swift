import Autograd
import Tensors

/// Positions, packed sequence borders and, in generation, the key-value cache, shared by all layers of a pass.
struct LayerGeometry {
  /// One for each of the spec's ropes.
  let rotary: [RotaryTables]
  /// i32 [T]
  let positions: Tensor
  /// i32 [sequences + 1]
  let segments: Tensor
  let cache: KeyValueCache?
  /// Sees queries and keys of each layer as attention gets them.
  let observer: ((_ layer: Int, _ queries: Tensor, _ keys: Tensor) throws -> Void)?
}

/// One decoder layer: attention and gated feed-forward layer, each added to the residual stream, in the form that a
/// `DecoderSpec` says.
final class DecoderLayer {
  /// In checkpoint order.
  let modules: [Module]

  private let index: Int
  private let heads, keyValueHeads, headDimension, window: Int
  /// Which of the model's rotary tables; nil for none.
  private let rotary: Int?
  private let epsilon, scoreScale, residualScale: Float
  private let isParallel: Bool
  private let attentionNorm, attentionPostNorm, feedForwardNorm, feedForwardPostNorm: Module?
  /// q, k and v, which share their input.
  private let projections: [Module]
  private let queryNorm, keyNorm: Module?
  private let attentionOutput: Module
  /// gate and up, which share their input.
  private let expansions: [Module]
  private let down: Module

  /// A layer without weights.
  init(_ spec: DecoderSpec, index: Int) {
    self.index = index
    (heads, keyValueHeads, headDimension) = (spec.headCount, spec.keyValueHeadCount, spec.headDimension)
    let own = spec.layers[index]
    window = own.window ?? 0
    rotary = spec.rope(of: own).flatMap { spec.ropes.firstIndex(of: $0) }
    epsilon = Float(spec.normEpsilon)
    scoreScale = spec.queryKeyScale
    residualScale = Float(spec.residualScale)
    isParallel = spec.isParallel
    var made: [String: Module] = [:]
    func make(_ module: LayerModule) -> Module {
      let new = Module(module, of: spec, layer: index)
      made[module.name] = new
      return new
    }
    let places = spec.modules
    attentionNorm = places.attentionNorm.map(make)
    projections = [places.query, places.key, places.value].map(make)
    attentionOutput = make(places.output)
    (queryNorm, keyNorm) = (places.queryNorm.map(make), places.keyNorm.map(make))
    attentionPostNorm = places.attentionPostNorm.map(make)
    feedForwardNorm = places.feedForwardNorm.map(make)
    expansions = [places.gate, places.up].map(make)
    down = make(places.down)
    feedForwardPostNorm = places.feedForwardPostNorm.map(make)
    modules = places.all.compactMap { made[$0.name] }
  }

  func callAsFunction(_ x: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor {
    if isParallel { return try parallel(x, geometry, context) }
    let middle = try addResidual(
      inPlace: try attend(try normalized(x, attentionNorm), geometry, context), scale: residualScale, x)
    let output = try feedForward(try normalized(middle, feedForwardNorm), context)
    return try addResidual(inPlace: output, scale: residualScale, middle)
  }

  /// Both branches read the layer's input; without a norm of its own the feed-forward layer shares attention's.
  private func parallel(_ x: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor {
    let input = try normalized(x, attentionNorm)
    let attended = try attend(input, geometry, context)
    let output = try feedForward(feedForwardNorm == nil ? input : try normalized(x, feedForwardNorm), context)
    return try addResidual(inPlace: try addResidual(inPlace: output, attended), scale: residualScale, x)
  }

  private func attend(_ h: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor {
    let projected = try Module.outputs(of: projections, h, context)
    let q = try rotated(try normalized(projected[0], queryNorm), heads: heads, geometry)
    let k = try rotated(try normalized(projected[1], keyNorm), heads: keyValueHeads, geometry)
    try geometry.observer?(index, q, k)
    let shape = AttentionShape(
      heads: heads, kvHeads: keyValueHeads, headDim: headDimension, segments: geometry.segments, window: window,
      scale: scoreScale)
    let mixed: Tensor
    if let cache = geometry.cache {
      mixed = try cache.attend(layer: index, q, k, projected[2], shape)
    } else {
      mixed = try attention(q, k, projected[2], shape)
    }
    return try normalized(try attentionOutput(mixed, context), attentionPostNorm)
  }

  private func feedForward(_ x: Tensor, _ context: ForwardContext) throws -> Tensor {
    let expanded = try Module.outputs(of: expansions, x, context)
    let output = try down(try gated(.silu, gate: expanded[0], up: expanded[1]), context)
    return try normalized(output, feedForwardPostNorm)
  }

  /// In rows of the norm's width: whole rows, or the heads of q and k. Without a norm, `x` itself.
  private func normalized(_ x: Tensor, _ norm: Module?) throws -> Tensor {
    guard let norm else { return x }
    guard x.shape.last != norm.inFeatures else { return try norm.normalized(x, epsilon: epsilon) }
    let rows = try reshape(x, [-1, norm.inFeatures])
    return try reshape(try norm.normalized(rows, epsilon: epsilon), x.shape)
  }

  private func rotated(_ x: Tensor, heads: Int, _ geometry: LayerGeometry) throws -> Tensor {
    guard let rotary else { return x }
    let table = geometry.rotary[rotary]
    return try rope(
      inPlace: x, heads: heads, headDim: headDimension, cosine: table.cosine, sine: table.sine,
      positions: geometry.positions)
  }
}
