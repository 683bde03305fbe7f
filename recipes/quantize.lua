-- Quantize: turn a model into a 4-bit checkpoint once. It then loads at once and can be streamed from disk.
--
--   qlora-run quantize.lua IN OUT
--   qlora-run --set double_quant=false quantize.lua IN PLAIN
--
-- Expected: IN is a Hugging Face directory or a .gguf file. OUT has the format of bitsandbytes, which transformers
-- loads, and a quarter of the bytes of bf16. Experts in 4 bits are read by this program alone. One matrix is in memory
-- at a time. No training, no loss.
local qlora = require "qlora"
local format = require "qlora.format"

local p = qlora.params {
  quant = "nf4", block = 64, double_quant = true,
  dtype = "",      -- of embeddings, head and norms: "bf16", "f16", "f32"; "" keeps what the file has
  shard = 5e9,     -- most bytes of one file
}

local input, output = ...
if input and not output then error("quantize.lua: name the directory to write too: quantize.lua IN OUT", 0) end
input, output = input or qlora.resource "models/tiny", output or "out/tiny-" .. p.quant

local native = qlora.native
local redraws, began = native.isatty(1) and not native.options.quiet, native.clock()
local bytes = native.quantize_checkpoint(input, output, {
  quant = p.quant, block = p.block, double_quant = p.double_quant, shard_bytes = math.tointeger(p.shard),
  dtype = p.dtype ~= "" and p.dtype or nil,
  on_module = function(name, done, all)
    if redraws then io.write(("\r\27[K%4d of %d  %s"):format(done, all, name)):flush() end
  end,
})
if redraws then io.write "\r\27[K" end
print(("wrote %s: %s of tensors in %s, peak memory %s"):format(native.place_to_read(output), format.bytes(bytes),
  format.seconds(native.clock() - began), format.bytes(qlora.memory().peak_rss)))
