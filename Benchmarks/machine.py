"""What the comparisons share: instruction sets for both sides, the machine's name and limits, sides that take turns.

A side is a program that prints a line of JSON when it is ready, and one more for each line that it reads.
"""
import atexit
import json
import os
import queue
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = os.path.join(ROOT, "downloads/peers")
PYTHON = os.path.join(PEERS, "venv/bin/python")
QLORA_RUN = os.path.join(ROOT, ".build/release/qlora-run")
KERNEL_BENCH = os.path.join(ROOT, ".build/release/kernel-bench")

# The same set for both sides. bitsandbytes has no such switch and may use more than `avx2` allows; what it decodes is a
# small part of a step.
SETS = {
    "avx2": {"QLORA_ISA": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
             "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {"QLORA_ISA": "avx512", "ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
               "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
    "native": {},
}
# glibc gives freed tensors back to the system by default and faults them in again; these settings keep them.
MALLOC = {
    "tuned": {"MALLOC_MMAP_THRESHOLD_": str(8 << 30), "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
              "MALLOC_TOP_PAD_": str(256 << 20)},
    "default": {},
}


def environment(isa, malloc="default"):
    """The environment of both sides for an instruction set; settings of the caller's shell for others are dropped."""
    named = {key for settings in (*SETS.values(), *MALLOC.values()) for key in settings}
    kept = {key: value for key, value in os.environ.items() if key not in named}
    return {**kept, **SETS[isa], **MALLOC[malloc]}


def cpu_field(name):
    found = re.search(rf"^{name}\s*:\s*(.+)$", open("/proc/cpuinfo").read(), re.M)
    return found.group(1) if found else "unknown"


def types(isa):
    """Element types worth comparing: bf16 only where the processor multiplies it and the set is not held down."""
    has_pairs = {"avx512_bf16", "amx_bf16"} & set(cpu_field("flags").split())
    return ["bf16", "f32"] if isa == "native" and has_pairs else ["f32"]


def header(isa, threads, *rivals):
    """One line that says where and against what the figures below it were measured."""
    for path, remedy in ((QLORA_RUN, "make build"), (KERNEL_BENCH, "swift build -c release --product kernel-bench"),
                         (PYTHON, "Benchmarks/peers/prepare.sh")):
        if not os.path.exists(path):
            raise SystemExit(f"{os.path.relpath(path, ROOT)} is missing: run {remedy}")
    engine = subprocess.run([QLORA_RUN, "-e", 'print(require("qlora").cpu().set)'], env=environment(isa), text=True,
                            capture_output=True, check=True).stdout.split()[-1]
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], text=True, capture_output=True).stdout
    processor = f"{cpu_field('model name')}, family {cpu_field('cpu family')} model {cpu_field('model')}"
    return (f"{processor}; set {isa} (engine {engine}, {commit.strip()}); {threads} threads; {'; '.join(rivals)}; "
            f"{time.strftime('%Y-%m-%d %H:%M')}")


def limits(isa, threads):
    """GFLOP/s of f32 and bf16 and GB/s of memory, as kernel-bench measures them at this moment."""
    run = subprocess.run([KERNEL_BENCH, "--json", "--seconds", "0.1", "--threads", str(threads), "limits"],
                         env=environment(isa), text=True, capture_output=True, check=True)
    rows = {row["name"]: row["rate"] for row in map(json.loads, run.stdout.splitlines())}
    return {"f32": rows["limit: f32 multiply-adds"], "bf16": rows["limit: bf16 dot products"],
            "read": rows["limit: memory read"]}


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class Cut(Exception):
    """A side did not answer in its time, and was ended."""


class Side:
    """A program that answers lines with lines of JSON."""

    def __init__(self, command, settings, ready_within=600):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env=settings, cwd=ROOT)
        # A comparison that is stopped leaves no side behind, which would run on beside the next one.
        atexit.register(self.process.kill)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.hello = self._answer(ready_within)

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(json.loads(line))
        self.lines.put(None)

    def _answer(self, seconds):
        try:
            answer = self.lines.get(timeout=seconds)
        except queue.Empty:
            self.process.kill()
            self.process.wait()
            raise Cut from None
        if answer is None:
            self.errors.seek(0)
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended early:\n{self.errors.read()[-2000:]}")
        return answer

    def ask(self, line="", within=600):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer(within)

    def close(self):
        """Ends the input and returns the last line, which has the peak of memory."""
        self.process.stdin.close()
        last = self._answer(60)
        self.process.wait()
        return last

    def kill(self):
        self.process.kill()
        self.process.wait()


def number(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}"


def spread(values):
    """The median, and the ends where they differ."""
    low, middle, high = (number(f(values)) for f in (min, statistics.median, max))
    return middle if low == high else f"{middle} ({low} to {high})"
