#!/usr/bin/env python3
"""A tiny random model of each family, with what transformers and PEFT compute from it.

usage: make_families.py [NAME...]          (writes ../families/NAME; without names all of them)

Needs: torch==2.13.0 transformers==5.23.0 peft==0.21.2 safetensors (PyPI). Everything is f32 on the CPU.
golden.safetensors holds, for the token ids below: `logits` of the model, `adapted_logits` and `loss` (mean over the
next tokens) with the adapter, and `grad.NAME`, the loss's gradient of each matrix of the adapter. `long_logits` are the rows
LONG_ROWS of the logits of a text of 300 tokens, longer than every window.
"""
import os
import shutil
import sys

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

here = os.path.dirname(os.path.abspath(__file__))
COMMON = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              vocab_size=128, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=0,
              eos_token_id=1, pad_token_id=None, initializer_range=0.2)
FAMILIES = {
    "llama": dict(model_type="llama", head_dim=8, rope_theta=500000.0, attention_bias=True),
    "mistral": dict(model_type="mistral", head_dim=16, sliding_window=40, rope_theta=1000000.0),
    "qwen2": dict(model_type="qwen2", use_sliding_window=False, rope_theta=1000000.0, tie_word_embeddings=True),
    "qwen3": dict(model_type="qwen3", head_dim=16, rope_theta=1000000.0),
    "granite": dict(model_type="granite", embedding_multiplier=6.0, residual_multiplier=0.22, logits_scaling=4.0,
                    attention_multiplier=0.2, tie_word_embeddings=True),
    "smollm3": dict(model_type="smollm3", num_hidden_layers=4, use_sliding_window=False),
    "olmo2": dict(model_type="olmo2", rope_theta=500000.0, attention_bias=True),
    "olmo3": dict(model_type="olmo3", num_hidden_layers=4, sliding_window=7, max_position_embeddings=512,
                  rope_scaling=dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=64, beta_fast=32.0,
                                    beta_slow=1.0, attention_factor=1.2079441541679836)),
}
# llama.cpp takes the width of a head for the scalar.
GEMMA = dict(head_dim=16, query_pre_attn_scalar=16, sliding_window=40, tie_word_embeddings=True)
FAMILIES |= {
    "phi3": dict(model_type="phi3", sliding_window=40),
    "phi3_long": dict(model_type="phi3", head_dim=8, tie_word_embeddings=True, original_max_position_embeddings=64,
                      rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75,
                                           short_factor=[1.0, 1.1, 1.3], long_factor=[1.2, 2.0, 5.0])),
    "gemma": dict(model_type="gemma", head_dim=16, num_key_value_heads=1, tie_word_embeddings=True),
    # Caps that bend what so small a model computes.
    "gemma2": dict(model_type="gemma2", num_hidden_layers=2, attn_logit_softcapping=4.0, final_logit_softcapping=3.0,
                   **GEMMA),
    "gemma3_text": dict(model_type="gemma3_text", **{**GEMMA, "head_dim": 8, "query_pre_attn_scalar": 8,
                                                           "num_hidden_layers": 6},
                        rope_parameters=dict(full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1000000.0),
                                             sliding_attention=dict(rope_type="default", rope_theta=10000.0))),
    "gpt_neox": dict(model_type="gpt_neox", num_attention_heads=2, hidden_act="gelu"),
    # Branches one after the other, the tanh form of GELU, and biases of the feed-forward layer alone.
    "gpt_neox_serial": dict(model_type="gpt_neox", num_attention_heads=2, num_hidden_layers=1, hidden_act="gelu_fast",
                            use_parallel_residual=False, attention_bias=False, rotary_pct=0.5),
}
# A text model inside a multimodal one; the adapter is on the text model.
FAMILIES["gemma3"] = dict(
    model_type="gemma3", text_config={**COMMON, **FAMILIES["gemma3_text"], "num_hidden_layers": 2,
                                      "query_pre_attn_scalar": 24, "layer_types": ["sliding_attention",
                                                                                       "full_attention"]},
    vision_config=dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=8,
                       patch_size=4), mm_tokens_per_image=4, tie_word_embeddings=True)
