import Autograd
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
struct DecoderLayer {
  let model: LanguageModel
  let index: Int

  private func module(_ name: String) throws -> Module {
    let full = "model.layers.\(index).\(name)"
    guard let module = model.module(full) else { throw ModelError.unknownModule(name: full, nearest: []) }
    return module
  }

  /// The outputs of linear modules that share their input.
  private func outputs(_ names: [String], _ x: Tensor, _ context: ForwardContext) throws -> [Tensor] {
    try Module.outputs(of: try names.map(module), x, context)
  }

  private func norm(_ name: String, _ x: Tensor) throws -> Tensor {
    let module = try module(name)
    guard let weight = module.weight else { throw ModelError.notLoaded(module: module.name) }
    return try module.observed(x, try rmsNorm(x, weight: weight, epsilon: Float(model.config.normEpsilon)))
  }

  func callAsFunction(_ x: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor {
    let attended = try attend(try norm("input_layernorm", x), geometry, context)
    let middle = try addResidual(inPlace: attended, x)
    let h = try norm("post_attention_layernorm", middle)
    let gated = try outputs(["mlp.gate_proj", "mlp.up_proj"], h, context)
    let down = try module("mlp.down_proj")(try swiglu(gate: gated[0], up: gated[1]), context)
    return try addResidual(inPlace: down, middle)
  }

  private func attend(_ h: Tensor, _ geometry: LayerGeometry, _ context: ForwardContext) throws -> Tensor {
    let config = model.config
    let projected = try outputs(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], h, context)
    var (q, k) = (projected[0], projected[1])
    if config.hasQKNorm {
      q = try headNorm("self_attn.q_norm", q)
      k = try headNorm("self_attn.k_norm", k)
    }
    q = try rotate(q, heads: config.headCount, geometry)
    k = try rotate(k, heads: config.keyValueHeadCount, geometry)
    let shape = AttentionShape(
      heads: config.headCount, kvHeads: config.keyValueHeadCount, headDim: config.headDimension,
      segments: geometry.segments, window: config.slidingWindow(layer: index) ?? 0)
    let mixed: Tensor
    if let cache = geometry.cache {
      mixed = try cache.attend(layer: index, q, k, projected[2], shape)
    } else {
      mixed = try attention(q, k, projected[2], shape)
    }
    return try module("self_attn.o_proj")(mixed, context)
  }

  /// RMSNorm over each head (Qwen3).
  private func headNorm(_ name: String, _ x: Tensor) throws -> Tensor {
    let heads = try reshape(x, [-1, model.config.headDimension])
    return try reshape(try norm(name, heads), x.shape)
  }

  private func rotate(_ x: Tensor, heads: Int, _ geometry: LayerGeometry) throws -> Tensor {
    try rope(
      inPlace: x, heads: heads, headDim: model.config.headDimension, cosine: geometry.cosine, sine: geometry.sine,
      positions: geometry.positions)
  }
}
