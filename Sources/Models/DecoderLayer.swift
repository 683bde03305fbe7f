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
  let cache: CachedSequences?
  /// What brings weights in, which a layer of experts tells whom it needs; nil for resident ones.
  weak var stream: WeightStream?
  /// Sees queries and keys of each layer as attention gets them.
  let observer: ((_ layer: Int, _ queries: Tensor, _ keys: Tensor) throws -> Void)?
}

/// One decoder layer: a token mixer and a feed-forward layer, each with its norms and added to the residual stream, in
/// the form that a `DecoderSpec` says.
final class DecoderLayer {
  /// In checkpoint order.
  let modules: [Module]

  private let residualScale: Float
  private let isParallel: Bool
  private let mixer: any TokenMixer
  private let feedForward: FeedForwardLayer
  private let attentionNorm, attentionPostNorm, feedForwardNorm, feedForwardPostNorm: Norm?

  /// A layer without weights.
  init(_ spec: DecoderSpec, index: Int) {
    residualScale = Float(spec.residualScale)
    isParallel = spec.isParallel
    var made: [String: Module] = [:]
    func make(_ module: LayerModule) -> Module {
      let new = Module(module, of: spec, layer: index)
      made[module.name] = new
      return new
    }
    let places = spec.modules
    if spec.layers[index].isRecurrent, let deltaNet = places.deltaNet, let numbers = spec.deltaNet {
      mixer = DeltaNet(deltaNet, numbers, spec, index: index, make)
    } else {
      mixer = Attention(spec, index: index, make)
    }
    feedForward = FeedForwardLayer(spec, index: index, make)
    attentionNorm = Norm(places.attentionNorm, spec, make)
    attentionPostNorm = Norm(places.attentionPostNorm, spec, make)
    feedForwardNorm = Norm(places.feedForwardNorm, spec, make)
    feedForwardPostNorm = Norm(places.feedForwardPostNorm, spec, make)
    modules = spec.modules(ofLayer: index).compactMap { made[$0.name] }
  }

  func callAsFunction(_ x: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor {
    if isParallel { return try parallel(x, geometry, context) }
    let attended = try mixer(try normalized(x, attentionNorm), geometry, context)
    let middle = try addResidual(inPlace: try normalized(attended, attentionPostNorm), scale: residualScale, x)
    let fed = try feedForward(try normalized(middle, feedForwardNorm), geometry, context)
    return try addResidual(inPlace: try normalized(fed, feedForwardPostNorm), scale: residualScale, middle)
  }

  /// Both branches read the layer's input; without a norm of its own the feed-forward layer shares attention's.
  private func parallel(_ x: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor {
    let input = try normalized(x, attentionNorm)
    let attended = try normalized(try mixer(input, geometry, context), attentionPostNorm)
    let fed = try feedForward(feedForwardNorm == nil ? input : try normalized(x, feedForwardNorm), geometry, context)
    let output = try addResidual(inPlace: try normalized(fed, feedForwardPostNorm), attended)
    return try addResidual(inPlace: output, scale: residualScale, x)
  }

  private func normalized(_ x: Tensor, _ norm: Norm?) throws -> Tensor { try norm.map { try $0(x) } ?? x }
}

/// A norm of a layer, in rows of its own width: whole rows, or the heads of q and k.
struct Norm {
  private let module: Module
  private let form: Normalization

  /// nil where the layer has none.
  init?(_ place: LayerModule?, _ spec: DecoderSpec, _ make: (LayerModule) -> Module) {
    guard let place else { return nil }
    module = make(place)
    form = Normalization(form: place.normalization ?? spec.normalization.form, epsilon: spec.normEpsilon)
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    guard x.shape.last != module.inFeatures else { return try module.normalized(x, form) }
    let rows = try reshape(x, [-1, module.inFeatures])
    return try reshape(try module.normalized(rows, form), x.shape)
  }
}
