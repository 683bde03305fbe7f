#!/bin/sh
# SmolLM2-135M against transformers, PEFT and bitsandbytes, run now: logits and greedy continuations of three prompts
# (1e-3 of a standard deviation, 32 equal tokens) and the loss curve of 20 QLoRA steps (1e-3 relative).
# Installs the peers from PyPI first. About two minutes after that.
set -eu
cd "$(dirname "$0")/../.."
Benchmarks/peers/prepare.sh
golden=$(mktemp -d)
trap 'rm -rf "$golden"' EXIT
downloads/peers/venv/bin/python Tests/Fixtures/peers/make_smollm2_golden.py \
  downloads/SmolLM2-135M-Instruct.Q4_1.gguf "$golden" --hf downloads/peers/smollm2-f32
QLORA_GOLDEN=$golden QLORA_SMOLLM2_GGUF=downloads/SmolLM2-135M-Instruct.Q4_1.gguf \
  swift test -c release --filter SmolLM2GoldenTests
