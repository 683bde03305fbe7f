#!/usr/bin/env python3
"""What streaming the base costs a step: resident, streamed from the system's cache, streamed from the disk, in turns.

    python3 Benchmarks/memory/stream_cost.py CHECKPOINT [rounds] [qlora-run]

CHECKPOINT is in 4 bits (recipes/quantize.lua or recipes/synthetic.lua). Prints medians, and the median over the rounds
of streamed / resident; fails when streaming from the cache takes more than 5 % longer.
"""
import statistics
import subprocess
import sys

MODEL = sys.argv[1]
ROUNDS = sys.argv[2] if len(sys.argv) > 2 else "5"
RUN = sys.argv[3] if len(sys.argv) > 3 else ".build/release/qlora-run"
NAMES = {"resident": "resident", "warm": "streamed, file cached", "cold": "streamed, from the disk"}


def main():
    output = subprocess.run(
        [RUN, "--set", f"model={MODEL}", "--set", f"rounds={ROUNDS}", "Benchmarks/memory/stream_cost.lua"],
        capture_output=True, text=True, check=True).stdout
    rows = {mode: [] for mode in NAMES}
    for line in output.splitlines():
        if line.startswith("step "):
            _, mode, *numbers, _ = line.split()
            rows[mode].append([float(number) for number in numbers])
    rows["resident"] = rows["resident"][1:]
    print("| base | s/step | processor s/step | / resident | waited for reading, s | GB read | GB/s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    ratio = {}
    for mode, name in NAMES.items():
        ratio[mode] = statistics.median(a[0] / b[0] for a, b in zip(rows[mode], rows["resident"]))
        seconds, processor, waited, read = (statistics.median(column) for column in zip(*rows[mode]))
        print(f"| {name} | {seconds:.2f} | {processor:.2f} | {ratio[mode]:.3f} | {waited:.3f} "
              f"| {read / 1e9:.2f} | {read / 1e9 / seconds:.2f} |")
    sys.exit(1 if ratio["warm"] > 1.05 else 0)


main()
