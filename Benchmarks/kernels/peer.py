#!/usr/bin/env python3
"""The rival's side of compare.py: torch and bitsandbytes on the work of kernel-bench, under the same names.

usage: peer.py [--threads 2] [--seconds 0.4]
Prints a line of JSON with the versions and the groups of rows, by table. Each line of input names a group; the answer
has the name, the rate of the fastest run and the unit of each of its rows.
"""
import argparse
import json
import os
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--seconds", type=float, default=0.4)
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)
import bitsandbytes as bnb  # noqa: E402
import bitsandbytes.functional as B  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

torch.set_num_threads(options.threads)
torch.manual_seed(0)
TYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
answer = []


def row(name, work, unit, body):
    body()
    best, end = float("inf"), time.perf_counter() + options.seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        body()
        best = min(best, time.perf_counter() - start)
    answer.append({"name": name, "rate": work / best, "unit": unit})


def product(name, dtype, m, k, n, form):
    a = torch.randn((k, m) if form[0] == "T" else (m, k)).to(dtype)
    b = torch.randn((n, k) if form[1] == "T" else (k, n)).to(dtype)
    left, right = (a.t() if form[0] == "T" else a), (b.t() if form[1] == "T" else b)
    row(name, 2e-9 * m * n * k, "GFLOP/s", lambda: left @ right)


def quantized(name, dtype, rows):
    out, columns = 4096, 11008
    layer = bnb.nn.Linear4bit(columns, out, bias=False, compute_dtype=dtype, quant_type="nf4")
    layer.weight = bnb.nn.Params4bit(torch.randn(out, columns).to(dtype), requires_grad=False, quant_type="nf4",
                                     compress_statistics=True, module=layer)
    layer = layer.to("cpu")
    x = torch.randn(rows, columns).to(dtype)
    work = 2e-9 * rows * out * columns
    with torch.no_grad():
        layer.train()
        row(name, work, "GFLOP/s", lambda: layer(x))
        if rows == 1 and dtype is torch.bfloat16:  # the packed kernel of bitsandbytes for inference
            layer.eval()
            row(name + " (eval)", work, "GFLOP/s", lambda: layer(x))


def attention(name, dtype, heads, groups, tokens, width):
    shapes = (1, heads, tokens, width), (1, groups, tokens, width), (1, groups, tokens, width)
    q, k, v = (torch.randn(shape).to(dtype).requires_grad_(True) for shape in shapes)
    gradient = torch.randn(shapes[0]).to(dtype)
    work = 1e-9 * heads * tokens * tokens * width

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != groups)

    with torch.no_grad():
        row(name + " forward", 2 * work, "GFLOP/s", forward)
    row(name + " forward + backward", 7 * work, "GFLOP/s", lambda: forward().backward(gradient))


def optimizer(name, make):
    count = 20_000_000
    p = torch.nn.Parameter(torch.randn(count))
    p.grad = torch.randn(count)
    row(name, 1e-6 * count, "M elements/s", make([p]).step)


def quantization(name, dtype):
    w = torch.randn(4096, 11008).to(dtype)
    size = 1e-9 * w.numel() * w.element_size()
    for double in (False, True):
        suffix = name + (" + DQ" if double else "")
        codes, state = B.quantize_4bit(w, quant_type="nf4", compress_statistics=double)
        row("quantize " + suffix, size, "GB/s in",
            lambda: B.quantize_4bit(w, quant_type="nf4", compress_statistics=double))
        row("dequantize " + suffix, size, "GB/s out", lambda: B.dequantize_4bit(codes, state))


groups = {"products": {}, "quantized": {}, "attention": {}, "optimizers": {}, "quantization": {}}
for label, dtype in TYPES.items():
    for m, k, n, form in ((512, 4096, 4096, "NT"), (512, 4096, 4096, "NN"), (512, 4096, 4096, "TN"),
                          (2048, 4096, 11008, "NT"), (2048, 4096, 11008, "NN"), (512, 576, 1536, "NT"),
                          (512, 2048, 5632, "NT")):
        groups["products"][f"product {label} {m} x {k} x {n} {form}"] = product, (dtype, m, k, n, form)
    for rows in (1, 4, 16, 512):
        groups["quantized"][f"NF4 + DQ {label} {rows} x 11008 x 4096"] = quantized, (dtype, rows)
    for shape in ((32, 32, 1024, 128), (9, 3, 512, 64), (9, 3, 4096, 64)):
        name = "attention {} {}/{} heads, {} tokens, {}".format(label, *shape)
        groups["attention"][name] = attention, (dtype, *shape)
    groups["quantization"][f"NF4 {label}"] = quantization, (dtype,)
for name, make in (("AdamW 32-bit", lambda p: torch.optim.AdamW(p, fused=True)), ("AdamW 8-bit", bnb.optim.AdamW8bit),
                   ("Lion 8-bit", bnb.optim.Lion8bit)):
    groups["optimizers"][name] = optimizer, (make,)

print(json.dumps({"groups": {table: list(rows) for table, rows in groups.items()}, "versions": (
    f"torch {torch.__version__}, bitsandbytes {bnb.__version__}; torch runs "
    f"{torch.backends.cpu.get_cpu_capability()}")}), flush=True)
for line in sys.stdin:
    body, arguments = next(rows[line.strip()] for rows in groups.values() if line.strip() in rows)
    answer = []
    body(line.strip(), *arguments)
    print(json.dumps({"rows": answer}), flush=True)