# Three gated DeltaNets and attention with a gate; widths that are no multiples of a vector, and decays slow enough that
# states reach over chunks.
DELTA = dict(num_hidden_layers=4, initializer_range=0.1, head_dim=16, linear_key_head_dim=12, linear_value_head_dim=20,
             linear_num_key_heads=2, linear_num_value_heads=4, linear_conv_kernel_dim=4, full_attention_interval=4)
FAMILIES["qwen3_5_text"] = dict(model_type="qwen3_5_text", **DELTA)
FAMILIES["qwen3_5"] = dict(
    model_type="qwen3_5", text_config={**COMMON, **DELTA, "num_hidden_layers": 2, "full_attention_interval": 2,
                                       "linear_num_value_heads": 2, "tie_word_embeddings": True,
                                       "rope_parameters": dict(rope_type="default", rope_theta=10000.0,
                                                               partial_rotary_factor=0.25, mrope_interleaved=True,
                                                               mrope_section=[1, 1, 0])},
    vision_config=dict(hidden_size=8, intermediate_size=8, depth=1, num_heads=2, patch_size=4, out_hidden_size=32,
                       num_position_embeddings=16), tie_word_embeddings=True)
# What llama.cpp can compute too, as the two above are not: keys and values of a DeltaNet equally wide and heads with room
# for its rotary sections, and no biases.
FAMILIES["qwen3_5_square"] = dict(
    model_type="qwen3_5_text", **{**DELTA, "num_hidden_layers": 2, "full_attention_interval": 2, "head_dim": 32,
                                  "num_attention_heads": 2, "num_key_value_heads": 1, "linear_value_head_dim": 12})
FAMILIES["olmo2_plain"] = dict(model_type="olmo2", num_hidden_layers=1, rope_theta=500000.0)
LONG_IDS = [(11 * i * i + 5 * i + 3) % 128 for i in range(300)]
LONG_ROWS = [0, 16, 39, 40, 63, 64, 65, 127, 200, 299]
IDS = [(7 * i * i + 3 * i + 5) % 128 for i in range(24)]


def write(name):
    torch.manual_seed(0)
    options = FAMILIES[name] if "text_config" in FAMILIES[name] else {**COMMON, **FAMILIES[name]}
    config = AutoConfig.for_model(**options)
    if config.model_type == "gpt_neox":
        del config.rms_norm_eps, config.num_key_value_heads
    kind = AutoModelForImageTextToText if name == "qwen3_5" else AutoModelForCausalLM
    model = kind.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if key.endswith("bias") or "norm" in key:
                p.add_(0.3 * torch.randn_like(p))
            if key.endswith("A_log"):
                p.copy_(torch.linspace(-4, 0.5, p.numel()))
    folder = os.path.join(here, "..", "families", name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    ids = torch.tensor([IDS])
    with torch.no_grad():
        golden = {"logits": model(ids).logits[0]}
        golden["long_logits"] = model(torch.tensor([LONG_IDS])).logits[0][LONG_ROWS]
    targets = r".*language_model\.layers\..*_proj(_\w+)?" if "text_config" in options else "all-linear"
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets)).eval()
    for key, p in adapted.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(p, std=0.1)
    adapted.save_pretrained(os.path.join(folder, "adapter"))
    os.remove(os.path.join(folder, "adapter", "README.md"))
    output = adapted(ids, labels=ids)
    output.loss.backward()
    golden["adapted_logits"] = output.logits[0].detach()
    golden["loss"] = output.loss.detach().reshape(1)
    for key, p in adapted.named_parameters():
        if p.requires_grad:
            golden["grad." + key.replace("base_model.model.", "").replace(".default", "")] = p.grad
    save_file({key: value.contiguous() for key, value in golden.items()}, os.path.join(folder, "golden.safetensors"))
    for extra in ("generation_config.json",):
        if os.path.exists(os.path.join(folder, extra)):
            os.remove(os.path.join(folder, extra))


if __name__ == "__main__":
    for name in sys.argv[1:] or FAMILIES:
        write(name)
