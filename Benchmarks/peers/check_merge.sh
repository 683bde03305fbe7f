#!/bin/sh
# Trains an adapter on SmolLM2-135M, measures and writes each target of a merge, and has transformers, PEFT and
# bitsandbytes compute what the merge said: KL per token, equal top tokens and perplexity against the live adapter.
set -eu
cd "$(dirname "$0")/../.."
Benchmarks/peers/prepare.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.build/release/qlora-run -l qlora -e "
  local base, work = 'downloads/peers/smollm2-f32', '$work'
  local world, json = require 'qlora.world', require 'qlora.json'
  local model = qlora.load(base, { quant = 'nf4', double_quant = 'bitsandbytes', compute = 'f32' })
  local function load(count, seed)
    return qlora.data.load(world.records(count, seed), { tokenizer = model.tokenizer, max_length = 96 })
  end
  model:add_lora { select = 'all-linear', rank = 8, alpha = 16 }
  qlora.train { model = model, data = load(64, 0), optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }),
    steps = 8, batch = 4 }
  model:save_adapter(work .. '/adapter')
  local data, samples, rows = load(8, 1000), {}, {}
  local result = qlora.merge(model, data)
  rows.base = { kl = result.base.kl, agreement = result.base.agreement, perplexity = result.base.perplexity[2] }
  for _, row in ipairs(result.rows) do
    rows[row.target] = row
    model:merged_weights(row.target):save(work .. '/' .. row.target)
  end
  for i = 1, #data do samples[i] = { ids = data[i].ids, labels = data[i].labels } end
  qlora.native.write_file(work .. '/said.json', json.encode { samples = samples, rows = rows })"
downloads/peers/venv/bin/python Benchmarks/peers/check_merge.py downloads/peers/smollm2-f32 "$work"
