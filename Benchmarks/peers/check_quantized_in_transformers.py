"""Logits of a 4-bit directory in transformers with bitsandbytes against those in a safetensors file (ids, logits).

In training mode, which dequantizes: in evaluation mode the CPU build of bitsandbytes rounds the scales to bf16.
"""
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

directory, expected = sys.argv[1:3]
ours = load_file(expected)
model = AutoModelForCausalLM.from_pretrained(directory, device_map="cpu")
model.train()
layer = model.model.layers[0].mlp.down_proj
assert type(layer).__name__ == "Linear4bit" and layer.weight.quant_state.quant_type == "nf4", type(layer)
nested = layer.weight.quant_state.nested
with torch.no_grad():
    logits = model(ours["ids"].reshape(1, -1)).logits[0].float()
worst = (logits - ours["logits"]).abs().max().item() / logits.abs().max().item()
same = (logits.argmax(-1) == ours["logits"].argmax(-1)).float().mean().item()
print(f"nested {nested}: largest difference {worst:.2e} of the largest logit, "
      f"same next token at {same:.0%} of the positions")
sys.exit(worst > 1e-3)
