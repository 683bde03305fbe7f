-- Double-quantization ledger: bits per parameter with and without double quantization, counted in files.
--
--   qlora-run dq_ledger.lua
--   qlora-run --set model=SmolLM2-135M-Instruct.Q4_1.gguf dq_ledger.lua
--
-- Expected: a few seconds, no loss. The model is written twice per block size, and the bytes of its quantized matrices
-- are counted. Section 3 of the paper: 0.373 bits saved per parameter at block size 64, 3 GB for 65B. For the LLaMA
-- models the bits are multiplied by the parameters of their linear layers.
local qlora = require "qlora"
local native = qlora.native

local p = qlora.params {
  model = qlora.resource "models/tiny", out = "out/dq-ledger", blocks = { 32, 64, 128, 256, 512, 1024, 2048, 4096 },
}

--- Bits per parameter: codes and scales, without the constant tables and the text that names the format.
local function measure(block, double)
  local dir = ("%s/block%d-%s"):format(p.out, block, double and "double" or "single")
  if native.exists(dir) then native.remove_tree(dir) end
  native.quantize_checkpoint(p.model, dir, { block = block, double_quant = double, shard_bytes = 1 << 40 })
  local bytes, parameters = 0.0, 0.0
  for name, tensor in pairs(qlora.load(dir .. "/model.safetensors")) do
    local size = tensor:numel() * (tensor.dtype == "f32" and 4 or 1)
    if name:match "absmax$" then bytes = bytes + size end
    if name:match "%.weight$" and tensor.dtype == "u8" then
      bytes, parameters = bytes + size, parameters + 2 * size
    end
  end
  native.remove_tree(dir)
  return 8 * bytes / parameters
end

--- Parameters of the linear layers of a known model, the output one left out as it stays in 16 bits.
local function quantized_parameters(name)
  local count = 0
  for m in qlora.load(name, { header_only = true }):modules() do
    if m.kind == "linear" and m.layer then count = count + m.params end
  end
  return count
end

local models, sizes = { "llama-7b", "llama-13b", "llama-33b", "llama-65b" }, {}
if not native.options.smoke then
  for i, name in ipairs(models) do sizes[i] = quantized_parameters(name) end
end

print "| block | bits, plain | bits, double | saved | 7B | 13B | 33B | 65B |"
print "|---|---|---|---|---|---|---|---|"
for _, block in ipairs(p.blocks) do
  local plain, double = measure(block, false), measure(block, true)
  local cells = {}
  for i, size in ipairs(sizes) do cells[i] = ("%.2f GB"):format((plain - double) / 8 * size / 1e9) end
  print(("| %d | %.4f | %.4f | %.4f | %s |"):format(block, plain, double, plain - double, table.concat(cells, " | ")))
end
