--- loss and perplexity of a model on data, with an adapter and without
---
--- MODEL is what chat takes; DATA is what qlora.data.load reads: its format is found from the fields. The tokens that
--- training would train are the targets, ends of samples (EOS) among them.
local native = require "qlora.native"
local talk = require "qlora.talk"
local chat_source = require "qlora.chat_source"

--- The template of chats: the one that was asked for, else that of the first adapter, for the base and all adapters.
--- One by name is named, as in training: its marks need not be tokens.
local function template_of(talker)
  local template = talker:template(talker.names[1])
  if template == nil or template == talker:own_template() then return nil end
  return chat_source.name_of(template, talker.model.tokenizer) or template
end

return {
  usage = "MODEL [ADAPTER …] --data FILE",
  flags = talk.with_flags {
    { "--data", "FILE", "records (.json, .jsonl, .csv, .tsv or .txt)", required = true },
    { "--format", "NAME", "what the records are: alpaca, chat, …" },
    { "--limit", "N", "most samples", kind = "count" },
    { "--batch", "N", "samples at a time", kind = "count", default = 8 },
    { "--max-length", "N", "most tokens of a sample", kind = "count" },
    { "--stride", "N", "tokens between windows of format text, which see those before; default their length",
      kind = "count" },
  },
  run = function(o, arguments)
    local qlora = require "qlora"
    local path, adapters = talk.given("eval", o, arguments)
    local talker = talk.open(path, { quant = o.quant, adapters = adapters, template = o.template })
    -- Windows of a text have 1024 tokens unless the model reads fewer.
    local limit = talker.model.positions
    local data = qlora.data.load(o.data, { tokenizer = talker.model.tokenizer, format = o.format, stride = o.stride,
      max_length = o.max_length or limit < 1024 and limit or nil, template = template_of(talker) })
    for _, name in ipairs { false, table.unpack(talker.names) } do
      talker:use(name or nil)
      local began = native.clock()
      local perplexity, loss, targets = qlora.eval.perplexity(talker.model, data, { batch = o.batch, limit = o.limit })
      print(("%-24s loss %.4f  perplexity %.4f  %d targets  %.1f s"):format(name or talker.name, loss, perplexity,
        targets, native.clock() - began))
    end
  end,
}
