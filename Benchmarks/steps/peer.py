#!/usr/bin/env python3
"""The other side of compare.py: the same QLoRA steps with transformers + PEFT + bitsandbytes.

usage: peer.py MODEL_DIR bf16|f32 BATCH LENGTH CHECKPOINTING(0|1) WARMUP STEPS THREADS
Prints one line of JSON. peak_mb is VmHWM of the whole process.
"""
import json
import os
import sys
import time

model_dir, compute, batch, length, checkpointing, warmup, steps, threads = sys.argv[1:9]
batch, length, warmup, steps, threads = map(int, (batch, length, warmup, steps, threads))
os.environ["OMP_NUM_THREADS"] = str(threads)
os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, BitsAndBytesConfig  # noqa: E402
from transformers.utils import logging  # noqa: E402

logging.disable_progress_bar()
torch.set_num_threads(threads)
torch.manual_seed(0)
dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[compute]
start = time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(
    model_dir, dtype=dtype, device_map={"": "cpu"},
    quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                           bnb_4bit_compute_dtype=dtype))
loaded = time.perf_counter() - start
model.config.use_cache = False
if int(checkpointing):
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear",
                                         task_type="CAUSAL_LM"))
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.01)

vocabulary, state = model.config.vocab_size, 1


def rows():
    global state
    ids = []
    for _ in range(batch * length):
        state = (state * 1103515245 + 12345) % 2147483648
        ids.append((state >> 8) % vocabulary)
    return torch.tensor(ids).view(batch, length)


times, losses = [], []
for step in range(warmup + steps):
    ids = rows()
    began = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    losses.append(loss.item())
    optimizer.step()
    if step >= warmup:
        times.append(time.perf_counter() - began)
peak = next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": sorted(times), "losses": losses, "load_s": loaded, "peak_mb": peak}))
