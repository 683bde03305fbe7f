--- loss and perplexity of a model on data, with an adapter and without
---
--- MODEL is what chat takes; DATA is what qlora.data.load reads: its format is found from the fields.
local native = require "qlora.native"
local talk = require "qlora.talk"

return {
  usage = "MODEL [ADAPTER …] --data FILE", least = 1,
  flags = {
    { "--data", "FILE", "records (.json, .jsonl, .csv, .tsv or .txt)", required = true },
    { "--format", "NAME", "what the records are: alpaca, chat, …" },
    { "--limit", "N", "most samples", kind = "count" },
    { "--batch", "N", "samples at a time", kind = "count", default = 8 },
    { "--max-length", "N", "most tokens of a sample", kind = "count" },
    { "--quant", "TYPE", "load the weights in nf4, fp4 or int4, or keep those of a .gguf file" },
  },
  run = function(o, arguments)
    local qlora = require "qlora"
    local talker = talk.open(arguments[1], { quant = o.quant, adapters = { table.unpack(arguments, 2) } })
    local data = qlora.data.load(o.data, { tokenizer = talker.model.tokenizer, format = o.format,
      max_length = o.max_length })
    for _, name in ipairs { false, table.unpack(talker.names) } do
      talker:use(name or nil)
      local began = native.clock()
      local perplexity, loss, targets = qlora.eval.perplexity(talker.model, data, { batch = o.batch, limit = o.limit })
      print(("%-24s loss %.4f  perplexity %.4f  %d targets  %.1f s"):format(name or talker.name, loss, perplexity,
        targets, native.clock() - began))
    end
  end,
}
