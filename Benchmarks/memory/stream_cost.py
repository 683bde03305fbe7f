#!/usr/bin/env python3
"""What streaming the base costs a step: resident, streamed from the system's cache, streamed from the disk, in turns.

    python3 Benchmarks/memory/stream_cost.py CHECKPOINT [rounds] [tokens] [qlora-run]

CHECKPOINT is in 4 bits (recipes/quantize.lua or recipes/synthetic.lua). Prints medians, and the median over the rounds
of streamed / resident, in time and in processor time, which other programs disturb less; fails when streaming from
the cache takes more than 5 % more of either.
"""
import statistics
import subprocess
import sys

MODEL = sys.argv[1]
ROUNDS = sys.argv[2] if len(sys.argv) > 2 else "5"
TOKENS = sys.argv[3] if len(sys.argv) > 3 else "128"
RUN = sys.argv[4] if len(sys.argv) > 4 else ".build/release/qlora-run"
NAMES = {"resident": "resident", "warm": "streamed, file cached", "cold": "streamed, from the disk"}


def main():
    output = subprocess.run(
        [RUN, "--set", f"model={MODEL}", "--set", f"rounds={ROUNDS}", "--set", f"length={TOKENS}",
         "Benchmarks/memory/stream_cost.lua"],
        capture_output=True, text=True, check=True).stdout
    rows = {mode: [] for mode in NAMES}
    for line in output.splitlines():
        if line.startswith("step "):
            _, mode, *numbers, _ = line.split()
            rows[mode].append([float(number) for number in numbers])
    rows["resident"] = rows["resident"][1:]
    print("| base | s/step | / resident | processor s/step | / resident | waited for reading, s | GB read |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    slowest = 0
    for mode, name in NAMES.items():
        ratios = [statistics.median(a[kind] / b[kind] for a, b in zip(rows[mode], rows["resident"])) for kind in (0, 1)]
        seconds, processor, waited, read = (statistics.median(column) for column in zip(*rows[mode]))
        print(f"| {name} | {seconds:.2f} | {ratios[0]:.3f} | {processor:.2f} | {ratios[1]:.3f} | {waited:.3f} "
              f"| {read / 1e9:.2f} |")
        if mode == "warm":
            slowest = max(ratios)
    sys.exit(1 if slowest > 1.05 else 0)


main()
