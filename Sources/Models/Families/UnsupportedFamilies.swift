/// Well-known decoders that the engine does not compute, for errors that help: the nearest family that it does, and
/// what it would have to do besides.
package enum UnsupportedFamilies {
  package struct Kind: Sendable {
    /// `model_type` of config.json and `general.architecture` of GGUF files.
    package let names: [String]
    /// `model_type` of the nearest family.
    package let nearest: String
    /// What sets it apart from that.
    package let difference: String
    /// Whether nothing does: it is the nearest by another name.
    var isRenamed = false
  }

  package static func named(_ name: String) -> Kind? { all.first { $0.names.contains(name) } }

  package static let all: [Kind] = [
    kind(
      ["gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"], "llama",
      "embeddings by layer, and key caches that layers share"),
    kind(["phi", "phi-msft", "phi2"], "llama", "LayerNorm, parallel layers, plain MLPs, a part of each head rotated"),
    kind(["phimoe"], "llama", "experts and LayerNorm"),
    kind(["qwen"], "qwen2", "code of the model's own, with fused projections"),
    kind(["qwen2_moe", "qwen2moe"], "qwen3_moe", "biases of q, k and v, and an expert that every token has"),
    kind(
      ["qwen2_vl", "qwen2_5_vl", "qwen2vl", "qwen2_5_omni", "qwen2_5_omni_thinker"], "qwen2",
      "images or sound, and positions in three dimensions"),
    kind(["qwen3_vl", "qwen3_vl_text", "qwen3vl"], "qwen3", "images, and positions in three dimensions"),
    kind(
      ["qwen3_vl_moe", "qwen3_vl_moe_text", "qwen3vlmoe", "qwen3_omni_moe", "qwen3_omni_moe_thinker"], "qwen3_moe",
      "images or sound, and positions in three dimensions"),
    kind(["olmo", "olmo1"], "olmo2", "norms without weights, before the layers"),
    kind(["flex_olmo", "olmo_hybrid"], "olmo3", "experts or recurrent layers"),
    kind(["deepseek", "deepseek_v2", "deepseek_v3", "deepseek2"], "llama", "experts and latent attention"),
    kind(
      ["deepseek_v32", "deepseek_v4", "glm_moe_dsa"], "llama",
      "experts, and latent attention to keys that an index chooses"),
    kind(["dots1"], "qwen3_moe", "a router of sigmoids with groups, and an expert that every token has"),
    kind(["minimax_m2"], "qwen3_moe", "a router of sigmoids, and norms over all heads together"),
    kind(["minimax", "longcat_flash"], "llama", "experts, and linear or latent attention"),
    kind(["kimi_k2", "kimi_k25", "kimi_linear"], "llama", "experts and latent or linear attention"),
    kind(["llama4", "llama4_text"], "llama", "experts, and attention in chunks"),
    kind(["mllama"], "llama", "images through cross attention"),
    kind(
      ["llava", "llava_next", "idefics2", "idefics3", "smolvlm"], "llama",
      "images; the text model inside is a Llama or Mistral"),
    kind(["llava_onevision", "internvl"], "qwen2", "images; the text model inside is a Qwen2 or Qwen3"),
    kind(["paligemma", "shieldgemma2"], "gemma3_text", "images or a classifier; the text model inside is a Gemma"),
    kind(["phi4_multimodal", "phi4mm"], "phi3", "images and sound, with adapters for each"),
    kind(
      ["mistral3", "ministral3", "pixtral"], "mistral", "images, or a scale of queries that grows with the position"),
    renamed(["ministral"], "mistral"),
    kind(["mistral4"], "mistral", "experts and latent attention"),
    kind(["granitemoe", "granitemoeshared"], "granite", "experts in the place of the feed-forward layer"),
    kind(["granite_swa", "granitemoe_swa"], "granite", "windows, sinks of attention and a theta for each layer"),
    kind(["granitemoehybrid", "granitehybrid"], "granite", "Mamba layers and experts"),
    kind(
      ["cohere", "cohere2", "cohere2_moe", "command-r"], "llama",
      "parallel layers, LayerNorm and a scale of the logits"),
    kind(["starcoder2"], "mistral", "LayerNorm, biases and plain MLPs"),
    kind(["gpt_bigcode", "starcoder"], "llama", "learned positions, LayerNorm and one key head"),
    kind(["gpt2"], "llama", "learned positions, LayerNorm and plain MLPs"),
    kind(["gptj", "gpt_neo", "codegen"], "llama", "LayerNorm, parallel layers and plain MLPs"),
    kind(["opt", "bloom", "mpt", "falcon"], "llama", "LayerNorm, plain MLPs and positions of other kinds"),
    kind(["stablelm"], "llama", "LayerNorm and a part of each head rotated"),
    kind(["internlm2"], "llama", "code of the model's own, with fused projections"),
    kind(["internlm3"], "llama", "biases by keys of its own (qkv_bias, bias)"),
    kind(["baichuan"], "llama", "fused projections, or positions by ALiBi"),
    kind(["chatglm", "glm"], "llama", "fused projections and a part of each head rotated"),
    kind(["glm4", "glm4_moe", "glm4moe"], "llama", "norms behind the layers, interleaved rotation, or experts"),
    kind(["glm4_moe_lite"], "llama", "experts and latent attention"),
    kind(["glm4v", "glm4v_moe", "glm46v"], "llama", "images, and positions in three dimensions"),
    kind(["exaone", "exaone4", "exaone_moe"], "llama", "other names of modules, norms behind the layers, or experts"),
    kind(["helium"], "llama", "interleaved rotation"),
    kind(["nemotron"], "llama", "LayerNorm with an offset, squared ReLU and a part of each head rotated"),
    kind(["nemotron_h", "falcon_h1", "jamba", "bamba", "zamba2"], "llama", "Mamba layers"),
    kind(
      ["mamba", "mamba2", "falcon_mamba", "rwkv", "rwkv6", "rwkv7", "recurrent_gemma"], "llama", "recurrent layers"),
    kind(["lfm2", "lfm2_moe", "lfm2moe", "lfm2_vl"], "llama", "convolutions in the place of attention"),
    kind(["minicpm", "minicpm3"], "granite", "code of the model's own, or latent attention"),
    kind(["ernie4_5", "ernie4_5_moe", "ernie4_5-moe"], "llama", "interleaved rotation, or experts"),
    kind(["hunyuan_v1_dense", "hunyuan_v1_moe", "hunyuan-dense", "hunyuan-moe"], "qwen3", "norms behind the rotation"),
    kind(["seed_oss"], "qwen2", "heads of another width than hidden size over heads"),
    kind(["bitnet"], "llama", "weights of three values and norms inside the layers"),
    kind(["apertus", "arcee"], "llama", "plain MLPs with another activation"),
  ]

  private static func kind(_ names: [String], _ nearest: String, _ difference: String) -> Kind {
    Kind(names: names, nearest: nearest, difference: difference)
  }

  private static func renamed(_ names: [String], _ nearest: String) -> Kind {
    let difference = "the name alone: set model_type to \(nearest) in its config.json"
    return Kind(names: names, nearest: nearest, difference: difference, isRenamed: true)
  }
}
