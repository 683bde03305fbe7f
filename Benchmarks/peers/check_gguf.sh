#!/bin/sh
# SmolLM2-135M in GGUF files, in the engine and in llama.cpp: greedy tokens of base files with and without our adapter file
# (F32, F16, and Q8_0, Q4_K_M, Q6_K of llama.cpp's quantizer, which the engine keeps as they are) and of our merged
# files, 32 on three prompts; and the perplexity of every type that we export beside llama.cpp's own quantization of the
# same merged model (2 %). Builds llama.cpp first; ten minutes after that.
# usage: check_gguf.sh [LINES]     so many lines of data/word_problems.jsonl for the perplexities, 100 by default
set -eu
cd "$(dirname "$0")/../.."
Benchmarks/peers/prepare.sh llama
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=downloads/peers/llama-native/bin/python
.build/release/qlora-run --set stage=bases --set "work=$work" Benchmarks/peers/check_gguf.lua
$python Benchmarks/peers/check_gguf.py --bases "$work"
.build/release/qlora-run --set stage=adapter --set "work=$work" Benchmarks/peers/check_gguf.lua
$python Benchmarks/peers/check_gguf.py "$work" data/word_problems.jsonl "${1:-100}"
