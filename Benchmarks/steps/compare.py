#!/usr/bin/env python3
"""QLoRA steps, this engine against transformers + PEFT + bitsandbytes, interleaved A B A B on the same machine.

usage: compare.py [--rounds 2] [--steps 7] [--threads 2] [--only NAME]   (run Benchmarks/peers/prepare.sh first)

Prints a markdown table: tokens per second (median over all measured steps of all rounds, and the best), time to load and
quantize, and peak resident memory of the process (the largest of the rounds).
"""
import argparse
import json
import os
import statistics
import subprocess

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
peers = os.path.join(root, "downloads/peers")
SETTINGS = {  # name: model, compute, batch, length, checkpointing, measured steps
    "135M bf16 1x512": ("smollm2-bf16", "bf16", 1, 512, 0, None),
    "135M f32 1x512": ("smollm2-f32", "f32", 1, 512, 0, None),
    "135M bf16 4x256": ("smollm2-bf16", "bf16", 4, 256, 0, None),
    "1.1B bf16 1x512 checkpointing": ("synthetic-1.1b", "bf16", 1, 512, 1, 2),
}
parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--steps", type=int, default=7)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--only", default="")
parser.add_argument("--engine-only", action="store_true")
options = parser.parse_args()


def engine(model, compute, batch, length, checkpointing, steps):
    settings = dict(model=model, compute=compute, batch=batch, length=length,
                    checkpointing=str(bool(checkpointing)).lower(), warmup=2, steps=steps)
    flags = [x for key, value in settings.items() for x in ("--set", f"{key}={value}")]
    return [os.path.join(root, ".build/release/qlora-run"), "--quiet", "--threads", str(options.threads), *flags,
            os.path.join(root, "Benchmarks/steps/engine.lua")]


def peer(model, compute, batch, length, checkpointing, steps):
    return [os.path.join(peers, "venv/bin/python"), os.path.join(root, "Benchmarks/steps/peer.py"), model, compute,
            *map(str, (batch, length, checkpointing, 2 if steps > 2 else 1, steps, options.threads))]


print("| step | side | tok/s median | tok/s best | load s | peak MB | losses |\n|---|---|---|---|---|---|---|")
for name, (model, compute, batch, length, checkpointing, few) in SETTINGS.items():
    path = os.path.join(peers, model)
    if options.only not in name:
        continue
    if not os.path.isdir(path):
        print(f"| {name} | {model} is missing | | | | | |")
        continue
    results = {"engine": [], "peer": []}
    for _ in range(options.rounds):
        for side, command in (("engine", engine), ("peer", peer)):
            if side == "peer" and options.engine_only:
                continue
            run = subprocess.run(command(path, compute, batch, length, checkpointing, few or options.steps),
                                 capture_output=True, text=True)
            if run.returncode:
                raise SystemExit(f"{side} failed on {name}:\n{run.stderr[-2000:]}")
            results[side].append(json.loads(run.stdout.strip().splitlines()[-1]))
    tokens = batch * length
    medians = {}
    for side, runs in results.items():
        if not runs:
            continue
        times = [t for r in runs for t in r["seconds"]]
        medians[side] = tokens / statistics.median(times)
        print(f"| {name} | {side} | {medians[side]:.0f} | {tokens / min(times):.0f} | {min(r['load_s'] for r in runs):.2f}"
              f" | {max(r['peak_mb'] for r in runs):.0f} | {runs[0]['losses'][0]:.4f} ... {runs[0]['losses'][-1]:.4f} |",
              flush=True)
    if len(medians) == 2:
        memory = [max(r["peak_mb"] for r in results[s]) for s in ("engine", "peer")]
        print(f"| | ratio | {medians['engine'] / medians['peer']:.2f} | | | {memory[0] / memory[1]:.2f} | |", flush=True)
