#!/usr/bin/env python3
"""QLoRA steps, this engine against transformers + PEFT + bitsandbytes, step by step in turns on the same machine.

usage: compare.py [--isa avx2|avx512|native] [--steps 5] [--warmup 2] [--threads 2] [--only NAME] [--cut 60]
                  [--malloc probe|default|tuned] [--engine-only]         (run Benchmarks/peers/prepare.sh first)

--isa holds both sides to one instruction set. Both sides are alive together; each measured turn is the limit of the
machine, a step of one side and a step of the other. The rival runs in its best mode: bf16 and f32 where the processor
multiplies bf16, each with the default and a tuned malloc, warm up one after the other, and the fastest last step stays.
A rival whose step takes longer than --cut seconds is ended, and the row says so. Turns go to the standard error, a row
of a markdown table to the standard output as soon as it is done. Rates are medians with the fastest step in brackets.
"""
import argparse
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import machine  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--isa", choices=machine.SETS, default="native")
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--warmup", type=int, default=2)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--only", default="")
parser.add_argument("--cut", type=float, default=60)
parser.add_argument("--malloc", choices=["probe", *machine.MALLOC], default="probe")
parser.add_argument("--engine-only", action="store_true")
options = parser.parse_args()
SHAPES = {  # name: model by compute type, batch, length, checkpointing
    "SmolLM2-135M {}, 1 x 512": ("smollm2-{}", 1, 512, False),
    "SmolLM2-135M {}, 4 x 256": ("smollm2-{}", 4, 256, False),
    "1.1B {}, 1 x 512, checkpointing": ("synthetic-1.1b", 1, 512, True),
}


def note(text):
    print(text, file=sys.stderr, flush=True)


def engine(path, compute, batch, length, checkpointing):
    settings = dict(model=path, compute=compute, batch=batch, length=length, turns="true",
                    checkpointing=str(checkpointing).lower())
    flags = [x for key, value in settings.items() for x in ("--set", f"{key}={value}")]
    return machine.Side([machine.QLORA_RUN, "--quiet", "--threads", options.threads, *flags,
                         os.path.join(machine.ROOT, "Benchmarks/steps/engine.lua")], machine.environment(options.isa))


def rivals(name, compute, batch, length, checkpointing):
    """The rival in its fastest mode, warm, and that mode; or None and what its fastest try said."""
    fastest, mode, told, last = None, "", "", 0.0
    for kind in machine.types(options.isa) if compute == "bf16" else ["f32"]:
        path = os.path.join(machine.PEERS, SHAPES[name][0].format(kind))
        for malloc in machine.MALLOC if options.malloc == "probe" else [options.malloc]:
            side = machine.Side([machine.PYTHON, os.path.join(machine.ROOT, "Benchmarks/steps/peer.py"), path, kind,
                                 batch, length, int(checkpointing), options.threads],
                                machine.environment(options.isa, malloc))
            # A mode that is three times slower than another is not waited for: a malloc that gives memory back can stall
            # for a minute a step on a virtual machine.
            limit = min(options.cut, 3 * last + 2) if fastest else options.cut
            try:
                seconds = [side.ask(within=limit)["seconds"] for _ in range(options.warmup)][-1]
            except machine.Cut:
                told = told or f"{kind} cut: a step takes over {limit:g} s"
                note(f"  rival {kind}, {malloc} malloc: cut after {limit:.0f} s")
                continue
            note(f"  rival {kind}, {malloc} malloc: {seconds:.2f} s")
            if fastest and seconds >= last:
                side.kill()
                continue
            if fastest:
                fastest.kill()
            fastest, mode, last = side, f"{kind}, {malloc} malloc", seconds
    return fastest, mode or told


def measure(name, compute):
    """Prints the row of one shape."""
    model, *shape = SHAPES[name]
    path = os.path.join(machine.PEERS, model.format(compute))
    title, tokens = name.format(compute), shape[0] * shape[1]
    if not os.path.isdir(path):
        raise SystemExit(f"{os.path.relpath(path, machine.ROOT)} is missing: run Benchmarks/peers/prepare.sh")
    note(title)
    rival, mode = (None, "") if options.engine_only else rivals(name, compute, *shape)
    ours = engine(path, compute, *shape)
    for _ in range(options.warmup):
        ours.ask()
    sides = {"engine": ours, **({"rival": rival} if rival else {})}
    times, roofs = {side: [] for side in sides}, [machine.limits(options.isa, options.threads)[compute]]
    for turn in range(options.steps):
        for side in list(sides)[::1 if turn % 2 == 0 else -1]:
            try:
                times[side].append(sides[side].ask(within=options.cut if side == "rival" else 3600)["seconds"])
            except machine.Cut:
                mode = f"{mode}; cut: a step took over {options.cut:g} s"
                del sides[side]
        roofs.append(machine.limits(options.isa, options.threads)[compute])
        note("  " + ", ".join(f"{side} {times[side][-1]:.2f} s" for side in sides) + f", limit {roofs[-1]:.0f} GFLOP/s")
    last = {side: sides[side].close() for side in sides}
    rate = {side: tokens / statistics.median(times[side]) for side in sides}
    share = {side: 1e-9 * last["engine"]["flops"] / tokens * rate[side] / statistics.median(roofs) for side in sides}

    def cells(text):
        return [text(side) if side in sides else "-" for side in ("engine", "rival")]

    speeds = cells(lambda side: f"{rate[side]:.0f} ({tokens / min(times[side]):.0f})")
    ratio = f"{rate['engine'] / rate['rival']:.2f}" if len(sides) == 2 else "-"
    shares = cells(lambda side: f"{100 * share[side]:.0f} %")
    peaks = cells(lambda side: f"{last[side]['peak_mb']:.0f}")
    loads = cells(lambda side: f"{sides[side].hello['load_s']:.2f}")
    row = [title, *speeds, mode, ratio, machine.spread(roofs), *shares, *peaks, ", ".join(loads)]
    print(f"| {' | '.join(row)} |", flush=True)


versions = "" if options.engine_only else machine.Side(
    [machine.PYTHON, os.path.join(machine.ROOT, "Benchmarks/steps/peer.py"), "--versions"],
    machine.environment(options.isa)).hello["versions"]
print(machine.header(options.isa, options.threads, versions) + "\n")
print("| step | engine tok/s | rival tok/s | rival's best mode | ratio | limit GFLOP/s | engine of it | rival of it | "
      "engine MB | rival MB | load s |\n|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
for name in SHAPES:
    for compute in machine.types(options.isa):
        if options.only in name.format(compute):
            measure(name, compute)
