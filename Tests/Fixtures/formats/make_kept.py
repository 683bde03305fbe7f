"""Writes kept.gguf, a small Llama whose matrices are in ten formats of ggml, with rows of q and k in
llama.cpp's order, and kept.f32: the logits that transformers computes in f32 for the ids 1, 8, 15, ... of 20 tokens from
the weights as gguf dequantizes them, little-endian.
Made with Python 3.11, gguf 0.19.0, numpy 2.4.6, torch 2.13.0, transformers 5.23.0. Run: python make_kept.py, here."""
import gguf, numpy as np, torch, transformers
from gguf import GGMLQuantizationType as T, quants

rng = np.random.default_rng(11)
hidden, inner, heads, kv, layers = 64, 256, 4, 2, 2
plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
others = [b for b in range(256) if b not in plain]  # GPT-2 writes these as characters from 256 on
tokens = ["<s>", "</s>"] + [chr(b) if b in plain else chr(256 + others.index(b)) for b in range(256)] + ["ab"]
w = gguf.GGUFWriter("kept.gguf", "llama")
w.add_context_length(128); w.add_embedding_length(hidden); w.add_block_count(layers); w.add_feed_forward_length(inner)
w.add_head_count(heads); w.add_head_count_kv(kv); w.add_layer_norm_rms_eps(1e-5); w.add_rope_freq_base(10000.0)
w.add_rope_dimension_count(hidden // heads); w.add_vocab_size(len(tokens))
w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre("gpt-2"); w.add_token_list(tokens); w.add_token_merges(["a b"])
w.add_token_types([3, 3] + [1] * 257); w.add_bos_token_id(0); w.add_eos_token_id(1)
scales = {T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0]}
# What a scale of a block is multiplied by: weights are to be about 0.05.
largest = {T.Q2_K: 30, T.Q3_K: 60, T.Q4_K: 400, T.Q5_K: 800, T.Q6_K: 2000, T.IQ4_NL: 60}
weights = {}


def put(stored, name, shape, kind, norm=False):
    values = (rng.standard_normal(shape) * 0.05).astype(np.float32) + (1 if norm else 0)
    if kind in scales:  # gguf has no quantizer for these
        block, size = gguf.GGML_QUANT_SIZES[kind]
        raw = rng.integers(0, 256, (shape[0] * shape[1] // block, size), dtype=np.uint8)
        for at in scales[kind]:
            raw[:, at:at + 2] = (rng.uniform(0.5, 1, (len(raw), 1)) * 0.1 / largest[kind]).astype(np.float16).view(np.uint8)
        raw = raw.reshape(shape[0], -1)
    elif kind in (T.F32, T.F16):
        raw = values.astype(np.float32 if kind == T.F32 else np.float16)
    else:
        raw = quants.quantize(values, kind)
    back = raw.astype(np.float32) if kind in (T.F32, T.F16) else quants.dequantize(raw, kind)
    assert back.shape == shape, (kind, back.shape)
    w.add_tensor(stored + ".weight", raw, raw_dtype=kind)
    for role, count in (("q_proj", heads), ("k_proj", kv)):
        if role in name:  # the inverse of LlamaModel.permute
            back = back.reshape(count, shape[0] // count // 2, 2, shape[1]).swapaxes(1, 2).reshape(shape)
    weights[name + ".weight"] = torch.from_numpy(np.ascontiguousarray(back))


kinds = [{"attn_q": T.Q4_0, "attn_k": T.Q8_0, "attn_v": T.Q5_0, "attn_output": T.Q5_1, "ffn_gate": T.Q4_1,
          "ffn_up": T.IQ4_NL, "ffn_down": T.Q4_K},
         {"attn_q": T.MXFP4, "attn_k": T.Q4_0, "attn_v": T.F16, "attn_output": T.Q8_0, "ffn_gate": T.Q5_0,
          "ffn_up": T.Q4_0, "ffn_down": T.Q6_K}]
names = {"attn_q": ("self_attn.q_proj", (hidden, hidden)), "attn_k": ("self_attn.k_proj", (hidden // 2, hidden)),
         "attn_v": ("self_attn.v_proj", (hidden // 2, hidden)), "attn_output": ("self_attn.o_proj", (hidden, hidden)),
         "ffn_gate": ("mlp.gate_proj", (inner, hidden)), "ffn_up": ("mlp.up_proj", (inner, hidden)),
         "ffn_down": ("mlp.down_proj", (hidden, inner))}
put("token_embd", "model.embed_tokens", (len(tokens), hidden), T.Q8_0)
put("output_norm", "model.norm", (hidden,), T.F32, norm=True)
for layer in range(layers):
    for stored, (name, shape) in names.items():
        put(f"blk.{layer}.{stored}", f"model.layers.{layer}.{name}", shape, kinds[layer][stored])
    put(f"blk.{layer}.attn_norm", f"model.layers.{layer}.input_layernorm", (hidden,), T.F32, norm=True)
    put(f"blk.{layer}.ffn_norm", f"model.layers.{layer}.post_attention_layernorm", (hidden,), T.F32, norm=True)
w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()

model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
    hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
    num_key_value_heads=kv, vocab_size=len(tokens), max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0,
    tie_word_embeddings=True)).eval()
missing = model.load_state_dict(weights, strict=False)
assert missing.missing_keys == ["lm_head.weight"] and not missing.unexpected_keys, missing
model.tie_weights()
with torch.no_grad():
    logits = model(torch.tensor([[1 + 7 * i for i in range(20)]])).logits[0]
logits.numpy().astype("<f4").tofile("kept.f32")
print(logits.std(), logits.shape, {n: float(v.std()) for n, v in weights.items()})
