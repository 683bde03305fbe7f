--- fine-tunes a model on data without a recipe of one's own: writes the recipe that it runs, and runs it
---
--- MODEL is what qlora.load takes ("tiny" is the model that ships); the format of the data is found from its fields,
--- that of a .txt file is --set format=text. --set KEY=VALUE changes a parameter of the recipe, such as rank, lr,
--- epochs, template or max_length. held_out=0.05 keeps that share of the samples to evaluate on, held_out=20 so many,
--- held_out=0 none. --plan and --smoke work as with any recipe. The recipe is OUT.lua and stays, to be edited.
local native = require "qlora.native"
local command_line = require "qlora.command_line"
local format = require "qlora.format"

local template = [[
-- Fine-tunes @model on @data. Written by qlora-run train; edit it and run it:
--
--   qlora-run @file_word
local qlora = require "qlora"

local p = qlora.params {
  model = @model_value, data = @data_value, out = @out_value,
  quant = "nf4", -- fp4, int4, keep (the forms of a .gguf file), or none: the weights as they are
  select = "all-linear", -- or names, q_proj,v_proj, or a regular expression
  rank = 16, alpha = 32, dropout = 0.05,
  lr = 2e-4, batch = 8, micro_batch = 4, epochs = 1.0, steps = 0, -- 0: as many as the epochs take
  format = "", -- of records: text (one stream of text), completion, alpaca, …; without it their fields tell
  template = "", -- of chats: chatml, llama3, … or a file; without it the model's own
  max_length = 1024, held_out = 0.05, -- a share below 1, or so many samples; 0: none; of one record none is
}

assert(p.steps > 0 or p.steps == 0 and p.epochs > 0, "give epochs, or steps, of more than 0")
assert(p.held_out >= 0 and (p.held_out < 1 or p.held_out % 1 == 0), "held_out is a share below 1, or a whole number")
local quant = p.quant ~= "none" and p.quant ~= "false" and p.quant
local model = qlora.load(p.model, { quant = quant, double_quant = quant and quant ~= "keep" or nil })
local data = qlora.data.load(p.data, { tokenizer = model.tokenizer, format = p.format ~= "" and p.format or nil,
  template = p.template ~= "" and p.template or nil, max_length = math.min(p.max_length, model.positions) })
local training, held_out = data, nil
if p.held_out > 0 and #data > 1 then training, held_out = data:split(p.held_out) end
training:preview(1)

model:add_lora { select = p.select, rank = p.rank, alpha = p.alpha, dropout = p.dropout }
local steps = p.steps > 0 and p.steps or math.max(1, math.ceil(p.epochs * #training / p.batch))
qlora.train {
  model = model, data = training, optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr, bits = 8 }),
  schedule = qlora.schedule.warmup(math.max(1, steps // 20), qlora.schedule.cosine(steps)),
  steps = steps, batch = p.batch, micro_batch = math.min(p.micro_batch, p.batch), max_grad_norm = 1.0,
  group_by_length = true, eval_data = held_out, save_every = math.max(1, steps // 4), dir = "runs/" .. @name_value,
}
model:save_adapter(p.out)
if not qlora.native.options.smoke then -- what a rehearsal trains is of a random model
  print(("talk to it: qlora-run chat %s %s"):format(qlora.format.word(p.model), qlora.format.word(p.out)))
end
]]

local function quoted(text) return ("%q"):format(text) end

local function render(values) return (template:gsub("@([%a_]+)", values)) end

--- Whether a recipe is as this command wrote it, for whatever model and data; its first line names them.
local function is_as_written(text, file)
  local model, data, out = text:match '\n  model = (".-"), data = (".-"), out = (".-"),\n'
  if not model then return false end
  local written = render { model = "", data = "", file_word = format.word(file), model_value = model,
    data_value = data, out_value = out, name_value = '"' .. (out:match '([^/"]+)"$' or "") .. '"' }
  return text:match "\n.*" == written:match "\n.*"
end

--- Whether the adapter is there, or a run under its name has come to a checkpoint.
local function was_trained(out)
  if native.exists(out) then return true end
  local place = require "qlora.run_place"
  local dir, number = "runs/" .. out:match "[^/]+$", 1
  local candidate = dir
  while native.exists(candidate) do
    if #place.checkpoints(candidate) > 0 then return true end
    number = number + 1
    candidate = dir .. "-" .. number
  end
  return false
end

return {
  usage = "--model MODEL --data FILE [--out DIR] [--set KEY=VALUE …]", most = 0, recipe = true,
  parameters = template:match "qlora%.params (%b{})",
  flags = {
    { "--model", "MODEL", "a folder, a .gguf file, a hub name, or tiny", required = true },
    { "--data", "FILE", "records (.json, .jsonl, .csv or .tsv), or text (.txt)", required = true },
    { "--out", "DIR", "where the adapter goes; the recipe is DIR.lua", default = "out/finetune" },
  },
  run = function(o)
    local out = o.out:gsub("(.)/+$", "%1")
    local name = out:match "[^/]+$"
    if not name or name == "." or name == ".." then
      command_line.fail("train: --out %s names no folder of its own; give one such as out/finetune", format.word(o.out))
    end
    local file = out .. ".lua"
    local model = require("qlora.talk").place(o.model)
    if not native.exists(o.data) then command_line.fail("train: there is no file %s", o.data) end
    local values = { model = o.model, data = o.data, file_word = format.word(file), model_value = quoted(model),
      data_value = quoted(o.data), out_value = quoted(out), name_value = quoted(name) }
    local text = render(values)
    local existing, before = io.open(file, "rb"), nil
    if existing then
      before = existing:read "a"
      existing:close()
    end
    local is_theirs = before and before ~= text and native.place_to_read(file) == file
      and (not is_as_written(before, file) or was_trained(out))
    if is_theirs and not native.options.resume then
      command_line.fail("train: %s exists and says something else; run it, remove it, or give another --out", file)
    end
    local folder = file:match "^(.*)/[^/]+$"
    if folder then native.mkdir(folder) end
    native.write_file(file, text)
    file = native.place_to_read(file)
    if not native.options.quiet then print("recipe " .. file) end
    return file
  end,
}
