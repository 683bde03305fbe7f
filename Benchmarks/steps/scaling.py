#!/usr/bin/env python3
"""How the cost of a QLoRA step grows with tokens, rank, layers and threads; prints one markdown table each.

usage: scaling.py [--steps 3] [--threads 2] [--compute bf16] [tokens|rank|layers|threads|dropout ...]

SmolLM2-135M (run Benchmarks/peers/prepare.sh first), NF4 with double quantization, LoRA on all linear layers, AdamW; one
axis moves, the others stay at 1 x 512 tokens, rank 16, 30 layers, all threads, no dropout. Seconds are the fastest step
after one that warms up. The last column compares with the first row: 1 means that the cost grew as the axis did.
"""
import argparse
import json
import os
import subprocess
import tempfile

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
model = os.path.join(root, "downloads/peers/smollm2-bf16")
parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--compute", default="bf16")
parser.add_argument("axes", nargs="*")
options = parser.parse_args()
AXES = {
    "tokens": [64, 128, 256, 512, 1024, 2048, 4096],
    "rank": [4, 8, 16, 32, 64, 128, 256],
    "layers": [1, 5, 10, 20, 30],
    "threads": list(range(1, options.threads + 1)),
    "dropout": [0, 0.1],
}


def truncated(layers, folder):
    """The same model with fewer layers: the file's other tensors are not asked for."""
    config = json.load(open(os.path.join(model, "config.json")))
    config["num_hidden_layers"] = layers
    for name in os.listdir(model):
        if name != "config.json":
            os.symlink(os.path.join(os.path.realpath(model), name), os.path.join(folder, name))
    json.dump(config, open(os.path.join(folder, "config.json"), "w"))
    return folder


def step(tokens=512, rank=16, layers=30, threads=options.threads, dropout=0):
    with tempfile.TemporaryDirectory() as folder:
        settings = dict(model=model if layers == 30 else truncated(layers, folder), compute=options.compute, batch=1,
                        length=tokens, rank=rank, dropout=dropout, warmup=1, steps=options.steps)
        flags = [x for key, value in settings.items() for x in ("--set", f"{key}={value}")]
        command = [os.path.join(root, ".build/release/qlora-run"), "--quiet", "--threads", str(threads), *flags,
                   os.path.join(root, "Benchmarks/steps/engine.lua")]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{run.stderr[-2000:]}")
    result = json.loads(run.stdout.strip().splitlines()[-1])
    return min(result["seconds"]), result["peak_mb"], tokens


for name in options.axes:
    if name not in AXES:
        raise SystemExit(f"no axis '{name}'; there are {' '.join(AXES)}")
for axis, values in AXES.items():
    if options.axes and axis not in options.axes:
        continue
    print(f"| {axis} | s a step | tokens/s | peak MB | cost against the first row |\n|---|---|---|---|---|")
    first = None
    for value in values:
        seconds, peak, tokens = step(**{axis: value})
        first = first or (seconds, value)
        # More threads are meant to divide the cost; dropout and rank have no length of their own.
        grown = (value / first[1] if axis in ("tokens", "layers") else first[1] / value if axis == "threads" else 1)
        print(f"| {value} | {seconds:.3f} | {tokens / seconds:.0f} | {peak:.0f} | {seconds / first[0] / grown:.2f} |",
              flush=True)
    print()
