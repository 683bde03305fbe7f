#!/bin/sh
# Loads an adapter that qlora-run saved for SmolLM2-135M with PEFT and compares logits (1e-3 of the largest).
# The scales get the codes that bitsandbytes gives them on a processor, as its base there does.
# usage: check_adapter.sh [ADAPTER_DIR]   (default out/smollm2, which `make smollm2` writes)
set -eu
cd "$(dirname "$0")/../.."
Benchmarks/peers/prepare.sh
adapter=${1:-out/smollm2}
logits=$(mktemp -d)
trap 'rm -rf "$logits"' EXIT
.build/release/qlora-run -l qlora -e "
  local base = 'downloads/peers/smollm2-f32'
  local model = qlora.load(base, {
    quant = 'nf4', double_quant = 'bitsandbytes', compute = 'f32', adapter = '$adapter' })
  local ids = model.tokenizer:encode('Question: Ben has 3 boxes with 12 pencils each. How many pencils are there?')
  qlora.save('$logits/logits.safetensors', { ids = qlora.tensor(ids, { dtype = 'i64' }), logits = model:logits(ids) })"
downloads/peers/venv/bin/python Benchmarks/peers/check_adapter_in_peft.py \
  downloads/peers/smollm2-f32 "$adapter" "$logits/logits.safetensors"
