#!/usr/bin/env python3
"""kernel-bench against torch and bitsandbytes, interleaved A B A B on the same machine; prints a markdown table.

usage: compare.py [--rounds 2] [--threads 2] [table...]
Run Benchmarks/peers/prepare.sh and `swift build -c release --product kernel-bench` first. Rates are the best of all rounds.
"""
import argparse
import json
import os
import subprocess

here = os.path.dirname(os.path.abspath(__file__))
python = os.path.join(here, "../../downloads/peers/venv/bin/python")
parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--threads", default="2")
parser.add_argument("tables", nargs="*")
options = parser.parse_args()
sides = {"engine": [os.path.join(here, "../../.build/release/kernel-bench"), "--json"],
         "peer": [python, os.path.join(here, "peer.py")]}
best, limits, units = {"engine": {}, "peer": {}}, {}, {}
for _ in range(options.rounds):
    for side, command in sides.items():
        run = subprocess.run([*command, "--threads", options.threads, *options.tables], capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(run.stderr[-2000:])
        for line in run.stdout.splitlines():
            if not line.startswith("{"):
                continue
            entry = json.loads(line)
            name = entry["name"]
            best[side][name] = max(best[side].get(name, 0), entry["rate"])
            units[name] = entry["unit"]
            if "limit" in entry:
                limits[name] = max(limits.get(name, 0), entry["limit"])


def number(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}"


print("| work | engine | of the limit | rival | ratio |\n|---|---|---|---|---|")
for name, rate in best["engine"].items():
    peer = best["peer"].get(name)
    share = f"{100 * rate / limits[name]:.0f} %" if name in limits else ""
    print(f"| {name} | {number(rate)} {units[name]} | {share} | {number(peer) if peer else ''} | "
          f"{f'{rate / peer:.2f}' if peer else ''} |")
for name, rate in best["peer"].items():
    if name not in best["engine"]:
        print(f"| {name} | | | {number(rate)} {units[name]} | |")
