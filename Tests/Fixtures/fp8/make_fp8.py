#!/usr/bin/env python3
"""Tiny Llamas with weights in fp8 as DeepSeek, Qwen and compressed-tensors publish them, and transformers' logits.

usage: make_fp8.py          (writes beside itself)

Needs: torch==2.13.0 transformers==5.23.0 safetensors (PyPI).
Each folder holds the checkpoint; golden.safetensors `logits` of the same model with weights that this script decoded,
and `weight`, the decoded q_proj. codes.safetensors: `values`, f32, of the 256 codes of torch.float8_e4m3fn in order.
"""
import json
import os
import shutil

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig

here = os.path.dirname(os.path.abspath(__file__))
IDS = [(7 * i * i + 3 * i + 5) % 64 for i in range(24)]
F8 = torch.float8_e4m3fn
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "modules_to_not_convert": ["lm_head"]}


def compressed(strategy, **more):
    weights = dict(num_bits=8, type="float", symmetric=True, dynamic=False, strategy=strategy, group_size=None,
                   block_structure=None, actorder=None, observer="minmax", observer_kwargs={})
    group = {"targets": ["Linear"], "weights": {**weights, **more}, "output_activations": None,
             "input_activations": {**weights, "strategy": "token", "dynamic": True}}
    return {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": group},
            "ignore": ["lm_head"], "kv_cache_scheme": None, "quantization_status": "compressed",
            "global_compression_ratio": 1.2}


# name: config, rows and columns that share a scale (0: all), name and type of the scales
KINDS = {
    "blocks": ({**FP8, "weight_block_size": [16, 24]}, (16, 24), "_scale_inv", torch.bfloat16),
    "powers": ({**FP8, "weight_block_size": [32, 32], "scale_fmt": "ue8m0"}, (32, 32), "_scale_inv",
               torch.float8_e8m0fnu),
    "tensor": ({**FP8, "activation_scheme": "static"}, (0, 0), "_scale_inv", torch.float32),
    "channel": (compressed("channel"), (1, 0), "_scale", torch.bfloat16),
    "compressed_blocks": (compressed("block", block_structure=[16, 24]), (16, 24), "_scale", torch.float32),
}


def quantize(weight, block, dtype):
    rows, columns = weight.shape
    height, width = block[0] or rows, block[1] or columns
    scales = torch.empty(-(-rows // height), -(-columns // width))
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            scales[i, j] = weight[i * height:(i + 1) * height, j * width:(j + 1) * width].abs().max() / 400
    if dtype == torch.float8_e8m0fnu:
        scales = 2.0 ** scales.log2().ceil()
    scales = scales.to(dtype)
    spread = scales.float().repeat_interleave(height, 0)[:rows].repeat_interleave(width, 1)[:, :columns]
    codes = (weight / spread).to(F8)
    return codes, scales, codes.float() * spread


def write(name, quantization, block, ending, dtype):
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=40, intermediate_size=56, num_hidden_layers=1, num_attention_heads=2,
                         num_key_value_heads=1, vocab_size=64, max_position_embeddings=64, initializer_range=0.2,
                         bos_token_id=0, eos_token_id=1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    state = {}
    with torch.no_grad():
        for key, p in model.named_parameters():
            if not key.endswith("_proj.weight"):
                state[key] = p.detach().clone()
                continue
            codes, scales, values = quantize(p, block, dtype)
            p.copy_(values)
            state[key] = codes
            state[key + ending] = scales.reshape(()) if block == (0, 0) else scales
            if quantization.get("activation_scheme") == "static":
                state[key.replace(".weight", ".activation_scale")] = torch.tensor(0.5)
        logits = model(torch.tensor([IDS])).logits[0]
    folder = os.path.join(here, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    save_file({"logits": logits, "weight": dict(model.named_parameters())["model.layers.0.self_attn.q_proj.weight"].detach()},
              os.path.join(folder, "golden.safetensors"))
    members = {**config.to_dict(), "architectures": ["LlamaForCausalLM"], "quantization_config": quantization}
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(members, file, indent=1)


for name, kind in KINDS.items():
    write(name, *kind)
codes = torch.arange(256, dtype=torch.uint8)
save_file({"values": codes.view(F8).float()}, os.path.join(here, "codes.safetensors"))
