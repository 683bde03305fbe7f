#!/usr/bin/env python3
"""Computes what qlora.merge measured, with transformers, PEFT and bitsandbytes.

usage: check_merge.py BASE_HF_DIR WORK

WORK is what check_merge.sh writes: adapter, a folder for each target, and said.json with the samples and what the merge
said. The live adapter is PEFT's on the base in NF4 with double quantization, computed in f32.
Needs: torch==2.13.0 transformers==5.23.0 peft==0.21.2 bitsandbytes==0.50.2.
"""
import json
import math
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

base, work = sys.argv[1:3]
said = json.load(open(f"{work}/said.json"))
config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                            bnb_4bit_compute_dtype=torch.float32)


def logits(model):
    model.train()  # the path of bitsandbytes that dequantizes
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        return [model(torch.tensor([sample["ids"]])).logits[0].double() for sample in said["samples"]]


quantized = AutoModelForCausalLM.from_pretrained(
    base, dtype=torch.float32, quantization_config=config, device_map={"": "cpu"})
found = {"base": logits(quantized)}
live = logits(PeftModel.from_pretrained(quantized, f"{work}/adapter"))
for target in ("original", "dequantized", "requantized"):
    model = AutoModelForCausalLM.from_pretrained(f"{work}/{target}", dtype=torch.float32, device_map={"": "cpu"})
    if target == "requantized":
        for module in model.modules():
            if hasattr(module, "compute_dtype"):
                module.compute_dtype = torch.float32
    found[target] = logits(model)

good = True
for name, rows in found.items():
    divergence, same, count, loss, targets = 0.0, 0, 0, 0.0, 0
    for sample, a, b in zip(said["samples"], live, rows):
        p, q = a.log_softmax(-1), b.log_softmax(-1)
        divergence += float((p.exp() * (p - q)).sum())
        same += int((a.argmax(-1) == b.argmax(-1)).sum())
        count += a.shape[0]
        for position, label in enumerate(sample["labels"][1:]):
            if label >= 0:
                loss, targets = loss - float(q[position, label]), targets + 1
    kl, agreement, perplexity = divergence / count, same / count, math.exp(loss / targets)
    ours = said["rows"][name]
    print(f"{name:12} KL {kl:.7f}, said {ours['kl']:.7f}; equal top tokens {agreement:.5f}, said "
          f"{ours['agreement']:.5f}; perplexity {perplexity:.5f}, said {ours['perplexity']:.5f}")
    good = good and abs(kl - ours["kl"]) <= 0.01 * kl + 1e-6 and abs(agreement - ours["agreement"]) <= 1.5 / count \
        and abs(perplexity - ours["perplexity"]) <= 1e-3 * perplexity
sys.exit(0 if good else 1)
