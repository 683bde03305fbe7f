--- writes a model, with an adapter in it, as a GGUF file for llama.cpp and Ollama
---
--- MODEL is what qlora.load takes. The file is read back before it takes the place of an older one. An adapter that was
--- trained on 4 bits computes a little differently on wider weights; the recipe merge.lua measures how much.
local command_line = require "qlora.command_line"

return {
  usage = "MODEL OUT.gguf", least = 2, most = 2,
  flags = {
    { "--type", "TYPE", "f32, f16, bf16, q8_0, q4_0, q6_k, q4_k_m or q5_k_m", default = "q4_k_m" },
    { "--adapter", "DIR", "a folder with an adapter, which is added into the weights that are written" },
  },
  run = function(o, arguments)
    local qlora = require "qlora"
    local path, out = table.unpack(arguments)
    if not out:find "%.gguf$" then command_line.fail("export: the file must end with .gguf, got '%s'", out) end
    local model = qlora.load(require("qlora.talk").place(path), { adapter = o.adapter })
    model:save_gguf(out, { type = o.type, merge = o.adapter ~= nil })
    print(("wrote %s: %s%s in %s"):format(out, path, o.adapter and " with " .. o.adapter or "", o.type))
  end,
}
