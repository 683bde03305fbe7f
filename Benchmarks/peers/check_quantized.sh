#!/bin/sh
# Writes SmolLM2-135M in 4 bits with recipes/quantize.lua, loads the directory here and in transformers with
# bitsandbytes, and compares logits (1e-3 of the largest); here they must also equal those of quantizing while loading,
# bit for bit. With and without double quantization, in one file and in shards.
set -eu
cd "$(dirname "$0")/../.."
Benchmarks/peers/prepare.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for double in true false; do
  shard=$(test $double = true && echo 5e9 || echo 5e7)
  .build/release/qlora-run --set double_quant=$double --set shard=$shard recipes/quantize.lua \
    downloads/peers/smollm2-f32 "$work/$double"
  .build/release/qlora-run -l qlora -e "
    local function logits(path, options)
      local model = qlora.load(path, options)
      local ids = model.tokenizer:encode('Question: Ben has 3 boxes with 12 pencils each. How many pencils are there?')
      return model:logits(ids), ids
    end
    local stored, ids = logits('$work/$double', { compute = 'f32' })
    local fresh = logits('downloads/peers/smollm2-f32', { quant = 'nf4', double_quant = $double, compute = 'f32' })
    assert((stored - fresh):abs():max():item() == 0, 'the file and quantizing while loading differ')
    qlora.save('$work/logits.safetensors', { ids = qlora.tensor(ids, { dtype = 'i64' }), logits = stored })"
  downloads/peers/venv/bin/python Benchmarks/peers/check_quantized_in_transformers.py \
    "$work/$double" "$work/logits.safetensors"
done
