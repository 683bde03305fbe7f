"""Adapters of modules whose names differ between checkpoints and transformers 5, on models of Tests/Fixtures/families.

peft 0.21.2, torch 2.13.0, transformers 5.23.0, safetensors. Run in this folder: python make_renamed.py
"""

import pathlib
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

here = pathlib.Path(__file__).parent
ids = torch.tensor([[(7 * i * i + 3 * i + 5) % 128 for i in range(24)]])
cases = {
    "head": ("gpt_neox", dict(target_modules=["lm_head", "dense"], rank_pattern={"lm_head": 3})),
    "head_whole": ("gpt_neox", dict(target_modules=["dense"], modules_to_save=["lm_head"])),
    "router_whole": ("mixtral", dict(target_modules=["q_proj"], modules_to_save=["gate"])),
    "biases": ("gpt_oss", dict(target_modules=["q_proj"], bias="all")),
}


def load(family):
    return AutoModelForCausalLM.from_pretrained(
        here.parent / "families" / family, dtype=torch.float32, attn_implementation="eager",
        experts_implementation="eager").eval()


for name, (family, fields) in cases.items():
    torch.manual_seed(1)
    model = get_peft_model(load(family), LoraConfig(r=2, lora_alpha=4, task_type="CAUSAL_LM", **fields))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    folder = here / "renamed" / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace(str((here.parent / "families" / family).resolve()), family))
    with torch.no_grad():
        logits = PeftModel.from_pretrained(load(family), folder).eval()(ids, use_cache=False).logits[0]
    save_file({"logits": logits.contiguous()}, folder / "logits.safetensors")
