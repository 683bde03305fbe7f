#!/usr/bin/env python3
"""Prompt processing and generation, this engine against llama.cpp on the same GGUF file, in turns.

usage: generation.py [--isa avx2|native] [--turns 5] [--threads 2] [--prompt 512] [--tokens 128] [--quant nf4|keep] [--cut 60]
                     [MODEL.gguf]
Run `Benchmarks/peers/prepare.sh llama` first: it builds llama.cpp for each set and makes the Q4_0 file of SmolLM2.

llama.cpp multiplies the file's Q4_0 codes by inputs rounded to 8 bits. The engine reads the same file, quantizes it to
NF4 with double quantization (or keeps its codes, --quant keep) and multiplies by inputs in bf16 or f32; both types stand
in the table where the processor multiplies bf16. llama.cpp is measured with and without flash attention; the better median stays. Each turn is the
limits of the machine, then each side. A row is printed as soon as it is done: medians, with the best turn in brackets.
"""
import argparse
import os
import statistics
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, ".."))
import machine  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--isa", choices=["avx2", "native"], default="native")
parser.add_argument("--turns", type=int, default=5)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--prompt", type=int, default=512)
parser.add_argument("--tokens", type=int, default=128)
parser.add_argument("--quant", choices=["keep", "nf4"], default="nf4")
parser.add_argument("--cut", type=float, default=60)
parser.add_argument("model", nargs="?", default=os.path.join(machine.PEERS, "smollm2.Q4_0.gguf"))
options = parser.parse_args()
settings = machine.environment(options.isa)


def engine(compute):
    values = dict(model=os.path.abspath(options.model), compute=compute, quant=options.quant, prompt=options.prompt,
                  tokens=options.tokens, turns="true")
    flags = [x for key, value in values.items() for x in ("--set", f"{key}={value}")]
    return machine.Side([machine.QLORA_RUN, "--quiet", "--threads", options.threads, *flags,
                         os.path.join(here, "generation.lua")], settings)


def rival(flash):
    python = os.path.join(machine.PEERS, f"llama-{options.isa}/bin/python")
    return machine.Side([python, os.path.join(here, "llama.py"), os.path.abspath(options.model), options.prompt,
                         options.tokens, flash, options.threads], settings)


sides = {f"engine {compute}": engine(compute) for compute in machine.types(options.isa)}
for flash, name in enumerate(("llama.cpp", "llama.cpp, flash attention")):
    sides[name] = rival(flash)
print(machine.header(options.isa, options.threads, sides["llama.cpp"].hello["version"],
                     os.path.basename(options.model)) + "\n")
print("| work | engine tok/s | llama.cpp tok/s | ratio | limit f32, bf16 GFLOP/s | memory read GB/s |\n"
      "|---|---|---|---|---|---|", flush=True)
for work, title in (("prompt", f"a prompt of {options.prompt} tokens"), ("greedy", f"{options.tokens} new tokens")):
    rates, roofs = {name: [] for name in sides}, []
    for turn in range(options.turns + 1):  # the first warms up
        roofs.append(machine.limits(options.isa, options.threads))
        for name, side in sides.items():
            try:
                answer = side.ask(work, within=options.cut)
            except machine.Cut:
                raise SystemExit(f"{name} was cut: {title} takes over {options.cut:g} s") from None
            if turn:
                rates[name].append(answer["tokens"] / answer["seconds"])
        if turn:
            print("  " + ", ".join(f"{name} {values[-1]:.1f}" for name, values in rates.items()), file=sys.stderr)
    middle = {name: statistics.median(values) for name, values in rates.items()}
    theirs = max((name for name in sides if name.startswith("llama")), key=middle.get)
    for name in sides:
        if name.startswith("engine"):
            f32, bf16, read = (statistics.median(roof[key] for roof in roofs) for key in ("f32", "bf16", "read"))
            ours, other = (f"{middle[side]:.1f} ({max(rates[side]):.1f})" for side in (name, theirs))
            print(f"| {title}, {name} | {ours} | {other}{theirs.removeprefix('llama.cpp')} | "
                  f"{middle[name] / middle[theirs]:.2f} | {f32:.0f}, {bf16:.0f} | {read:.1f} |", flush=True)
peaks = {name: side.close()["peak_mb"] for name, side in sides.items()}
print("\npeak MB: " + ", ".join(f"{name} {peak:.0f}" for name, peak in peaks.items()))
