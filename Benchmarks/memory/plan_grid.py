#!/usr/bin/env python3
"""Planned against measured peak memory (VmHWM) and step time, each setting in fresh processes; prints a table.

    python3 Benchmarks/memory/plan_grid.py [qlora-run] [model]

Fails when a plan is more than 3 % over or more than 1 % under what was measured.
"""
import re
import subprocess
import sys
import time

RUN = sys.argv[1] if len(sys.argv) > 1 else ".build/release/qlora-run"
MODEL = sys.argv[2] if len(sys.argv) > 2 else "downloads/SmolLM2-135M-Instruct.Q4_1.gguf"
RECIPE = "Benchmarks/memory/step.lua"
GRID = [
    {},
    {"checkpointing": "true"},
    {"micro_batch": 1},
    {"micro_batch": 2, "bits": 8},
    {"bits": 8},
    {"paged": "true"},
    {"paged": "true", "bits": 8, "budget": "4MiB"},
    {"rank": 64},
    {"rank": 4, "dropout": 0},
    {"length": 64},
    {"length": 512, "batch": 2, "micro_batch": 2},
    {"length": 512, "checkpointing": "true"},
    {"compute": "f32", "length": 128},
    {"compute": "f32", "checkpointing": "true"},
    {"compute": "f32", "length": 128, "bits": 8, "rank": 64},
    {"quant": "false", "batch": 2, "micro_batch": 1},
]


def run(settings, *flags):
    command = [RUN, *flags, "--set", f"model={MODEL}"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    return subprocess.run(command + [RECIPE], capture_output=True, text=True, check=True).stdout


def field(name, text):
    return float(re.search(rf"^{name} +([0-9.]+)$", text, re.M).group(1))


def main():
    print("| setting | planned MiB | measured MiB | difference | planned s | measured s |")
    print("|---|---:|---:|---:|---:|---:|")
    failures = 0
    for settings in GRID:
        planned, measured = run(settings, "--plan"), run(settings)
        plan, peak = field("plan_peak", planned), field("measured_peak", measured)
        off = 100 * (plan / peak - 1)
        good = -1 <= off <= 3
        failures += not good
        name = ", ".join(f"{key} {value}" for key, value in settings.items()) or "bf16, rank 16, 4 x 256"
        print(f"| {name} | {plan / 2**20:.1f} | {peak / 2**20:.1f} | {off:+.1f} %{'' if good else ' (!)'} "
              f"| {field('plan_seconds', planned):.2f} | {field('measured_seconds', measured):.2f} |", flush=True)
    sys.exit(1 if failures else 0)


main()
