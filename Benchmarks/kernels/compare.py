#!/usr/bin/env python3
"""kernel-bench against torch and bitsandbytes, row by row in turns on the same machine; prints a markdown table.

usage: compare.py [--isa avx2|avx512|native] [--rounds 2] [--seconds 0.2] [--threads 2] [--only PART] [--cut 20]
                  [table...]
Tables: products quantized attention optimizers quantization; without a name all of them.
Run Benchmarks/peers/prepare.sh and `swift build -c release --product kernel-bench` first.

--isa holds both sides to one instruction set. bf16 rows are measured where the processor multiplies bf16. Rates are the
best of all rounds; the limit is the best that the engine's run of the same row measured around it. A rival that
needs more than --cut seconds for a group of rows is ended, and the row says so.
"""
import argparse
import json
import os
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, ".."))
import machine  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--isa", choices=machine.SETS, default="native")
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--seconds", default="0.2")
parser.add_argument("--threads", default="2")
parser.add_argument("--only", default="")
parser.add_argument("--cut", type=float, default=20)
parser.add_argument("tables", nargs="*")
options = parser.parse_args()
settings = machine.environment(options.isa)


def start_rival():
    return machine.Side([machine.PYTHON, os.path.join(here, "peer.py"), "--threads", options.threads, "--seconds",
                         options.seconds], settings)


def engine(table, group):
    """Rows of the group, each with its limit: of this run, measured before and after."""
    run = subprocess.run([machine.KERNEL_BENCH, "--json", "--threads", options.threads, "--seconds", options.seconds,
                          "--only", group, table], env=settings, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr[-2000:])
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    roofs = {name: max(row["rate"] for row in rows if row["name"] == name)
             for name in ("limit: f32 multiply-adds", "limit: bf16 dot products", "limit: memory read",
                          "limit: memory copy (read + write)")}
    firsts = {row["name"]: row["rate"] for row in reversed(rows)}
    for row in rows:
        if "limit" in row:  # the better of both measurements of what kernel-bench took for it
            row["limit"] = next(roof for name, roof in roofs.items() if firsts[name] == row["limit"])
    return [row for row in rows if not row["name"].startswith("limit")]


def compare(rival, table, group):
    """Prints the rows of a group; returns the rival, a new one where it was cut."""
    best, roofs, units, cut = {"engine": {}, "rival": {}}, {}, {}, False
    for _ in range(options.rounds):
        sides = {"engine": engine(table, group)}
        try:
            sides["rival"] = [] if cut else rival.ask(group, within=options.cut)["rows"]
        except machine.Cut:
            cut, rival = True, start_rival()
        for side, rows in sides.items():
            for row in rows:
                best[side][row["name"]] = max(best[side].get(row["name"], 0), row["rate"])
                units[row["name"]] = row["unit"]
                if "limit" in row:
                    roofs[row["name"]] = max(roofs.get(row["name"], 0), row["limit"])
    for name, unit in units.items():
        ours, theirs, roof = best["engine"].get(name), best["rival"].get(name), roofs.get(name)
        cells = [name, f"{machine.number(ours)} {unit}" if ours else "-", machine.number(roof) if roof else "-",
                 f"{100 * ours / roof:.0f} %" if roof else "-",
                 machine.number(theirs) if theirs else f"cut after {options.cut:g} s" if cut else "-",
                 f"{ours / theirs:.2f}" if ours and theirs else "-"]
        print(f"| {' | '.join(cells)} |", flush=True)
    return rival


rival = start_rival()
for table in options.tables:
    if table not in rival.hello["groups"]:
        raise SystemExit(f"no table '{table}'; there are {' '.join(rival.hello['groups'])}")
print(machine.header(options.isa, options.threads, rival.hello["versions"]) + "\n")
print("| work | engine | limit | of it | rival | ratio |\n|---|---|---|---|---|---|", flush=True)
for table, groups in rival.hello["groups"].items():
    for group in groups:
        typed = "bf16" not in group or "bf16" in machine.types(options.isa)
        if typed and options.only in group and (not options.tables or table in options.tables):
            rival = compare(rival, table, group)
