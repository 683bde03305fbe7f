"""Norms of B after the steps of adapter_norms.lua, in PEFT on the same tokens, in bf16 and f32; prints by layer how far
bf16 is from f32 here and there, as mean and standard deviation over the seeds.

usage: adapter_norms.py MODEL OUT [LR]      needs torch, transformers and peft (requirements.txt)
"""
import json
import os
import statistics
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../Tests/Fixtures/peers"))
from portable import portable

model_path, out = sys.argv[1], sys.argv[2]
rate = float(sys.argv[3]) if len(sys.argv) > 3 else 1e-3
tokens = json.load(open(f"{out}/tokens.json"))
ours = json.load(open(f"{out}/norms.json"))
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def norms(dtype, steps, rank=8):
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=dtype)
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS))
    trained, found = [], {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        trained.append(parameter)
        if "lora_A" in name:
            module = name.removeprefix("base_model.model.").split(".lora_A")[0]
            parameter.data.copy_(portable(module, *parameter.shape))
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0)
    for sequences in steps:
        optimizer.zero_grad()
        count = sum(len(ids) - 1 for ids in sequences)
        for ids in sequences:
            ids = torch.tensor([ids])
            logits = model(input_ids=ids).logits[0, :-1].float()
            (torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum") / count).backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            found[name.removeprefix("base_model.model.").split(".lora_B")[0]] = float(parameter.detach().norm())
    return found


def by_layer(kind):
    """Mean over the modules of a layer of norm / norm in f32 - 1, one list of layers a seed."""
    rows = []
    for entry in kind:
        layers = {}
        for name, norm in entry["bf16"].items():
            layers.setdefault(int(name.split(".")[2]), []).append(norm / entry["f32"][name] - 1)
        rows.append([statistics.mean(layers[i]) for i in sorted(layers)])
    return rows


torch.set_num_threads(1)
peers = [{"f32": norms(torch.float32, s), "bf16": norms(torch.bfloat16, s)} for s in tokens]
f32 = [abs(a["f32"][n] / b["f32"][n] - 1) for a, b in zip(ours, peers) for n in b["f32"]]
print(f"f32 here against f32 there: largest difference of a norm {max(f32):.1e}")
for title, kind in [("here", ours), ("transformers + PEFT", peers)]:
    rows = by_layer(kind)
    for layer in range(len(rows[0])):
        values = [100 * row[layer] for row in rows]
        print(f"{title}: layer {layer}  {statistics.mean(values):+.2f} % +- {statistics.stdev(values):.2f}  "
              f"({min(values):+.2f} to {max(values):+.2f})")
