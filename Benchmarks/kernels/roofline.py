#!/usr/bin/env python3
"""Draws where the kernels stand below the machine's limits: docs/roofline-avx2.svg or docs/roofline-native.svg.

usage: roofline.py [--isa avx2|avx512|native] [--threads 2] [--results FILE] [OUTPUT.svg]
Run `swift build -c release --product kernel-bench` first.

Limits and kernels are measured in one run of kernel-bench; --results keeps its lines, or reads them where FILE exists.
Kernels are those of bf16 where the processor multiplies bf16, with two of f32; elsewhere all are of f32.
Intensity is the arithmetic of a kernel over the bytes it must move at least; an exponential counts 20 operations. The
memory limit is the best of reading, copying and updating in place; a kernel that writes elsewhere than it read moves a
third stream that is not counted, so two thirds of the roof is as far as a copy gets.
"""
import argparse
import json
import math
import os
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, ".."))
import machine  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--isa", choices=machine.SETS, default="native")
parser.add_argument("--threads", default="2")
parser.add_argument("--results", default="")
parser.add_argument("output", nargs="?", default="")
options = parser.parse_args()
output = options.output or os.path.join(here, f"../../docs/roofline-{options.isa}.svg")
kind = machine.types(options.isa)[0]


def product(m, k, n, dtype, weight=None):
    """Operations and bytes of [m, k] x [k, n]; `weight` are the bytes of an element of the second."""
    size = {"bf16": 2, "f32": 4}[dtype]
    return 2 * m * k * n, size * (m * k + m * n) + (weight or size) * k * n


def of_type(dtype):
    """Label, row of kernel-bench, operations, bytes: of the whole, or of one element where the row counts bytes."""
    size = {"bf16": 2, "f32": 4}[dtype]
    rows = [(f"product {dtype}, {m} x {k} x {n}", f"product {dtype} {m} x {k} x {n} NT", *product(m, k, n, dtype))
            for m, k, n in ((2048, 4096, 11008), (512, 576, 1536))]
    rows += [(f"NF4 product {dtype}, {m} row{'s' if m > 1 else ''}", f"NF4 + DQ {dtype} {m} x 11008 x 4096",
              *product(m, 11008, 4096, dtype, NF4)) for m in (512, 16, 4, 1)]
    rows += [(f"adapter {name} {dtype}, {m} x {k} x {n}", f"adapter {name} {dtype} {m} x {k} x {n} NT",
              *product(m, k, n, dtype)) for name, m, k, n in (("x A^T", 512, 576, 16), ("h B^T", 512, 16, 1536))]
    rows.append(attention(dtype))
    rows += [(f"{name} {dtype}{', ' + way if way else ''}", f"{name}{' ' + way if way else ''} {dtype}", operations,
              streams * size) for name, way, operations, streams in (
                  ("RMSNorm", "", 4, 2), ("RMSNorm", "backward", 8, 3), ("SwiGLU", "", 24, 3),
                  ("SwiGLU", "backward", 31, 5), ("residual", "", 1, 3), ("rotary", "", 3, 2))]
    return rows


def attention(dtype):
    return (f"attention {dtype}, forward + backward",
            f"attention {dtype} 32/32 heads, 1024 tokens, 128 forward + backward", 7 * 1024 * HEADS,
            12 * {"bf16": 2, "f32": 4}[dtype] * HEADS)


NF4 = 0.5 + 1 / 64 + 1 / 4096
HEADS = 32 * 1024 * 128
KERNELS = of_type(kind)
if kind == "bf16":
    KERNELS.insert(2, ("product f32, 2048 x 4096 x 11008", "product f32 2048 x 4096 x 11008 NT",
                       *product(2048, 4096, 11008, "f32")))
    KERNELS.append(attention("f32"))
KERNELS += [
    ("cross-entropy with gradient", "cross-entropy with gradient", 24, 8),
    ("AdamW, 32-bit state", "AdamW 32-bit", 14, 28),
    ("AdamW, 8-bit state", "AdamW 8-bit", 20, 16),
    ("quantize NF4 + DQ", "quantize NF4 f32 + DQ", 17, 4 + NF4),
    ("dequantize NF4 + DQ", "dequantize NF4 f32 + DQ", 1, 4 + NF4),
]


def measured():
    if options.results and os.path.exists(options.results):
        lines = open(options.results).read().splitlines()
    else:
        command = [machine.KERNEL_BENCH, "--json", "--seconds", "0.3", "--threads", options.threads]
        lines = subprocess.run(command, env=machine.environment(options.isa), capture_output=True, text=True,
                               check=True).stdout.splitlines()
        if options.results:
            open(options.results, "w").write("\n".join(lines))
    found = {}
    for line in lines:
        if line.startswith("{"):
            row = json.loads(line)
            # Limits are measured before and after.
            if row["rate"] > found.get(row["name"], (0, ""))[0]:
                found[row["name"]] = row["rate"], row["unit"]
    return found


rates = measured()
memory = max(rate for name, (rate, _) in rates.items() if name.startswith("limit: memory"))
roofs = {"bf16": rates["limit: bf16 dot products"][0], "f32": rates["limit: f32 multiply-adds"][0]}
points = []
for label, name, operations, moved in KERNELS:
    if name not in rates:
        raise SystemExit(f"kernel-bench has no row '{name}'")
    rate, unit = rates[name]
    intensity = operations / moved
    # "GB/s in" and "GB/s out" count four bytes an element, without the codes.
    per = {"GFLOP/s": 1, "M elements/s": operations / 1e3, "GB/s": intensity,
           "GB/s in": operations / 4, "GB/s out": operations / 4}[unit]
    uses_pairs = ("bf16" in label) and not any(word in label for word in ("Norm", "SwiGLU", "residual", "rotary"))
    roof = min(roofs["bf16" if uses_pairs else "f32"], memory * intensity)
    points.append((label, intensity, rate * per, rate * per / roof))

