"""Random configs for families.py: what a config.json of each family may say, mostly other than its defaults."""

ROPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")


def maybe(r, config, key, *values, chance=0.5):
    """The key with one of the values, or not at all."""
    if r.random() < chance:
        config[key] = r.choice(values)


def rope(r, config, kinds=ROPES, parts=None, theta=True, nested=False):
    """Parameters of one rotary embedding; `parts` are partial_rotary_factors."""
    kind, limit = r.choice(kinds), config["max_position_embeddings"]
    p = {"rope_type": kind}
    original = r.choice((16, 24, 32))
    if kind in ("linear", "dynamic", "yarn", "llama3"):
        p["factor"] = r.choice((1.0, 1.5, 2.0, 4.0, 8.0))
    if kind == "llama3":
        p |= {"low_freq_factor": r.choice((1.0, 0.5)), "high_freq_factor": r.choice((4.0, 2.0)),
              "original_max_position_embeddings": original}
    if kind == "yarn":
        maybe(r, p, "original_max_position_embeddings", original, chance=0.8)
        maybe(r, p, "attention_factor", 0.7, 1.3, chance=0.3)
        maybe(r, p, "beta_fast", 8.0, 20, chance=0.3)
        maybe(r, p, "beta_slow", 2.0, 0.5, chance=0.3)
        maybe(r, p, "truncate", True, False, chance=0.3)
        maybe(r, p, "mscale", 0.707, 1.0, chance=0.3)
        maybe(r, p, "mscale_all_dim", 0.5, 1.0, chance=0.3)
    if kind == "longrope":
        head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        part = r.choice(parts) if parts else 1.0
        if parts:
            p["partial_rotary_factor"] = part
        pairs = int(head * part) // 2
        p |= {"short_factor": [round(r.uniform(1, 2), 2) for _ in range(pairs)],
              "long_factor": [round(r.uniform(1, 6), 2) for _ in range(pairs)]}
        maybe(r, p, "factor", 2.0, 4.0, chance=0.3)
        maybe(r, p, "attention_factor", 0.7, 1.3, chance=0.3)
        if r.random() < 0.8:
            (p if r.random() < 0.5 else config)["original_max_position_embeddings"] = original
    elif parts:
        maybe(r, p if r.random() < 0.6 else config, "partial_rotary_factor", *parts, chance=0.7)
    if nested:
        maybe(r, p, "rope_theta", 500.0, 10000.0, 123456.0)
        return p
    place = p if r.random() < 0.5 else config
    if theta:
        maybe(r, place, "rope_theta", 500.0, 10000.0, 123456.0, chance=0.8)
    if r.random() < 0.2:
        p["type"] = p.pop("rope_type")
    name = r.choice(("rope_parameters", "rope_scaling"))
    if kind != "default" or r.random() < 0.5:
        config[name] = p
    elif place is p and "rope_theta" in p:
        config["rope_theta"] = p["rope_theta"]


def common(r, family, heads=True):
    """Sizes that no vector width divides, and what every family has."""
    count = r.choice((1, 2, 3, 4, 6))
    groups = r.choice([g for g in range(1, count + 1) if count % g == 0])
    width = r.choice((4, 6, 8, 10, 16, 20, 32))
    c = {"model_type": family, "hidden_size": count * width * r.choice((1, 1, 2)) if heads else count * width,
         "intermediate_size": r.choice((17, 24, 48, 65, 96)), "num_hidden_layers": r.choice((1, 2, 3, 5)),
         "num_attention_heads": count, "vocab_size": r.choice((64, 97, 130)),
         "max_position_embeddings": r.choice((48, 64, 100, 256))}
    if heads:
        c["num_key_value_heads"] = groups
        maybe(r, c, "head_dim", width, r.choice((8, 12, 18, 34)), chance=0.6)
    maybe(r, c, "rms_norm_eps", 1e-5, 1e-3, 0.05)
    maybe(r, c, "tie_word_embeddings", True, False, chance=0.6)
    maybe(r, c, "eos_token_id", None, 3, [5, 9], chance=0.9)
    maybe(r, c, "bos_token_id", None, 1)
    maybe(r, c, "pad_token_id", None, 0)
    maybe(r, c, "hidden_act", "silu", "swish", "silu", "swish", "silu", "gelu", chance=0.25)
    maybe(r, c, "attention_dropout", 0.0, 0.1, chance=0.1)
    maybe(r, c, "initializer_range", 0.02, chance=0.1)
    maybe(r, c, "dtype", "float32", "bfloat16", chance=0.2)
    return c


def layer_types(r, c, other, chance=0.4):
    if r.random() < chance:
        c["layer_types"] = [r.choice(("full_attention", other)) for _ in range(c["num_hidden_layers"])]


