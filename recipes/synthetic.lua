-- Synthetic: write a 4-bit checkpoint with a model's shape and random weights, to try memory and time.
--
--   qlora-run synthetic.lua 65B OUT
--   qlora-run synthetic.lua tinyllama-1.1b-v1.0 OUT
--
-- Expected: OUT in the format of bitsandbytes with a small tokenizer: 3.9 GB for 7B, 34 GB for 65B. Free space is
-- checked first. One matrix is in memory at a time. Shapes: 7B, 13B, 33B, 65B, small, a known model's name, or a
-- config.json. No training, no loss. Train on it with --set model=OUT, for example with llama65b.lua.
local qlora = require "qlora"
local format = require "qlora.format"

local p = qlora.params {
  hidden = 0, intermediate = 0, layers = 0, heads = 0, kv_heads = 0, vocab = 0, -- 0: as the shape has them
  quant = "nf4", block = 64, double_quant = true, seed = 0,
  shard = 5e9, -- most bytes of one file
}

local small = { model_type = "llama", hidden_size = 256, intermediate_size = 512, num_hidden_layers = 8,
  num_attention_heads = 4, num_key_value_heads = 4, vocab_size = 2048, max_position_embeddings = 2048 }

local shape, output = ...
if shape and not output then error("synthetic.lua: name the directory to write too: synthetic.lua 65B OUT", 0) end
output = output or "out/synthetic"

local config = small
if shape and shape ~= "small" then
  local known = shape:match "^[%d.]+[Bb]$" and "llama-" .. shape:lower() or shape
  local found, model = pcall(qlora.load, known, { header_only = true })
  if not found then
    error(("synthetic.lua: no shape '%s' (7B, 13B, 33B, 65B, small, a known name such as tinyllama-1.1b-v1.0, or a "
      .. "config.json): %s"):format(shape, tostring(model):gsub("^%S+:%d+: ", "")), 0)
  end
  config = model.config
end
for field, value in pairs {
  hidden_size = p.hidden, intermediate_size = p.intermediate, num_hidden_layers = p.layers,
  num_attention_heads = p.heads, num_key_value_heads = p.kv_heads, vocab_size = p.vocab,
} do
  if value ~= 0 then config[field] = value end
end
if p.hidden ~= 0 or p.heads ~= 0 then config.head_dim = config.hidden_size // config.num_attention_heads end

local native = qlora.native
local redraws, began = native.isatty(1) and not native.options.quiet, native.clock()
local bytes = native.synthetic_checkpoint(output, {
  config = config, tokenizer = qlora.tokenizer.load(qlora.resource "models/tiny"), quant = p.quant, block = p.block,
  double_quant = p.double_quant, shard_bytes = p.shard // 1, seed = p.seed,
  on_module = function(name, done, all)
    if redraws then io.write(("\r\27[K%4d of %d  %s"):format(done, all, name)):flush() end
  end,
})
if redraws then io.write "\r\27[K" end
local seconds = native.clock() - began
print(("wrote %s: %s of tensors in %s (%s/s), peak memory %s"):format(native.place_to_read(output), format.bytes(bytes),
  format.seconds(seconds), format.bytes(bytes / seconds), format.bytes(qlora.memory().peak_rss)))
