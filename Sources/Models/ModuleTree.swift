import Formats

/// The modules of a decoder in checkpoint order, from its configuration alone.
enum ModuleTree {
  static func modules(_ config: ModelConfig) -> [Module] {
    let hidden = config.hiddenSize
    let queries = config.attentionHeadCount * config.headDim
    let keys = config.keyValueHeadCount * config.headDim
    var modules = [
      Module(
        name: "model.embed_tokens", kind: .embedding, layer: nil, inFeatures: hidden, outFeatures: config.vocabSize)
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
      linear("self_attn.q_proj", hidden, queries, bias: config.queryKeyValueBias)
      linear("self_attn.k_proj", hidden, keys, bias: config.queryKeyValueBias)
      linear("self_attn.v_proj", hidden, keys, bias: config.queryKeyValueBias)
      linear("self_attn.o_proj", queries, hidden, bias: config.attentionOutputBias)
      if config.queryKeyNorm {
        norm("self_attn.q_norm", config.headDim)
        norm("self_attn.k_norm", config.headDim)
      }
      norm("post_attention_layernorm", hidden)
      linear("mlp.gate_proj", hidden, config.intermediateSize, bias: config.mlpBias)
      linear("mlp.up_proj", hidden, config.intermediateSize, bias: config.mlpBias)
      linear("mlp.down_proj", config.intermediateSize, hidden, bias: config.mlpBias)
    }
    modules.append(Module(name: "model.norm", kind: .norm, layer: nil, inFeatures: hidden, outFeatures: 1))
    if !config.tieWordEmbeddings {
      modules.append(
        Module(name: "lm_head", kind: .linear, layer: nil, inFeatures: hidden, outFeatures: config.vocabSize))
    }
    return modules
  }
}
