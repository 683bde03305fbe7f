#!/usr/bin/env python3
"""How often a training step and a generated token ask the heap for memory, and for how many bytes.

    python3 Benchmarks/memory/allocations.py [qlora-run]

Preloads allocations.c, which counts calls of malloc and its kin; blocks from 16 KiB up are mapped by the engine and not
among them. Each figure is the difference of a short and a long run over the steps (or tokens) between them.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
RUN = sys.argv[1] if len(sys.argv) > 1 else ".build/release/qlora-run"


def counts(library, option):
    errors = subprocess.run(
        [RUN, "--quiet", "--set", option, str(HERE / "allocations.lua")], env={**os.environ, "LD_PRELOAD": library},
        capture_output=True, text=True, check=True).stderr
    return [int(word) for word in errors.splitlines()[-1].split()[1:]]


def main():
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/allocations.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, str(HERE / "allocations.c")], check=True)
        for name, option, short, long in ("step", "steps", 2, 7), ("token", "tokens", 20, 120):
            before, after = (counts(library, f"{option}={times}") for times in (short, long))
            number, size = ((b - a) / (long - short) for a, b in zip(before, after))
            print(f"a {name}: {number:.0f} allocations, {size / 1e6:.2f} MB")


main()
