#!/usr/bin/env python3
"""Loads an adapter that qlora-run saved with PEFT and compares logits.

usage: check_adapter_in_peft.py BASE_HF_DIR ADAPTER_DIR LOGITS.safetensors

BASE_HF_DIR is the base model as f32 safetensors; it is quantized to NF4 with double quantization by bitsandbytes and run
in f32 in training mode, which is the path that dequantizes. LOGITS holds `ids` [T] and `logits` [T, V] from
    qlora.save("logits.safetensors", { ids = qlora.tensor(ids, { dtype = "i64" }), logits = model:logits(ids) })
Needs: torch==2.13.0 transformers==5.23.0 peft==0.21.2 bitsandbytes==0.50.2 safetensors.
"""
import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

base, adapter, path = sys.argv[1:4]
ours = load_file(path)
config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                            bnb_4bit_compute_dtype=torch.float32)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, quantization_config=config, device_map={"": "cpu"})
model = PeftModel.from_pretrained(model, adapter)
model.train()
for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
with torch.no_grad():
    theirs = model(ours["ids"].reshape(1, -1).long()).logits[0].float()
worst = float((theirs - ours["logits"]).abs().max())
scale = float(theirs.abs().max())
print(f"largest difference {worst:.3e}, largest logit {scale:.3f}, relative {worst / scale:.3e}")
sys.exit(0 if worst / scale < 1e-3 else 1)
