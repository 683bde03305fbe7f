#!/usr/bin/env python3
"""Peak memory (VmHWM) of training on one sequence, over its length and over ways to keep activations; prints a table.

    python3 Benchmarks/memory/sequence_length.py MODEL [--lengths 1024,2048] [--ways resident,offload] [--plan]

MODEL is a Hugging Face directory; a copy of its config with room for the longest sequence is used. Each figure is a fresh
process. With --plan the planner's peaks instead, in seconds. The last lines give bytes per token between two lengths:
equal numbers down a column are growth linear in the length.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import tempfile

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("model")
parser.add_argument("--run", default=".build/release/qlora-run")
parser.add_argument("--lengths", default="1024,2048,4096,8192,16384,32768")
parser.add_argument("--ways", default="resident,checkpointing,every 4,offload")
parser.add_argument("--plan", action="store_true")
options = parser.parse_args()
LENGTHS = [int(length) for length in options.lengths.split(",")]
WAYS = {  # name: layers between kept inputs (0 keeps everything), in a file?
    "resident": (0, False), "checkpointing": (1, False), "every 4": (4, False), "offload": (1, True),
    "every 4 offload": (4, True),
}


def long_model(folder):
    source = pathlib.Path(options.model).resolve()
    for item in source.iterdir():
        if item.name != "config.json":
            os.symlink(item, f"{folder}/{item.name}")
    config = json.loads((source / "config.json").read_text())
    config["max_position_embeddings"] = max(LENGTHS)
    pathlib.Path(folder, "config.json").write_text(json.dumps(config))


def measure(folder, length, way):
    every, offload = WAYS[way]
    settings = {"model": folder, "length": length, "every": every, "offload": str(offload).lower()}
    command = [options.run] + (["--plan"] if options.plan else [])
    command += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    result = subprocess.run(command + ["Benchmarks/memory/sequence.lua"], capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(result.stderr)
    kind = "plan" if options.plan else "measured"
    losses = re.findall(r"^loss .*$", result.stdout, re.M)
    return [float(re.search(rf"^{kind}_{key} +([0-9.]+)$", result.stdout, re.M).group(1)) for key in ("peak", "seconds")], losses


def main():
    ways = options.ways.split(",")
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        long_model(folder)
        print("| tokens | " + " | ".join(ways) + " |\n|---:|" + "---:|" * len(ways))
        for length in LENGTHS:
            cells, seen = [], set()
            for way in ways:
                (peak, seconds), losses = measure(folder, length, way)
                peaks[length, way] = peak
                seen.add(tuple(losses))
                cells.append(f"{peak / 2**20:.0f} MiB ({seconds:.1f} s)")
            assert options.plan or len(seen) == 1, "losses or gradients differ"
            print(f"| {length} | " + " | ".join(cells) + " |", flush=True)
    for shorter, longer in zip(LENGTHS, LENGTHS[1:]):
        slopes = [(peaks[longer, way] - peaks[shorter, way]) / (longer - shorter) for way in ways]
        print(f"| {shorter} to {longer}, bytes per token | " + " | ".join(f"{slope:.0f}" for slope in slopes) + " |")


main()