def window(r, c, chance=0.7, null=True):
    maybe(r, c, "sliding_window", 1, 3, 7, 16, *([None] if null else []), chance=chance)


def biases(r, c, mlp=False):
    maybe(r, c, "attention_bias", True, False)
    if mlp:
        maybe(r, c, "mlp_bias", True, False)


def experts(r, c, key, width=None, dense=False, norm=False):
    n = r.choice((2, 3, 4, 8))
    c[key] = n
    c["num_experts_per_tok"] = r.choice([k for k in (1, 2, 3) if k <= n])
    if width:
        c[width] = r.choice((16, 24, 33))
    if dense:
        maybe(r, c, "decoder_sparse_step", 1, 2, 3)
        maybe(r, c, "mlp_only_layers", [], [0], None, [1, 7], chance=0.4)
    if norm:
        maybe(r, c, "norm_topk_prob", True, False, chance=0.7)
    maybe(r, c, "output_router_logits", True, False, chance=0.2)
    maybe(r, c, "router_aux_loss_coef", 0.01, chance=0.2)


def qwen_windows(r, c):
    window(r, c)
    maybe(r, c, "use_sliding_window", True, True, False, chance=0.8)
    maybe(r, c, "max_window_layers", 0, 1, 2, 28)
    if c.get("use_sliding_window") or r.random() < 0.1:
        layer_types(r, c, "sliding_attention")


def llama(r, c):
    biases(r, c, mlp=True)
    rope(r, c)


def mistral(r, c):
    window(r, c)
    layer_types(r, c, "sliding_attention", 0.3)
    rope(r, c)


def mixtral(r, c):
    window(r, c)
    experts(r, c, r.choice(("num_local_experts", "num_local_experts", "num_experts")))
    maybe(r, c, "router_jitter_noise", 0.0, 0.1, chance=0.2)
    rope(r, c)


def qwen2(r, c):
    qwen_windows(r, c)
    rope(r, c)


def qwen3(r, c):
    biases(r, c)
    qwen_windows(r, c)
    rope(r, c)


def qwen3_moe(r, c):
    biases(r, c)
    window(r, c)
    maybe(r, c, "use_sliding_window", True, False)
    maybe(r, c, "max_window_layers", 0, 1, chance=0.3)
    experts(r, c, r.choice(("num_experts", "num_experts", "num_local_experts")), "moe_intermediate_size", True, True)
    rope(r, c)


def delta(r, c):
    biases(r, c)
    keys = r.choice((1, 2, 3))
    c |= {"linear_num_key_heads": keys, "linear_num_value_heads": keys * r.choice((1, 2, 3)),
          "linear_key_head_dim": r.choice((8, 12, 16, 20)), "linear_value_head_dim": r.choice((8, 12, 20, 24)),
          "linear_conv_kernel_dim": r.choice((2, 3, 4, 5))}
    c["head_dim"] = c.get("head_dim") or 16
    maybe(r, c, "full_attention_interval", 1, 2, 3)
    layer_types(r, c, "linear_attention")
    rope(r, c, parts=(0.25, 0.5, 0.75, 1.0))


def qwen3_5_text(r, c):
    delta(r, c)


def qwen3_5_moe_text(r, c):
    experts(r, c, "num_experts", "moe_intermediate_size")
    c["shared_expert_intermediate_size"] = r.choice((8, 17, 24))
    delta(r, c)


def qwen3_next(r, c):
    experts(r, c, "num_experts", "moe_intermediate_size", True, True)
    c["shared_expert_intermediate_size"] = r.choice((8, 17, 24))
    delta(r, c)


def olmoe(r, c):
    biases(r, c)
    maybe(r, c, "clip_qkv", None, 0.5, chance=0.2)
    experts(r, c, "num_experts", norm=True)
    rope(r, c)


def gpt_oss(r, c):
    biases(r, c)
    window(r, c, null=False)
    layer_types(r, c, "sliding_attention")
    experts(r, c, r.choice(("num_local_experts", "num_experts")))
    maybe(r, c, "swiglu_alpha", 1.702, 1.5, chance=0.2)
    maybe(r, c, "swiglu_limit", 7.0, 2.0, chance=0.2)
    if r.random() < 0.8:
        rope(r, c)


def granite(r, c):
    biases(r, c, mlp=True)
    for key in ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"):
        maybe(r, c, key, 0.25, 1.0, 3, chance=0.6)
    rope(r, c)


def smollm3(r, c):
    biases(r, c, mlp=True)
    window(r, c)
    maybe(r, c, "use_sliding_window", True, False)
    maybe(r, c, "no_rope_layer_interval", 1, 2, 3)
    if r.random() < 0.3:
        c["no_rope_layers"] = [r.choice((0, 1)) for _ in range(c["num_hidden_layers"])]
    layer_types(r, c, "sliding_attention", 0.3)
    rope(r, c)


