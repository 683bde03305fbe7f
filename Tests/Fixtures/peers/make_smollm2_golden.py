#!/usr/bin/env python3
"""Golden numbers of SmolLM2-135M from transformers, PEFT and bitsandbytes, for Tests and Benchmarks.

usage: make_smollm2_golden.py SmolLM2-135M-Instruct.Q4_1.gguf OUT_DIR [--hf DIR]

Needs: torch==2.13.0 transformers==5.23.0 peft==0.21.2 bitsandbytes==0.50.2 gguf safetensors (PyPI).
Writes smollm2_logits.json (f32 forward pass of the dequantised GGUF) and smollm2_qlora.json (20 QLoRA steps, NF4 with
double quantization, f32 compute). The double-quantised scales are made by the exact nearest rule of the CUDA kernels; the
CPU kernel of bitsandbytes rounds through a table of 65536 bins, and its curve is stored beside for comparison.
"""
import argparse
import json
import os

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
import peft
from peft import LoraConfig, get_peft_model
import bitsandbytes as bnb

from export_gguf import model_of, tokenizer_of
from portable import portable

PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n    if n < 2:\n",
    "<|im_start|>user\nName three primary colours.<|im_end|>\n<|im_start|>assistant\n",
]
STEPS, LENGTH, RATE = 20, 128, 1e-3
VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__,
            "bitsandbytes": bnb.__version__, "numpy": np.__version__}


def exact_scales(model, source):
    """Recomputes the 8-bit scale codes from the original weights by the exact nearest rule (ties to the even index)."""
    for name, module in model.named_modules():
        if not isinstance(module, bnb.nn.Linear4bit):
            continue
        state = module.weight.quant_state
        key = name.removeprefix("base_model.model.").removesuffix(".base_layer") + ".weight"
        w = source[key].reshape(-1)
        absmax = w.reshape(-1, state.blocksize).abs().amax(1).numpy()
        offset = np.float32(absmax.astype(np.float64).mean())
        d = (absmax - offset).astype(np.float32)
        table = state.state2.code.numpy().astype(np.float64)
        codes = np.empty(d.size, np.uint8)
        nested = []
        for start in range(0, d.size, 256):
            block = d[start:start + 256]
            m = np.float32(np.abs(block).max())
            nested.append(m)
            s = (block * (np.float32(1) / m)).astype(np.float32).astype(np.float64)
            upper = np.clip(np.searchsorted(table, s), 1, 255)
            lower = upper - 1
            below, above = s - table[lower], table[upper] - s
            pick = np.where(below < above, lower, np.where(above < below, upper, np.where(lower % 2 == 0, lower, upper)))
            codes[start:start + 256] = pick
        state.absmax.copy_(torch.from_numpy(codes))
        state.state2.absmax.copy_(torch.from_numpy(np.array(nested, np.float32)))
        state.offset.fill_(float(offset))


def curve(folder, ids, exact):
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=config, device_map={"": "cpu"})
    model.config.use_cache = False
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=16, lora_dropout=0.0, bias="none", target_modules="all-linear",
                                             task_type="CAUSAL_LM"))
    if exact:
        from safetensors.torch import load_file
        exact_scales(model, load_file(os.path.join(folder, "model.safetensors")))
    model.train()
    with torch.no_grad():
        for n, p in model.named_parameters():
            if ".lora_A." in n:
                p.copy_(portable(n.split("base_model.model.", 1)[1].split(".lora_A.")[0], *p.shape))
            elif ".lora_B." in n:
                p.zero_()
    trained = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    losses, norms = [], {}
    for step in range(STEPS):
        batch = torch.tensor([ids[step * LENGTH:(step + 1) * LENGTH]])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        if step == 0:
            norms = {n.split("base_model.model.", 1)[1].replace(".default", ""): float(p.grad.double().norm())
                     for n, p in model.named_parameters() if p.requires_grad and ".lora_B." in n}
        opt.step()
        opt.zero_grad()
        losses.append(loss.item())
        print(step, losses[-1], flush=True)
    return losses, norms


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("gguf")
    ap.add_argument("out")
    ap.add_argument("--hf", default="smollm2-f32")
    ap.add_argument("--only-logits", action="store_true")
    args = ap.parse_args()
    torch.set_num_threads(2)
    tok = tokenizer_of(args.gguf)
    model = model_of(args.gguf, torch.float32).eval()
    model.save_pretrained(args.hf)
    tok.save_pretrained(args.hf)
    cases = []
    for prompt in PROMPTS:
        ids = tok(prompt, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
            out = model.generate(torch.tensor([ids]), max_new_tokens=32, do_sample=False, eos_token_id=-1,
                                 attention_mask=torch.ones(1, len(ids), dtype=torch.long))[0]
        top = logits.topk(20)
        probe = list(range(0, logits.numel(), 769))
        cases.append({"prompt": prompt, "ids": ids, "continuation": out[len(ids):].tolist(),
                      "top_ids": top.indices.tolist(), "top_logits": top.values.tolist(), "probe_ids": probe,
                      "probe_logits": logits[probe].tolist(), "mean": float(logits.double().mean()),
                      "std": float(logits.double().std())})
        print(repr(tok.decode(out)))
    json.dump({"versions": VERSIONS, "cases": cases}, open(os.path.join(args.out, "smollm2_logits.json"), "w"))
    if args.only_logits:
        return
    text = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "training_text.txt"), encoding="utf-8").read()
    ids = tok(text, add_special_tokens=False)["input_ids"][:STEPS * LENGTH]
    assert len(ids) == STEPS * LENGTH, len(ids)
    exact, norms = curve(args.hf, ids, True)
    stock, _ = curve(args.hf, ids, False)
    json.dump({"versions": VERSIONS, "ids": ids, "length": LENGTH, "learning_rate": RATE, "losses": exact,
               "losses_cpu_table_scales": stock, "step0_lora_b_gradient_norms": norms},
              open(os.path.join(args.out, "smollm2_qlora.json"), "w"))


main()
