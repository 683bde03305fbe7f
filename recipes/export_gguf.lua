-- Export: write a model, with its adapter in it, as a GGUF file for llama.cpp and Ollama, and a Modelfile beside it.
--
--   qlora-run export_gguf.lua
--   qlora-run --set adapter=out/quickstart --set type=q8_0 export_gguf.lua
--   qlora-run --set adapter=out/quickstart --set apart=true export_gguf.lua
--
-- Expected: one matrix is in memory at a time, as f32, beside the model. The tiny model takes a second. `apart` writes
-- the base and the adapter as two files; llama.cpp adds them with --lora. No training, no loss, nothing to plan.
local qlora = require "qlora"

local p = qlora.params {
  model = qlora.resource "models/tiny", adapter = "", out = "out/gguf", name = "model",
  type = "q4_k_m", -- f32, f16, bf16, q8_0, q4_0, q6_k, q4_k_m or q5_k_m
  apart = false,
}

local options = { adapter = p.adapter ~= "" and p.adapter or nil }
local model = qlora.load(p.model, options)
if qlora.native.options.plan then
  print "nothing to plan: an export has one matrix in memory, as f32, beside the model"
  return
end
local base = ("%s/%s-%s.gguf"):format(p.out, p.name, p.type)
local modelfile = { "FROM ./" .. base:match("[^/]+$") }
qlora.native.mkdir(p.out)

if p.apart and p.adapter ~= "" then
  local adapter = p.out .. "/" .. p.name .. "-lora.gguf"
  model:save_adapter(adapter)
  model:without_adapters(function() model:save_gguf(base, { type = p.type }) end)
  modelfile[#modelfile + 1] = "ADAPTER ./" .. adapter:match("[^/]+$")
else
  model:save_gguf(base, { type = p.type, merge = true })
end

-- Ollama reads the chat template of the GGUF file itself; here stand the file's names alone.
qlora.native.write_file(p.out .. "/Modelfile", table.concat(modelfile, "\n") .. "\n")
local modelfile_at = qlora.native.place_to_read(p.out .. "/Modelfile")
print(("wrote %s and %s; try: ollama create %s -f %s"):format(qlora.native.place_to_read(base), modelfile_at, p.name,
  modelfile_at))
