import Formats

/// The modules of a decoder in checkpoint order, from its configuration alone.
enum ModuleTree {
  static func modules(_ config: ModelConfig) -> [Module] {
    let hidden = config.hiddenSize
    let queries = config.headCount * config.headDimension
    let keys = config.keyValueHeadCount * config.headDimension
    var modules = [
      Module(
        name: "model.embed_tokens", kind: .embedding, layer: nil, inFeatures: hidden, outFeatures: config.vocabularySize
      )
    ]
    for layer in 0..<config.layerCount {
      let prefix = "model.layers.\(layer)."
      func linear(_ name: String, _ input: Int, _ output: Int, bias: Bool) {
        modules.append(
          Module(
            name: prefix + name, kind: .linear, layer: layer, inFeatures: input, outFeatures: output, hasBias: bias))
      }
      func norm(_ name: String, _ width: Int) {
        modules.append(
          Module(name: prefix + name, kind: .norm, layer: layer, inFeatures: width, outFeatures: 1))
      }
      norm("input_layernorm", hidden)
      linear("self_attn.q_proj", hidden, queries, bias: config.hasQKVBias)
      linear("self_attn.k_proj", hidden, keys, bias: config.hasQKVBias)
      linear("self_attn.v_proj", hidden, keys, bias: config.hasQKVBias)
      linear("self_attn.o_proj", queries, hidden, bias: config.hasOutputBias)
      if config.hasQKNorm {
        norm("self_attn.q_norm", config.headDimension)
        norm("self_attn.k_norm", config.headDimension)
      }
      norm("post_attention_layernorm", hidden)
      linear("mlp.gate_proj", hidden, config.intermediateSize, bias: config.hasMLPBias)
      linear("mlp.up_proj", hidden, config.intermediateSize, bias: config.hasMLPBias)
      linear("mlp.down_proj", config.intermediateSize, hidden, bias: config.hasMLPBias)
    }
    modules.append(Module(name: "model.norm", kind: .norm, layer: nil, inFeatures: hidden, outFeatures: 1))
    if !config.tiesEmbeddings {
      modules.append(
        Module(name: "lm_head", kind: .linear, layer: nil, inFeatures: hidden, outFeatures: config.vocabularySize))
    }
    return modules
  }
}