left, top, width, height, panel = 62, 34, 560, 420, 330
low_x, high_x = 0.1, 4096
low_y, high_y = 4, 2048


def at(x, y):
    return (left + width * math.log(x / low_x) / math.log(high_x / low_x),
            top + height * (1 - math.log(y / low_y) / math.log(high_y / low_y)))


INK, GRID, BLUE, ORANGE, GREEN = "#24292f", "#d8dee4", "#0969da", "#bc4c00", "#1a7f37"
svg = []


def text(x, y, words, size=12, anchor="start", colour=INK, weight="normal", extra=""):
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    svg.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" '
               f'font-weight="{weight}"{extra}>{words}</text>')


def line(x1, y1, x2, y2, colour, stroke=1.0, dash=""):
    extra = f' stroke-dasharray="{dash}"' if dash else ""
    svg.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
               f'stroke-width="{stroke}"{extra}/>')


x = 0.125
while x <= high_x:
    px, bottom = at(x, low_y)
    line(px, top, px, bottom, GRID)
    text(px, bottom + 16, f"{x:g}" if x >= 1 else f"1/{1 / x:g}", 11, "middle")
    x *= 4
y = low_y
while y <= high_y:
    px, py = at(low_x, y)
    line(px, py, px + width, py, GRID)
    text(px - 6, py + 4, f"{y:g}", 11, "end")
    y *= 2
text(left + width / 2, top + height + 36, "operations for each byte that must be moved", 12, "middle")
text(left, top - 12, f"GFLOP/s, {machine.cpu_field('model name')}, set {options.isa}, {options.threads} threads", 12)
tops = [("f32 multiply-adds", roofs["f32"], GREEN)]
if kind == "bf16":
    tops.append(("bf16 dot products", roofs["bf16"], ORANGE))
for name, roof, colour in tops:
    x1, y1 = at(roof / memory, roof)
    line(x1, y1, left + width, y1, colour, 2)
    text(left + width - 4, y1 - 5, f"{roof:.0f} {name}", 11, "end", colour, "bold")
start, end = low_y / memory, roofs[kind] / memory
x1, y1 = at(max(low_x, start), max(low_y, memory * low_x))
x2, y2 = at(end, roofs[kind])
line(x1, y1, x2, y2, BLUE, 2)
angle = math.degrees(math.atan2(y2 - y1, x2 - x1))
mx, my = at(5, memory * 5)
text(mx, my - 8, f"{memory:.0f} GB/s memory", 11, "start", BLUE, "bold",
     f' transform="rotate({angle:.1f} {mx:.1f} {my - 8:.1f})"')

# A number stands where it meets no point and no number before it.
centres = [at(intensity, rate) for _, intensity, rate, _ in points]
taken = [(cx - 4, cy - 4, cx + 4, cy + 4) for cx, cy in centres]
for index, (cx, cy) in enumerate(centres):
    bf16 = "bf16" in points[index][0]
    svg.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="4" fill="{ORANGE if bf16 else GREEN}" stroke="#ffffff"/>')
    w = 7 * len(str(index + 1))
    for dx, dy in ((6, 4), (-6 - w, 4), (-w / 2, -7), (-w / 2, 15), (7, -7), (7, 15), (-8 - w, -7), (-8 - w, 15),
                   (14, 4), (-16 - w, 4), (-w / 2, -18), (-w / 2, 26)):
        box = (cx + dx, cy + dy - 9, cx + dx + w, cy + dy)
        if all(box[2] < t[0] or t[2] < box[0] or box[3] < t[1] or t[3] < box[1] for t in taken):
            break
    taken.append(box)
    text(box[0], box[3], str(index + 1), 11, "start", INK, "bold")

px = left + width + 24
text(px, top - 12, "kernel", 12, weight="bold")
text(px + panel - 52, top - 12, "GFLOP/s", 12, "end", weight="bold")
text(px + panel, top - 12, "of roof", 12, "end", weight="bold")
for index, (label, _, rate, share) in enumerate(points):
    py = top + 8 + 20.4 * index
    text(px + 14, py, f"{index + 1}", 11, "end", weight="bold")
    text(px + 20, py, label, 11)
    text(px + panel - 52, py, f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}", 11, "end")
    text(px + panel, py, f"{100 * share:.0f} %", 11, "end")
total_width, total_height = px + panel + 20, top + height + 54
# An opaque ground keeps it readable on pages of any colour.
with open(output, "w") as file:
    file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_width:.0f} {total_height}" '
               f'font-family="sans-serif" role="img" aria-label="Roofline of the kernels">\n'
               f'<rect width="100%" height="100%" rx="8" fill="#ffffff"/>\n' + "\n".join(svg) + "\n</svg>\n")
print(f"limits: {', '.join(f'{name} {roof:.0f} GFLOP/s' for name, roof, _ in tops)}, memory {memory:.0f} GB/s\n")
print("| kernel | operations a byte | GFLOP/s | of its roof |\n|---|---|---|---|")
for label, intensity, rate, share in points:
    print(f"| {label} | {intensity:.3g} | {rate:.3g} | {100 * share:.0f} % |")
