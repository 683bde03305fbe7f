#!/usr/bin/env python3
"""mlx-lm's side of check_mlx.sh.

usage: check_mlx.py logits BASE_HF_DIR ADAPTER LOGITS.safetensors    its logits against ours; ADAPTER may be empty
       check_mlx.py data JSONL DIR                                   records as mlx-lm's trainer reads them
       check_mlx.py base BASE_HF_DIR DIR                             the same model with a rope_theta that mlx-lm finds
Needs: mlx-lm==0.32.2 mlx[cpu]==0.32.4.
"""
import json
import os
import sys

import mlx.core as mx


def logits(base, adapter, path):
    from mlx_lm import load

    ours = mx.load(path)
    model, _ = load(base, adapter_path=adapter or None)
    theirs = model(ours["ids"].reshape(1, -1))[0].astype(mx.float32)
    off = float(mx.abs(theirs - ours["logits"]).max() / mx.std(theirs))
    same = float((theirs.argmax(-1) == ours["logits"].argmax(-1)).astype(mx.float32).mean())
    print(f"{adapter or 'base alone'}: largest difference {off:.2e} of a standard deviation, "
          f"same next token at {same:.0%} of the positions")
    return off < 1e-4


def data(source, target):
    os.makedirs(target, exist_ok=True)
    records = [json.loads(line) for line in open(source)][:64]
    lines = [json.dumps({"prompt": r["instruction"], "completion": r["output"]}) + "\n" for r in records]
    for name, part in (("train", lines[8:]), ("valid", lines[:8])):
        open(f"{target}/{name}.jsonl", "w").writelines(part)
    return True


def base(source, target):
    """transformers 5 writes rope_parameters.rope_theta, which mlx-lm's llama passes over; it reads rope_theta."""
    os.makedirs(target, exist_ok=True)
    for name in os.listdir(source):
        if name != "config.json":
            os.symlink(os.path.abspath(f"{source}/{name}"), f"{target}/{name}")
    config = json.load(open(f"{source}/config.json"))
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    json.dump(config, open(f"{target}/config.json", "w"))
    return True


sys.exit(0 if {"logits": logits, "data": data, "base": base}[sys.argv[1]](*sys.argv[2:]) else 1)
