#!/usr/bin/env python3
"""The other side of compare.py: the same QLoRA steps with transformers + PEFT + bitsandbytes.

usage: peer.py MODEL_DIR bf16|f32 BATCH LENGTH CHECKPOINTING(0|1) THREADS     or     peer.py --versions
Prints a line of JSON when the model is loaded, and one for the step that each line of input asks for. The last has
peak_mb, which is VmHWM of the whole process.
"""
import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = sys.argv[-1] if sys.argv[-1].isdigit() else "1"

import bitsandbytes  # noqa: E402
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402


def say(**fields):
    print(json.dumps(fields), flush=True)


if sys.argv[1:] == ["--versions"]:
    say(versions=", ".join(f"{m.__name__} {m.__version__}" for m in (torch, transformers, peft, bitsandbytes))
        + f"; torch runs {torch.backends.cpu.get_cpu_capability()}")
    sys.exit()
model_dir, compute = sys.argv[1:3]
batch, length, checkpointing, threads = map(int, sys.argv[3:7])
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(threads)
torch.manual_seed(0)
dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[compute]
start = time.perf_counter()
model = transformers.AutoModelForCausalLM.from_pretrained(
    model_dir, dtype=dtype, device_map={"": "cpu"},
    quantization_config=transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype))
loaded = time.perf_counter() - start
model.config.use_cache = False
if checkpointing:
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
model = peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear",
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


say(load_s=loaded)
for _ in sys.stdin:
    ids = rows()
    began = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    value = loss.item()
    optimizer.step()
    say(seconds=time.perf_counter() - began, loss=value)
say(peak_mb=next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
