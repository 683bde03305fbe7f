#!/usr/bin/env python3
"""Writes Fuzz/Corpus anew: small valid files of each kind, from Tests/Fixtures and from nothing. The same bytes each time.

    python3 Fuzz/make_corpus.py
"""
import json
import pathlib
import shutil
import struct

root = pathlib.Path(__file__).resolve().parent.parent
fixtures, corpus = root / "Tests/Fixtures", root / "Fuzz/Corpus"


def write(name, content):
    path = corpus / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        content = content.encode()
    elif not isinstance(content, bytes):
        content = (json.dumps(content, ensure_ascii=False) + "\n").encode()
    path.write_bytes(content)


def floats(count, scale=0.1):
    state, values = count, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % (1 << 31)
        values.append((state / (1 << 30) - 1) * scale)
    return struct.pack(f"<{count}f", *values)


def safetensors(tensors, metadata=None):
    """tensors: name -> (dtype, shape, bytes)."""
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def f32(*shape):
    count = 1
    for extent in shape:
        count *= extent
    return ("F32", list(shape), floats(count))


def bf16(*shape):
    _, shape, content = f32(*shape)
    return ("BF16", shape, b"".join(content[i + 2:i + 4] for i in range(0, len(content), 4)))


def llama(layers=1, hidden=16, inner=32, vocabulary=32, heads=2, key_heads=1, make=f32):
    width = hidden // heads
    tensors = {"model.embed_tokens.weight": make(vocabulary, hidden), "model.norm.weight": f32(hidden)}
    for layer in range(layers):
        p = f"model.layers.{layer}."
        tensors[p + "input_layernorm.weight"] = f32(hidden)
        tensors[p + "post_attention_layernorm.weight"] = f32(hidden)
        tensors[p + "self_attn.q_proj.weight"] = make(heads * width, hidden)
        tensors[p + "self_attn.k_proj.weight"] = make(key_heads * width, hidden)
        tensors[p + "self_attn.v_proj.weight"] = make(key_heads * width, hidden)
        tensors[p + "self_attn.o_proj.weight"] = make(hidden, heads * width)
        tensors[p + "mlp.gate_proj.weight"] = make(inner, hidden)
        tensors[p + "mlp.up_proj.weight"] = make(inner, hidden)
        tensors[p + "mlp.down_proj.weight"] = make(hidden, inner)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": key_heads, "head_dim": width, "vocab_size": vocabulary,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "float32"}
    return config, tensors


def gguf(metadata, tensors):
    """metadata: (key, type, value); tensors: (name, shape as stored, type, bytes)."""
    def text(value):
        value = value.encode()
        return struct.pack("<Q", len(value)) + value

    formats = {0: "<B", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 12: "<d"}

    def value_of(kind, value):
        if kind == 8:
            return text(value)
        if kind == 9:
            element, values = value
            return struct.pack("<IQ", element, len(values)) + b"".join(value_of(element, v) for v in values)
        return struct.pack(formats[kind], value)

    out = struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(metadata))
    for key, kind, value in metadata:
        out += text(key) + struct.pack("<I", kind) + value_of(kind, value)
    data = b""
    for name, shape, kind, content in tensors:
        out += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, len(data))
        data += content + b"\0" * (-len(content) % 32)
    return out + b"\0" * (-len(out) % 32) + data


