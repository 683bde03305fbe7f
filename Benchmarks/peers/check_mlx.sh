#!/bin/sh
# Adapters between this program and mlx-lm, on SmolLM2-135M in f32: one that was trained here and one that `mlx_lm.lora`
# trained, each read by the other (logits within 1e-4 of a standard deviation). Installs mlx-lm with MLX for the
# processor from PyPI, which has it for Linux and macOS.
set -eu
cd "$(dirname "$0")/../.."
Benchmarks/peers/prepare.sh
venv=downloads/peers/mlx
if ! $venv/bin/python -c 'import mlx_lm' 2>/dev/null; then
  python3 -m venv $venv
  $venv/bin/pip install -q 'mlx[cpu]==0.32.4' mlx-lm==0.32.2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
base=$work/base
$venv/bin/python Benchmarks/peers/check_mlx.py base downloads/peers/smollm2-f32 "$base"
check() { HF_HUB_OFFLINE=1 $venv/bin/python Benchmarks/peers/check_mlx.py logits "$base" "$1" "$2"; }
.build/release/qlora-run --set stage=write --set "work=$work" Benchmarks/peers/check_mlx.lua
check "" "$work/base.safetensors"
check "$work/ours" "$work/ours.safetensors"
$venv/bin/python Benchmarks/peers/check_mlx.py data data/word_problems.jsonl "$work/data"
HF_HUB_OFFLINE=1 $venv/bin/mlx_lm.lora --model "$base" --train --data "$work/data" --adapter-path "$work/theirs" \
  --num-layers 8 --iters 4 --batch-size 1 --learning-rate 1e-3 --val-batches 1
.build/release/qlora-run --set stage=read --set "work=$work" Benchmarks/peers/check_mlx.lua
check "$work/theirs" "$work/theirs.safetensors"
