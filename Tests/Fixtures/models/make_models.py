#!/usr/bin/env python3
"""Tiny random models of each architecture with transformers' logits, and logits of the bitsandbytes fixtures.

usage: make_models.py          (writes beside itself)

Needs: torch==2.13.0 transformers==5.23.0 peft==0.21.2 bitsandbytes==0.50.2 safetensors (PyPI).
The folders base, nf4, nf4dq, fp4, nf4st (checkpoints) and ad1 (adapter) were written by transformers, bitsandbytes and
PEFT of the same versions from a random Llama of hidden size 64.
"""
import copy
import json
import os

import bitsandbytes.functional as bnbf
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

here = os.path.dirname(os.path.abspath(__file__))
COMMON = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              vocab_size=128, max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=0,
              eos_token_id=1, initializer_range=0.2)
MODELS = {
    "mistral": dict(model_type="mistral", sliding_window=8, rope_theta=10000.0),
    "qwen2": dict(model_type="qwen2", rope_theta=1000000.0),
    "qwen3": dict(model_type="qwen3", head_dim=32, rope_theta=1000000.0),
    "llama3": dict(model_type="llama", rope_theta=500000.0, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
    "bias": dict(model_type="llama", attention_bias=True, mlp_bias=True, rope_theta=10000.0),
    "tied": dict(model_type="llama", rope_theta=10000.0, tie_word_embeddings=True),
}
IDS = [(7 * i * i + 3 * i + 5) % 128 for i in range(24)]


def logits(model):
    with torch.no_grad():
        return model(torch.tensor([IDS]) % model.config.vocab_size).logits[0].float()


for name, extra in MODELS.items():
    torch.manual_seed(0)
    kind = extra["model_type"]
    config = AutoConfig.for_model(**{**COMMON, **extra})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if key.endswith("bias") or "norm" in key:
                p.add_(0.3 * torch.randn_like(p))
    folder = os.path.join(here, name)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "generation_config.json")) if os.path.exists(os.path.join(folder, "generation_config.json")) else None
    save_file({"logits": logits(model)}, os.path.join(folder, "logits.safetensors"))


def dense(folder):
    """The f32 state of a checkpoint, 4-bit weights decoded by the rules of its own tables."""
    raw = load_file(os.path.join(folder, "model.safetensors"))
    state = {}
    for key, value in raw.items():
        if any(s in key for s in (".absmax", ".quant_map", ".nested_", ".quant_state")):
            continue
        quantized = [k for k in raw if k.startswith(key + ".quant_state")]
        if not quantized:
            state[key] = value.float()
            continue
        info = json.loads(bytes(raw[quantized[0]].tolist()).decode())
        codes = value.view(torch.uint8).reshape(-1)
        nibbles = torch.stack([codes >> 4, codes & 15], 1).reshape(-1).long()
        absmax = raw[key + ".absmax"]
        if absmax.dtype == torch.uint8:
            nested = raw[key + ".nested_absmax"].repeat_interleave(info["nested_blocksize"])[: absmax.numel()]
            absmax = raw[key + ".nested_quant_map"][absmax.long()] * nested + info["nested_offset"]
        count = 1
        for s in info["shape"]:
            count *= s
        scale = absmax.repeat_interleave(info["blocksize"])[:count]
        state[key] = (raw[key + ".quant_map"][nibbles[:count]] * scale).reshape(info["shape"])
    return state


def write_patterns_adapter(model):
    """ad1 is as PEFT initialises it, with B zero; this one changes the logits, and has what ad1 lacks."""
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj", "lm_head"], use_rslora=True,
        rank_pattern={"v_proj": 2, r"layers\.0\.mlp\.down_proj": 6}, alpha_pattern={"down_proj": 12})
    torch.manual_seed(11)
    adapted = get_peft_model(copy.deepcopy(model), config)
    for key, value in adapted.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(value, std=0.1)
    adapted.save_pretrained(os.path.join(here, "patterns"), save_embedding_layers=False)
    os.remove(os.path.join(here, "patterns", "README.md"))


for name in ("base", "nf4", "nf4dq", "fp4", "nf4st"):
    folder = os.path.join(here, name)
    config = AutoConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.load_state_dict(dense(folder), strict=False)
    save_file({"logits": logits(model)}, os.path.join(folder, "logits.safetensors"))
    if name in ("base", "nf4dq"):
        for adapter in ("ad1", "patterns"):
            if adapter == "patterns" and name == "base":
                write_patterns_adapter(model)
            adapted = PeftModel.from_pretrained(copy.deepcopy(model), os.path.join(here, adapter)).eval()
            save_file({"logits": logits(adapted)}, os.path.join(here, adapter, f"logits_{name}.safetensors"))
