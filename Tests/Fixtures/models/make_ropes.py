#!/usr/bin/env python3
"""Rotary embeddings as transformers computes them: ../ropes/ropes.json and ../ropes/NAME.safetensors.

usage: make_ropes.py

Needs: torch==2.13.0 transformers==5.23.0 safetensors (PyPI). Everything is f32 on the CPU.
ropes.json has one entry for each case: members that are added to the config of the tiny Llama in ../ropes/rope_base, and
for some lengths of a sequence the frequencies and the factor of cosines and sines. NAME.safetensors holds the logits of
that model for the ids (7 i^2 + 3 i + 5) mod 32 at these lengths. partial.json has queries and keys turned by Phi-3's
apply_rotary_pos_emb, which leaves the last elements of a head as they are.
"""
import json
import os
import shutil

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.phi3.modeling_phi3 import apply_rotary_pos_emb

here = os.path.dirname(os.path.abspath(__file__))
folder = os.path.join(here, "..", "ropes")
BASE = dict(model_type="llama", hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, vocab_size=32, max_position_embeddings=512, rms_norm_eps=1e-5,
            tie_word_embeddings=False, bos_token_id=0, eos_token_id=1, initializer_range=0.3)
ORIGINAL = "original_max_position_embeddings"
SHORT, LONG = [1 + 0.1 * i for i in range(8)], [1.0, 1.5, 2.5, 4.0, 8.0, 12.0, 20.0, 32.0]
CASES = {
    "default": dict(),
    "theta": dict(rope_parameters=dict(rope_type="default", rope_theta=500.0)),
    "linear": dict(rope_scaling=dict(type="linear", factor=4.0)),
    "dynamic": dict(max_position_embeddings=100, rope_scaling=dict(rope_type="dynamic", factor=4.0)),
    "yarn": dict(rope_theta=1000000.0, rope_scaling={"type": "yarn", "factor": 4.0, ORIGINAL: 128}),
    "yarn_attention": dict(rope_parameters={"rope_type": "yarn", "rope_theta": 5e5, "factor": 8.0, ORIGINAL: 64,
                                            "attention_factor": 1.5, "beta_fast": 16.0, "beta_slow": 2.0}),
    "yarn_mscale": dict(rope_scaling={"rope_type": "yarn", "factor": 40.0, ORIGINAL: 64, "mscale": 1.0,
                                      "mscale_all_dim": 0.707, "beta_fast": None, "beta_slow": 0}),
    "yarn_implied": dict(rope_scaling={"rope_type": "yarn", "factor": None, ORIGINAL: 64, "truncate": False}),
    "yarn_beside": {ORIGINAL: 32, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, ORIGINAL: 128}},
    "longrope": dict(rope_scaling={"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, ORIGINAL: 100}),
    "longrope_factor": dict(rope_scaling={"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG,
                                          ORIGINAL: 200, "factor": 16.0}),
    "longrope_attention": {ORIGINAL: 16, "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": SHORT, "long_factor": LONG,
        "attention_factor": 1.19}},
    "llama3": dict(rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                 ORIGINAL: 64}),
}
LENGTHS = [1, 17, 300]


def made(members):
    config = AutoConfig.for_model(**{**BASE, **json.loads(json.dumps(members))})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
torch.manual_seed(0)
base = made({})
with torch.no_grad():
    for key, p in base.named_parameters():
        if "norm" in key:
            p.add_(0.3 * torch.randn_like(p))
base.save_pretrained(os.path.join(folder, "rope_base"))
os.remove(os.path.join(folder, "rope_base", "generation_config.json"))
cases = {}
for name, members in CASES.items():
    tensors, rows = {}, []
    for length in LENGTHS:
        model = made(members)  # a new one, because dynamic scaling remembers the longest sequence it has seen
        model.load_state_dict(base.state_dict())
        ids = torch.tensor([[(7 * i * i + 3 * i + 5) % 32 for i in range(length)]])
        with torch.no_grad():
            tensors[f"logits_{length}"] = model(ids).logits[0].contiguous()
        rotary = model.model.rotary_emb
        rows.append(dict(length=length, frequencies=rotary.inv_freq.tolist(), scale=float(rotary.attention_scaling)))
    save_file(tensors, os.path.join(folder, name + ".safetensors"))
    cases[name] = dict(config=members, rows=rows)
with open(os.path.join(folder, "ropes.json"), "w") as f:
    json.dump(dict(versions=dict(torch=torch.__version__, transformers="5.23.0"), cases=cases), f)
    f.write("\n")
torch.manual_seed(1)
heads, width, turning, rows = 3, 16, 12, 5
q = torch.randn(1, heads, rows, width)
frequencies = 1 / (10000 ** (torch.arange(0, turning, 2).float() / turning))
angles = torch.arange(rows).float()[:, None] * frequencies
cos, sin = (torch.cat((f(angles), f(angles)), -1)[None] for f in (torch.cos, torch.sin))
turned, _ = apply_rotary_pos_emb(q, q, cos, sin)
by_row = lambda x: x[0].transpose(0, 1).reshape(-1).tolist()
with open(os.path.join(folder, "partial.json"), "w") as f:
    json.dump(dict(heads=heads, width=width, turning=turning, rows=rows, before=by_row(q), after=by_row(turned)), f)
    f.write("\n")
