/// Tensor names of llama.cpp and of Hugging Face, for llama, mistral, qwen2 and qwen3.
public enum GGUFNames {
  private static let whole = [
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
  ]
  private static let block = [
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
  ]

  /// `blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`; nil for a tensor these models do not have.
  public static func huggingFace(_ name: String) -> String? {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard let kind = parts.last, kind == "weight" || kind == "bias" else { return nil }
    if parts.count == 2, let stem = whole[parts[0]] { return stem + "." + kind }
    // The number is re-read and compared, so that blk.03 cannot collide with blk.3.
    if parts.count == 4, parts[0] == "blk", let layer = Int(parts[1]), layer >= 0, "\(layer)" == parts[1],
      let stem = block[parts[2]]
    {
      return "model.layers.\(layer).\(stem).\(kind)"
    }
    return nil
  }
}
