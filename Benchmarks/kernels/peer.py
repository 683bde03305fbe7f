#!/usr/bin/env python3
"""The rival's side of compare.py: torch and bitsandbytes on the work of kernel-bench, under the same names.

usage: peer.py [--threads 2] [--seconds 0.4] [table...]     (products quantized attention optimizers quantization)
Prints a line of JSON per row: name, rate of the fastest run, unit.
"""
import argparse
import json
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--seconds", type=float, default=0.4)
parser.add_argument("tables", nargs="*")
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

torch.set_num_threads(options.threads)
torch.manual_seed(0)
TYPES = {"bf16": torch.bfloat16, "f32": torch.float32}


def wants(table):
    return not options.tables or table in options.tables


def row(name, work, unit, body):
    body()
    best, end = float("inf"), time.perf_counter() + options.seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        body()
        best = min(best, time.perf_counter() - start)
    print(json.dumps({"name": name, "rate": work / best, "unit": unit}), flush=True)


if wants("products"):
    for label, dtype in TYPES.items():
        for m, k, n, form in ((512, 4096, 4096, "NT"), (512, 4096, 4096, "NN"), (512, 4096, 4096, "TN"),
                              (2048, 4096, 11008, "NT"), (2048, 4096, 11008, "NN"), (512, 576, 1536, "NT"),
                              (512, 2048, 5632, "NT")):
            a = torch.randn((k, m) if form[0] == "T" else (m, k)).to(dtype)
            b = torch.randn((n, k) if form[1] == "T" else (k, n)).to(dtype)
            left, right = (a.t() if form[0] == "T" else a), (b.t() if form[1] == "T" else b)
            row(f"product {label} {m} x {k} x {n} {form}", 2e-9 * m * n * k, "GFLOP/s", lambda: left @ right)
if wants("quantized"):
    import bitsandbytes as bnb
    out, columns = 4096, 11008
    w = torch.randn(out, columns)
    for label, dtype in TYPES.items():
        layer = bnb.nn.Linear4bit(columns, out, bias=False, compute_dtype=dtype, quant_type="nf4")
        layer.weight = bnb.nn.Params4bit(w.to(dtype), requires_grad=False, quant_type="nf4", compress_statistics=True,
                                         module=layer)
        layer = layer.to("cpu")
        layer.train()
        for rows in (1, 16, 512):
            x = torch.randn(rows, columns).to(dtype)
            with torch.no_grad():
                row(f"NF4 + DQ {label} {rows} x {columns} x {out}", 2e-9 * rows * out * columns, "GFLOP/s",
                    lambda: layer(x))
        if dtype is torch.bfloat16:  # the packed kernel of bitsandbytes for inference
            layer.eval()
            x = torch.randn(1, columns).to(dtype)
            with torch.no_grad():
                row(f"NF4 + DQ {label} 1 x {columns} x {out} (eval)", 2e-9 * out * columns, "GFLOP/s", lambda: layer(x))
if wants("attention"):
    for heads, tokens, width in ((32, 1024, 128),):
        for label, dtype in TYPES.items():
            q, k, v = (torch.randn(1, heads, tokens, width).to(dtype).requires_grad_(True) for _ in range(3))
            gradient = torch.randn(1, heads, tokens, width).to(dtype)
            product = 1e-9 * heads * tokens * tokens * width
            name = f"attention {label} {heads}/{heads} heads, {tokens} tokens, {width}"
            with torch.no_grad():
                row(name + " forward", 2 * product, "GFLOP/s",
                    lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
            row(name + " forward + backward", 7 * product, "GFLOP/s",
                lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(gradient))
if wants("optimizers"):
    import bitsandbytes as bnb
    count = 20_000_000
    for name, make in (("AdamW 32-bit", lambda p: torch.optim.AdamW([p], fused=True)),
                       ("AdamW 8-bit", lambda p: bnb.optim.AdamW8bit([p])),
                       ("Lion 8-bit", lambda p: bnb.optim.Lion8bit([p]))):
        p = torch.nn.Parameter(torch.randn(count))
        p.grad = torch.randn(count)
        row(name, 1e-6 * count, "M elements/s", make(p).step)
if wants("quantization"):
    import bitsandbytes.functional as B
    for label, dtype in TYPES.items():
        w = torch.randn(4096, 11008).to(dtype)
        size = 1e-9 * w.numel() * w.element_size()
        for double in (False, True):
            suffix = f"NF4 {label}" + (" + DQ" if double else "")
            quantized, state = B.quantize_4bit(w, quant_type="nf4", compress_statistics=double)
            row("quantize " + suffix, size, "GB/s in",
                lambda: B.quantize_4bit(w, quant_type="nf4", compress_statistics=double))
            row("dequantize " + suffix, size, "GB/s out", lambda: B.dequantize_4bit(quantized, state))
