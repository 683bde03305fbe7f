--- a model or a data set of the hub, into its cache; prints where it lies
---
--- NAME is ORGANISATION/NAME, a model, or datasets/ORGANISATION/NAME, a data set; FILE is one file of it, such as a
--- .gguf or a .jsonl file. Recipes load it by its name. HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE and
--- HF_HUB_OFFLINE mean what they mean to all programs of the hub.
local native = require "qlora.native"

return {
  usage = "NAME [FILE]", least = 1, most = 2,
  flags = { { "--revision", "REVISION", "branch, tag or commit; default main" } },
  run = function(o, arguments)
    local name = arguments[1]:find "^hf://" and arguments[1] or "hf://" .. arguments[1]
    print(native.fetch(name, { revision = o.revision, file = arguments[2] }))
  end,
}