def llama_gguf(kind, tokens, extra, more=()):
    hidden, inner, vocabulary = 32, 64, len(tokens)
    metadata = [
        ("general.architecture", 8, "llama"), ("general.alignment", 4, 32), ("llama.block_count", 4, 1),
        ("llama.context_length", 4, 64), ("llama.embedding_length", 4, hidden),
        ("llama.feed_forward_length", 4, inner), ("llama.attention.head_count", 4, 4),
        ("llama.attention.head_count_kv", 4, 2), ("llama.attention.layer_norm_rms_epsilon", 6, 1e-5),
        ("llama.rope.freq_base", 6, 10000.0), ("llama.rope.dimension_count", 4, 8),
        ("llama.vocab_size", 4, vocabulary), ("tokenizer.ggml.model", 8, kind),
        ("tokenizer.ggml.tokens", 9, (8, tokens)), ("tokenizer.ggml.bos_token_id", 4, 0),
        ("tokenizer.ggml.eos_token_id", 4, 1)] + extra

    def q8(rows, columns):
        return b"".join(struct.pack("<e", 0.01) + bytes((i * 37 + j * 11) % 256 for j in range(32))
                        for i in range(rows * columns // 32))

    tensors = [("token_embd.weight", [hidden, vocabulary], 0, floats(hidden * vocabulary)),
               ("output_norm.weight", [hidden], 0, floats(hidden))]
    for name, rows, columns in [("attn_q", 32, hidden), ("attn_k", 16, hidden), ("attn_v", 16, hidden),
                                ("attn_output", hidden, 32), ("ffn_gate", inner, hidden), ("ffn_up", inner, hidden),
                                ("ffn_down", hidden, inner)]:
        tensors.append((f"blk.0.{name}.weight", [columns, rows], 8, q8(rows, columns)))
    for name in ["attn_norm", "ffn_norm"]:
        tensors.append((f"blk.0.{name}.weight", [hidden], 0, floats(hidden)))
    return gguf(metadata, tensors + list(more))


def weights():
    mixed = {
        "a.f32": f32(3, 4), "b.bf16": bf16(2, 5), "c.f16": ("F16", [4], struct.pack("<4e", 1, 2, -3, 0.5)),
        "d.i64": ("I64", [2, 2], struct.pack("<4q", 1, -2, 3, 1 << 40)), "e.u8": ("U8", [5], b"12345"),
        "f.bool": ("BOOL", [3], b"\0\1\1"), "g.empty": ("F32", [0, 7], b""), "h.scalar": ("F32", [], floats(1)),
        "i.f8": ("F8_E4M3", [4], b"\0\1\2\3"), "j.f64": ("F64", [1], struct.pack("<d", 0.5))}
    write("safetensors/mixed/model.safetensors", safetensors(mixed, {"format": "pt", "made by": "make_corpus"}))
    names = list(mixed)
    shards = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
    for shard, part in shards.items():
        write(f"safetensors/sharded/{shard}", safetensors({name: mixed[name] for name in part}))
    write("safetensors/sharded/model.safetensors.index.json", {
        "metadata": {"total_size": 200}, "weight_map": {n: s for s, part in shards.items() for n in part}})
    config, tensors = llama()
    write("safetensors/llama/model.safetensors", safetensors(tensors))


def models():
    config, tensors = llama(layers=2)
    for name, changed, stored in [("f32", config, tensors), ("bf16", config | {"torch_dtype": "bfloat16"},
                                                            llama(layers=2, make=bf16)[1])]:
        write(f"model/{name}/config.json", changed)
        write(f"model/{name}/generation_config.json", {"bos_token_id": 0, "eos_token_id": [1, 2], "temperature": 0.6})
        write(f"model/{name}/model.safetensors", safetensors(stored))
    for name in ["config.json", "model.safetensors"]:
        write(f"model/nf4dq/{name}", (fixtures / "models/nf4dq" / name).read_bytes())
    letters = [chr(c) for c in list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
               ] + [chr(256 + i) for i in range(68)]
    byte_level = ["<s>", "</s>"] + letters + ["th", "the", "Ġt"]
    write("gguf/byte_level.gguf", llama_gguf("gpt2", byte_level, [
        ("tokenizer.ggml.pre", 8, "smollm"), ("tokenizer.ggml.merges", 9, (8, ["t h", "th e", "Ġ t"])),
        ("tokenizer.ggml.token_type", 9, (5, [3, 3] + [1] * (len(byte_level) - 2))),
        ("tokenizer.ggml.add_bos_token", 7, True), ("tokenizer.chat_template", 8, "{{ messages }}")]))
    pieces = ["<s>", "</s>", "<unk>"] + [f"<0x{i:02X}>" for i in range(256)] + ["▁", "t", "h", "e", "▁t", "▁th", "▁the"]
    write("gguf/sentencepiece.gguf", llama_gguf("llama", pieces, [
        ("tokenizer.ggml.scores", 9, (6, [0.0] * 259 + [-float(i) for i in range(7)])),
        ("tokenizer.ggml.token_type", 9, (5, [3, 3, 2] + [6] * 256 + [1] * 7)),
        ("tokenizer.ggml.unknown_token_id", 4, 2), ("tokenizer.ggml.add_space_prefix", 7, True)]))
    merges = [("tokenizer.ggml.pre", 8, "smollm"), ("tokenizer.ggml.merges", 9, (8, ["t h", "th e", "Ġ t"]))]
    scaling = "llama.rope.scaling."
    write("gguf/yarn.gguf", llama_gguf("gpt2", byte_level, merges + [
        (scaling + "type", 8, "yarn"), (scaling + "factor", 6, 4.0), (scaling + "original_context_length", 4, 16),
        (scaling + "yarn_ext_factor", 6, 1.0), (scaling + "yarn_attn_factor", 6, 1.2),
        (scaling + "yarn_beta_fast", 6, 16.0), (scaling + "yarn_beta_slow", 6, 2.0),
        (scaling + "yarn_log_multiplier", 6, 0.5)]))
    write("gguf/longrope.gguf", llama_gguf("gpt2", byte_level, merges + [
        (scaling + "attn_factor", 6, 1.2), (scaling + "original_context_length", 4, 4)], [
            (f"rope_factors_{name}.weight", [4], 0, struct.pack("<4f", *factors))
            for name, factors in [("short", (1, 1.5, 2, 3)), ("long", (1, 4, 8, 16))]]))
    # One fused projection and LayerNorm; norms plus one and soft caps; a gated
    # DeltaNet whose matrices are in pieces.
    for name in ["gpt_neox", "gemma2", "qwen3_next_full"]:
        write(f"gguf/{name}.gguf", (fixtures / f"families/{name}/model.gguf").read_bytes())
    # Experts: blocks and scales, and tensors of three dimensions.
    for name in ["config.json", "model.safetensors"]:
        write(f"model/gpt_oss/{name}", (fixtures / f"families/gpt_oss_mxfp4/{name}").read_bytes())
    # Recurrent layers, and fp8 with scales by blocks and by rows, as its two kinds of files name them.
    for name in ["config.json", "model.safetensors"]:
        write(f"model/qwen3_5/{name}", (fixtures / f"families/qwen3_5_text/{name}").read_bytes())
        for kind in ["blocks", "channel"]:
            write(f"model/fp8_{kind}/{name}", (fixtures / f"fp8/{kind}/{name}").read_bytes())
    for name in ["gpt_oss_mxfp4", "qwen3_moe_full"]:
        write(f"gguf/{name}.gguf", (fixtures / f"families/{name}/model.q8_0.gguf").read_bytes())
    for name in ("types", "kept"):
        write(f"gguf/{name}.gguf", (fixtures / f"formats/{name}.gguf").read_bytes())


def configurations():
    for path in sorted(fixtures.glob("*/*/config.json")):
        write(f"config/{path.parent.name}/config.json", json.loads(path.read_text()))
    llama_config = llama()[0]
    for name, rope in [("llama3", {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                   "high_freq_factor": 4.0, "original_max_position_embeddings": 32}),
                       ("linear", {"type": "linear", "factor": 2.0}), ("dynamic", {"type": "dynamic", "factor": 4.0}),
                       ("yarn", {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
                                 "beta_fast": 32, "beta_slow": 1, "mscale": 1.0}),
                       ("longrope", {"rope_type": "longrope", "short_factor": [1, 1.5, 2, 3], "factor": 2.0,
                                     "long_factor": [1, 4, 8, 16], "original_max_position_embeddings": 32})]:
        write(f"config/rope_{name}/config.json", llama_config | {"rope_scaling": rope})
    write("config/rope_parameters/config.json", llama_config | {
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}})


def next_id(tokenizer):
    """The id that the tokenizers library gives "<s>" beside this tokenizer.json."""
    known = {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or []}
    known.update(tokenizer["model"]["vocab"])
    return known.get("<s>", len(known))


def settings(identifier, template):
    return {"bos_token": "<s>", "eos_token": {"content": "<s>", "special": True}, "unk_token": None,
            "add_bos_token": True, "add_eos_token": False, "add_prefix_space": True, "legacy": False,
            "chat_template": [{"name": "default", "template": template}],
            "added_tokens_decoder": {str(identifier): {
                "content": "<s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                "special": True}}}


def tokenizers():
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    for path in sorted((fixtures / "tokenizers").glob("*.json")):
        value = json.loads(path.read_text())
        if isinstance(value, dict) and "model" in value:
            write(f"tokenizer/{path.stem}/tokenizer.json", value)
            write(f"tokenizer/{path.stem}/tokenizer_config.json", settings(next_id(value), template))
    grows = json.loads((fixtures / "tokenizers/punctuation.json").read_text())
    older = {**settings(0, template), "added_tokens_decoder": None}
    write("tokenizer/punctuation/tokenizer_config.json", older)
    write("tokenizer/punctuation/special_tokens_map.json", {"bos_token": "<s>", "pad_token": {"content": "<s>"}})
    write("tokenizer/punctuation/added_tokens.json", {"<s>": next_id(grows), "<extra>": next_id(grows) + 1})
    write("tokenizer/qwen/chat_template.jinja", template)
    twice = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    grows["normalizer"] = {"type": "Sequence", "normalizers": [
        twice, {"type": "Replace", "pattern": {"Regex": "(a|b)"}, "content": "ab"}, {"type": "NFC"}, twice]}
    write("tokenizer/grows/tokenizer.json", grows)
    for path in sorted((fixtures / "tokenizers").glob("*.model")):
        write(f"tokenizer/{path.stem}/tokenizer.model", path.read_bytes())
        write(f"tokenizer/{path.stem}/tokenizer_config.json", settings(1, template))


def patterns():
    texts = {
        "gpt2": (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", "It's the year 2024."),
        "llama3": (r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+", "Hi\n 12345"),
        "words": (r"(\w+)\s(?P<next>[\w-]+)\s*(?:of|in)?", "a word of é"), "nested": (r"(a|b(c|d)*)+", "abcdcdab"),
        "names": (r"model\.layers\.\d+\.(q|k|v)_proj", "model.layers.10.q_proj"), "empty": (r"x*", "aaa"),
        "slow": (r"(a+)+$", "a" * 30 + "!"), "slower": (r"(.*)*(a|aa)+b", "a" * 40),
        "look": (r"(?<=a)b(?!c)\b", "ab abc"), "classes": (r"[[:alpha:]\S&&[^0-9]]+", "abc1")}
    for name, (pattern, text) in texts.items():
        write(f"regex/{name}.regex", f"{pattern}\n{text}")


def adapters():
    def pair(name, rank, out, into):
        return {f"base_model.model.{name}.lora_A.weight": f32(rank, into),
                f"base_model.model.{name}.lora_B.weight": f32(out, rank)}

    base = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "tiny", "r": 4, "lora_alpha": 8,
            "lora_dropout": 0.05, "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "use_rslora": False,
            "use_dora": False, "init_lora_weights": True, "target_modules": ["layers.0.self_attn.q_proj", "layers.1.mlp.down_proj"],
            "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None, "layers_to_transform": None,
            "layers_pattern": None, "revision": None, "exclude_modules": None}
    q, down = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
    write("adapter/plain/adapter_config.json", base)
    write("adapter/plain/adapter_model.safetensors", safetensors(pair(q, 4, 16, 16) | pair(down, 4, 16, 32)))
    write("adapter/patterns/adapter_config.json", base | {
        "use_rslora": True, "rank_pattern": {down: 2}, "alpha_pattern": {"q_proj": 16, down: 3.5}})
    write("adapter/patterns/adapter_model.safetensors", safetensors(pair(q, 4, 16, 16) | pair(down, 2, 16, 32)))
    experts, gate = "model.layers.0.mlp.experts", "model.layers.0.mlp.gate"
    write("adapter/parameters/adapter_config.json", base | {
        "lora_dropout": 0.0, "target_modules": ["layers.0.self_attn.q_proj"], "target_parameters": [
            "layers.0.mlp.experts.gate_up_proj", "layers.0.mlp.experts.down_proj", "layers.0.mlp.gate.weight"],
        "rank_pattern": {experts + ".gate_up_proj": 8}, "alpha_pattern": {experts + ".gate_up_proj": 16}})
    write("adapter/parameters/adapter_model.safetensors", safetensors(
        pair(q, 4, 16, 16) | pair(gate, 4, 3, 16) | pair(experts + ".base_layer", 24, 64, 16)
        | pair(experts, 12, 16, 32)))

    def seed(name, config, tensors):
        write(f"adapter/{name}/adapter_config.json", base | {"target_modules": ["q_proj"], "exclude_modules": None,
            "layers_to_transform": [0]} | config)
        write(f"adapter/{name}/adapter_model.safetensors", safetensors(tensors))

    prefix = "base_model.model."
    seed("dora", {"use_dora": True, "lora_dropout": 0.0},
         pair(q, 4, 16, 16) | {f"{prefix}{q}.lora_magnitude_vector": f32(16)})
    seed("norm", {"modules_to_save": ["model.norm"]}, pair(q, 4, 16, 16) | {prefix + "model.norm.weight": f32(16)})
    seed("olora", {"init_lora_weights": "gaussian", "use_rslora": True}, pair(q, 4, 16, 16))
    write("adapter/ia3/adapter_config.json", {
        "peft_type": "IA3", "task_type": "CAUSAL_LM", "base_model_name_or_path": "tiny", "fan_in_fan_out": False,
        "inference_mode": True, "init_ia3_weights": True, "modules_to_save": None, "exclude_modules": None,
        "feedforward_modules": [down], "target_modules": [q, down]})
    write("adapter/ia3/adapter_model.safetensors", safetensors({
        f"{prefix}{q}.ia3_l": f32(16, 1), f"{prefix}{down}.ia3_l": f32(1, 32)}))
    peft = {"task_type": "CAUSAL_LM", "base_model_name_or_path": "tiny", "inference_mode": True, "modules_to_save": None}
    write("adapter/vera/adapter_config.json", peft | {
        "peft_type": "VERA", "r": 4, "projection_prng_key": 0, "save_projection": True, "vera_dropout": 0.05,
        "d_initial": 0.1, "bias": "none", "fan_in_fan_out": False, "target_modules": [q], "init_weights": True})
    write("adapter/vera/adapter_model.safetensors", safetensors({
        f"{prefix}{q}.vera_lambda_b": f32(16), f"{prefix}{q}.vera_lambda_d": f32(4),
        "base_model.vera_A": f32(4, 16), "base_model.vera_B": f32(16, 4)}))
    seed("tokens", {"trainable_token_indices": [3, 5]}, pair(q, 4, 16, 16) | {
        prefix + "model.embed_tokens.token_adapter.trainable_tokens_delta": f32(2, 16)})
    seed("embedding", {"target_modules": ["q_proj", "embed_tokens"]}, pair(q, 4, 16, 16) | {
        prefix + "model.embed_tokens.lora_embedding_A": f32(4, 64),
        prefix + "model.embed_tokens.lora_embedding_B": f32(16, 4)})
    write("adapter/mlx/adapter_config.json", {
        "fine_tune_type": "lora", "model": "tiny", "num_layers": 2, "lora_parameters": {
            "rank": 4, "scale": 2.0, "dropout": 0.05, "keys": ["self_attn.q_proj"]}})
    write("adapter/mlx/adapters.safetensors", safetensors({q + ".lora_a": f32(16, 4), q + ".lora_b": f32(4, 16)}))


def requests():
    """Bodies as clients of OpenAI's API send them."""
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    write("requests/chat.json", {"model": "tiny", "messages": talk, "stream": True, "stop": ["\n", "."],
        "stream_options": {"include_usage": True}, "temperature": 0.7, "top_p": 0.9, "seed": 7, "max_tokens": 5})
    write("requests/parts.json", {"model": "tiny", "messages": talk[1:] + [
        {"role": "assistant", "content": [{"type": "text", "text": "Hello"}], "tool_calls": []},
        {"role": "user", "name": "Mia", "content": [{"type": "text", "text": "é 👍"}]}],
        "max_completion_tokens": 3, "response_format": {"type": "text"}, "tools": [], "metadata": {}, "n": 1})
    write("requests/text.json", {"model": "tiny", "prompt": "The baker", "echo": True, "logit_bias": {}, "stop": "x"})
    write("requests/ids.json", {"model": "tiny", "prompt": [1, 2, 3], "top_k": 40, "best_of": 1, "user": "u"})


def records():
    alpaca = [{"instruction": f"Add {i} and 2.", "input": "" if i % 2 else "as a word", "output": f"{i + 2}"} for i in range(3)]
    lines = lambda rows: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write("records/array.json", alpaca)
    write("records/object.json", json.dumps(alpaca[0], indent=2))
    write("records/lines.jsonl", lines(alpaca) + "\n")
    write("records/mixed.jsonl", lines([{"text": "é 👍", "n": [1, 2.5, -1e3, None, True, {"a": []}]}, {"text": ""}]))
    write("records/table.csv", 'instruction,input,output\n"Say ""hi"", now",,Hi\r\n"two\nlines",é,x\n')
    write("records/table.tsv", "prompt\tcompletion\n1 + 1 =\t2\n")
    write("records/plain.txt", "\ufeffThe baker makes bread.\n日本語\n")
    chat = [{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
                          {"role": "assistant", "content": "Hello", "weight": 1},
                          {"role": "user", "content": "Bye"}, {"role": "assistant", "content": "Goodbye"}]},
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                          {"role": "assistant", "content": "Yes", "reasoning_content": "Think.", "tool_calls": []}],
             "tools": None}]
    share = [{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}]
    for name, rows in [("alpaca", alpaca), ("chat", chat), ("sharegpt", share),
                       ("text", [{"text": "The baker makes bread. " * 9}]),
                       ("completion", [{"prompt": "2 + 2 =", "completion": " 4"}]),
                       ("self_instruct", [{"instruction": "Add.", "instances": [{"input": "1 1", "output": "2"}]}]),
                       ("hh_rlhf", [{"chosen": "Human: Hi Assistant: Hello", "rejected": "No"}]),
                       ("input_output", [{"input": "Who?", "output": " Mia."}]),
                       ("chip2", [{"text": "<human>: Hi\n<bot>: Hello"}])]:
        write(f"samples/{name}.jsonl", lines(rows))


def chat_templates():
    for path in sorted((corpus.parent.parent / "Tests/Fixtures/templates").glob("*.jinja")):
        write(f"jinja/{path.name}", path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    shutil.rmtree(corpus, ignore_errors=True)
    for make in [weights, models, configurations, tokenizers, patterns, adapters, requests, records, chat_templates]:
        make()
    size = sum(path.stat().st_size for path in corpus.rglob("*") if path.is_file())
    print(f"{size} bytes in {corpus}")