def olmo2(r, c):
    biases(r, c)
    rope(r, c)


def nested(r, c):
    parameters = {}
    kinds = tuple(k for k in ROPES if k != "longrope")
    for key in ("full_attention", "sliding_attention"):
        if r.random() < 0.7:
            parameters[key] = rope(r, c, kinds, nested=True)
    if parameters and r.random() < 0.7:
        c["rope_parameters"] = parameters
    else:
        maybe(r, c, "rope_theta", 500.0, 10000.0)
        if r.random() < 0.5:
            c["rope_scaling"] = rope(r, c, kinds, nested=True)


def olmo3(r, c):
    biases(r, c)
    window(r, c, null=False)
    layer_types(r, c, "sliding_attention")
    nested(r, c)


def phi3(r, c):
    window(r, c)
    maybe(r, c, "resid_pdrop", 0.0, 0.1, chance=0.1)
    rope(r, c, ("default", "longrope", "yarn"), parts=(0.5, 0.75, 1.0))


def gemma(r, c):
    biases(r, c)
    c.pop("hidden_act", None)
    c["head_dim"] = c.get("head_dim") or 16
    maybe(r, c, "hidden_act", "gelu", "gelu_pytorch_tanh", "silu", chance=0.5)
    maybe(r, c, "hidden_activation", None, "gelu_pytorch_tanh", "gelu", chance=0.2)
    maybe(r, c, "use_bidirectional_attention", None, False, True, chance=0.1)
    rope(r, c)


def gemma_common(r, c):
    biases(r, c)
    c.pop("hidden_act", None)
    c["head_dim"] = c.get("head_dim") or 16
    maybe(r, c, "hidden_activation", "gelu_pytorch_tanh", "silu", "gelu", chance=0.3)
    maybe(r, c, "query_pre_attn_scalar", 7, 24, 144)
    window(r, c, null=False)
    layer_types(r, c, "sliding_attention")
    maybe(r, c, "final_logit_softcapping", None, 3.0, 30.0)
    maybe(r, c, "use_bidirectional_attention", False, True, chance=0.1)


def gemma2(r, c):
    gemma_common(r, c)
    maybe(r, c, "attn_logit_softcapping", None, 2.0, 50.0)
    rope(r, c)


def gemma3_text(r, c):
    gemma_common(r, c)
    maybe(r, c, "attn_logit_softcapping", None, 2.0, chance=0.1)
    maybe(r, c, "rope_local_base_freq", 500.0, 10000, chance=0.4)
    maybe(r, c, "sliding_window_pattern", 2, 3, chance=0.4)
    nested(r, c)


def gpt_neox(r, c):
    for key in ("num_key_value_heads", "head_dim", "rms_norm_eps", "hidden_act"):
        c.pop(key, None)
    c["hidden_size"] = c["num_attention_heads"] * r.choice((8, 12, 16, 20))
    maybe(r, c, "hidden_act", "gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "silu", "relu", "quick_gelu", chance=0.8)
    maybe(r, c, "layer_norm_eps", 1e-5, 1e-2)
    maybe(r, c, "use_parallel_residual", True, False)
    maybe(r, c, "attention_bias", True, False)
    maybe(r, c, "rotary_pct", 0.25, 0.5, 1.0)
    maybe(r, c, "rotary_emb_base", 500.0, 10000)
    if r.random() < 0.6:
        rope(r, c, parts=(0.25, 0.5, 1.0), theta=r.random() < 0.3)


FAMILIES = {f.__name__: f for f in (
    llama, mistral, mixtral, qwen2, qwen3, qwen3_moe, qwen3_5_text, qwen3_5_moe_text, qwen3_next, olmoe, gpt_oss, granite,
    smollm3, olmo2, olmo3, phi3, gemma, gemma2, gemma3_text, gpt_neox)}
# Whose head_dim has a default of its own.
HEADS = ("qwen3", "gpt_oss")


def draw(family, r):
    """A config, and the tokens of a long text that its positions allow."""
    c = common(r, family)
    FAMILIES[family](r, c)
    if family in ("phi3", "smollm3"):
        c.setdefault("pad_token_id", None)
    if family == "olmoe":
        # transformers has norms of other widths otherwise.
        c["head_dim"] = c["hidden_size"] // c["num_attention_heads"]
    if family == "mixtral":
        c.setdefault("head_dim", 8)
    if family in HEADS:
        c.setdefault("head_dim", 10)
    limit = c["max_position_embeddings"]
    for p in (c.get("rope_parameters"), c.get("rope_scaling")):
        if isinstance(p, dict) and p.get("rope_type", p.get("type")) == "dynamic" and r.random() < 0.5:
            limit = int(limit * p["factor"])
    return c, min(limit, r.choice((20, 48, 90, 140)))
