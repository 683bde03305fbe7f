import Autograd
import Formats
import Tensors

/// Positions, packed sequence borders and, in generation, the key-value cache, shared by all layers of a pass.
struct LayerGeometry {
  let cosine: Tensor
  let sine: Tensor
  /// i32 [T]
  let positions: Tensor
  /// i32 [sequences + 1]
  let segments: Tensor
  let cache: KeyValueCache?
}

/// One pre-norm decoder layer: attention and gated MLP, each added to the residual stream.
final class DecoderLayer {
  /// In checkpoint order.
  let modules: [Module]

  private let index: Int
  private let heads, keyValueHeads, headDimension, window: Int
  private let epsilon: Float
  private let inputNorm, middleNorm: Module
  /// q, k and v, which share their input.
  private let projections: [Module]
  private let attentionOutput: Module
  /// RMSNorm over each head (Qwen3).
  private let headNorms: (q: Module, k: Module)?
  /// gate and up, which share their input.
  private let expansions: [Module]
  private let down: Module

  /// A layer without weights.
  init(_ config: ModelConfig, index: Int) {
    self.index = index
    (heads, keyValueHeads, headDimension) = (config.headCount, config.keyValueHeadCount, config.headDimension)
    window = config.slidingWindow(layer: index) ?? 0
    epsilon = Float(config.normEpsilon)
    func linear(_ name: String, _ input: Int, _ output: Int, bias: Bool) -> Module {
      Module(
        name: "model.layers.\(index)." + name, kind: .linear, layer: index, inFeatures: input, outFeatures: output,
        hasBias: bias)
    }
    func norm(_ name: String, _ width: Int) -> Module {
      Module(name: "model.layers.\(index)." + name, kind: .norm, layer: index, inFeatures: width, outFeatures: 1)
    }
    let (hidden, inner) = (config.hiddenSize, config.intermediateSize)
    let (queries, keys) = (heads * headDimension, keyValueHeads * headDimension)
    inputNorm = norm("input_layernorm", hidden)
    projections = [
      linear("self_attn.q_proj", hidden, queries, bias: config.hasQKVBias),
      linear("self_attn.k_proj", hidden, keys, bias: config.hasQKVBias),
      linear("self_attn.v_proj", hidden, keys, bias: config.hasQKVBias),
    ]
    attentionOutput = linear("self_attn.o_proj", queries, hidden, bias: config.hasOutputBias)
    headNorms =
      config.hasQKNorm ? (norm("self_attn.q_norm", headDimension), norm("self_attn.k_norm", headDimension)) : nil
    middleNorm = norm("post_attention_layernorm", hidden)
    expansions = [
      linear("mlp.gate_proj", hidden, inner, bias: config.hasMLPBias),
      linear("mlp.up_proj", hidden, inner, bias: config.hasMLPBias),
    ]
    down = linear("mlp.down_proj", inner, hidden, bias: config.hasMLPBias)
    modules =
      [inputNorm] + projections + [attentionOutput] + (headNorms.map { [$0.q, $0.k] } ?? []) + [middleNorm]
      + expansions + [down]
  }

  func callAsFunction(_ x: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor {
    let attended = try attend(try inputNorm.normalized(x, epsilon: epsilon), geometry, context)
    let middle = try addResidual(inPlace: attended, x)
    let h = try middleNorm.normalized(middle, epsilon: epsilon)
    let expanded = try Module.outputs(of: expansions, h, context)
    let output = try down(try gated(.silu, gate: expanded[0], up: expanded[1]), context)
    return try addResidual(inPlace: output, middle)
  }

  private func attend(_ h: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor {
    let projected = try Module.outputs(of: projections, h, context)
    var (q, k) = (projected[0], projected[1])
    if let headNorms {
      q = try normalizedHeads(q, headNorms.q)
      k = try normalizedHeads(k, headNorms.k)
    }
    q = try rotated(q, heads: heads, geometry)
    k = try rotated(k, heads: keyValueHeads, geometry)
    let shape = AttentionShape(
      heads: heads, kvHeads: keyValueHeads, headDim: headDimension, segments: geometry.segments, window: window)
    let mixed: Tensor
    if let cache = geometry.cache {
      mixed = try cache.attend(layer: index, q, k, projected[2], shape)
    } else {
      mixed = try attention(q, k, projected[2], shape)
    }
    return try attentionOutput(mixed, context)
  }

  private func normalizedHeads(_ x: Tensor, _ norm: Module) throws -> Tensor {
    let heads = try reshape(x, [-1, headDimension])
    return try reshape(try norm.normalized(heads, epsilon: epsilon), x.shape)
  }

  private func rotated(_ x: Tensor, heads: Int, _ geometry: LayerGeometry) throws -> Tensor {
    try rope(
      inPlace: x, heads: heads, headDim: headDimension, cosine: geometry.cosine, sine: geometry.sine,
      positions: geometry.positions)
  }
}
