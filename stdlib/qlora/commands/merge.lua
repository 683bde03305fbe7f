--- adds an adapter into the weights of its base and saves the model
---
--- MODEL is what qlora.load takes, ADAPTER a folder. OUT holds weights, tokenizer and config, and must not exist.
--- The adapter is added to the weights of MODEL as they are stored. One trained on 4 bits computes a little differently
--- there; the recipe merge.lua measures how much. Quantizing OUT to 4 bits again loses most of a small adapter: keep
--- the adapter apart for that.
local native = require "qlora.native"
local command_line = require "qlora.command_line"

local types = { bf16 = true, f16 = true, f32 = true }

return {
  usage = "MODEL ADAPTER OUT", least = 3, most = 3,
  flags = { { "--dtype", "TYPE", "how weights are stored: bf16, f16 or f32", default = "bf16" } },
  run = function(o, arguments)
    local qlora = require "qlora"
    local path, adapter, out = table.unpack(arguments)
    if native.exists(out) then command_line.fail("merge: %s exists; remove it or name another place", out) end
    if not types[o.dtype] then command_line.fail("merge: --dtype %s is not bf16, f16 or f32", o.dtype) end
    local model = qlora.load(require("qlora.talk").place(path))
    local count = model:add_adapter(adapter)
    model:merged_weights("dequantized", { dtype = o.dtype }):save(out)
    print(("wrote %s: %s with the adapters of %d modules from %s"):format(out, path, count, adapter))
  end,
}
