-- Common mistakes, each made once: what a researcher reads when it happens. MistakesTests compares the whole text with
-- golden/mistakes.txt; after a deliberate change write it anew with `make mistakes`.
local qlora = require "qlora"

qlora.native.options.quiet = true
local root = qlora.resource "models/tiny"
local number = 0

--- Makes one mistake; the message goes out with the number and what was meant.
local function mistake(meant, body)
  number = number + 1
  local ok, message = pcall(body)
  -- the folder of the cache differs from machine to machine
  message = ok and "NO ERROR" or tostring(message):gsub("looked in %S+/models%-%-", "looked in …/models--")
  print(("%d. %s\n   %s"):format(number, meant, message))
end

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end
write("empty.gguf", "this is not a model")
write("broken.jsonl", '{"instruction": "Add 1 and 1.", "output": "2"}\n{"instruction": "Add 2 and 2.", "output": 4')
write("chat.jsonl", '{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}\n')

local model = qlora.load(root, { quant = "nf4" })
local records = {}
for i = 1, 8 do records[i] = { instruction = "Say " .. i, output = "It is " .. i } end
local data = qlora.data.load(records, { format = "alpaca", tokenizer = model.tokenizer, max_length = 128 })
local attention = qlora.select.attention()

--- A model with adapters, and what trains it.
local function ready(lr)
  local fresh = qlora.load(root, { quant = "nf4" })
  fresh:add_lora { select = "all-linear", rank = 2 }
  return fresh, qlora.optim.adamw(fresh:trainable(), { lr = lr or 1e-3 })
end

-- Loading
mistake("a misspelt option", function() qlora.load(root, { qant = "nf4" }) end)
mistake("an option of the training loop", function() qlora.load(root, { quant = "nf4", checkpointing = true }) end)
mistake("an option as bitsandbytes calls it", function() qlora.load(root, { load_in_4bit = true }) end)
mistake("a quantization type that does not exist", function() qlora.load(root, { quant = "nf5" }) end)
mistake("double quantization of nothing", function() qlora.load(root, { double_quant = true }) end)
mistake("a block size that does not exist", function() qlora.load(root, { quant = "nf4", block = 100 }) end)
mistake("a compute type that does not exist", function() qlora.load(root, { quant = "nf4", compute = "fp16" }) end)
mistake("a folder that is not there", function() qlora.load "models/llama" end)
mistake("a file that is no model", function() qlora.load "empty.gguf" end)
mistake("a hub name that was never downloaded", function() qlora.load "HuggingFaceTB/SmolLM2-9B" end)
mistake("a variable that is nil", function() qlora.load(nil, { quant = "nf4" }) end)
mistake("a function of the library that does not exist", function() qlora.laod(root) end)

-- Selecting
mistake("a dot instead of a colon", function() model.add_lora { select = "all-linear", rank = 8 } end)
mistake("a selection as PEFT calls it", function() model:add_lora { target_modules = { "q_proj" }, r = 8 } end)
mistake("no selection at all", function() model:add_lora { rank = 8 } end)
mistake("no rank", function() model:add_lora { select = "all-linear" } end)
mistake("a rank in quotes", function() model:add_lora { select = "all-linear", rank = "16" } end)
mistake("a rank of zero", function() model:add_lora { select = "all-linear", rank = 0 } end)
mistake("a dropout in percent", function() model:add_lora { select = "all-linear", rank = 8, dropout = 5 } end)
mistake("a name that matches nothing", function() model:add_lora { select = { "q_prj" }, rank = 8 } end)
mistake("a name meant as a pattern", function() model:add_lora { select = "q_proj", rank = 8 } end)
mistake("a pattern that does not parse", function() model:add_lora { select = "(q|v_proj", rank = 8 } end)
mistake("counting layers from one", function()
  model:add_lora { select = qlora.select.layers { only = { 1, 2, 3, 4, 5 } }, rank = 8 }
end)
mistake("a helper that does not exist", function() model:add_lora { select = qlora.select.atention(), rank = 8 } end)
mistake("two rules that exclude each other", function()
  model:add_lora { select = attention * qlora.select.mlp(), rank = 8 }
end)
mistake("a layer number where there is none", function()
  model:add_lora { select = function(m) return m.kind == "linear" or m.layer > 2 end, rank = 8 }
end)
mistake("norms among the selected", function()
  model:add_lora { select = function(m) return m.layer == 3 end, rank = 8 }
end)
mistake("an answer that is no answer", function()
  model:add_lora { select = function(m) return m.role == "q_proj" and "yes" end, rank = 8 }
end)
mistake("a misspelt setting in an answer", function()
  model:add_lora { select = function(m) return m.role == "q_proj" and { rnak = 4 } end }
end)
mistake("quantization chosen after loading", function()
  model:add_lora { select = attention:with { quant = false }, rank = 8 }
end)
mistake("adapters on top of adapters", function()
  local fresh = ready()
  fresh:add_lora { select = { "q_proj" }, rank = 4 }
end)
mistake("a module that does not exist", function() return model:module "model.layers.0.self_attn.qproj" end)
mistake("a field of a module that does not exist", function() return model:module "model.norm".layers end)

-- Data
mistake("a data file that is not there", function()
  qlora.data.load("train.jsonl", { format = "alpaca", tokenizer = model.tokenizer })
end)
mistake("a misspelt format", function()
  qlora.data.load(records, { format = "alpcaa", tokenizer = model.tokenizer })
end)
mistake("the format of other data", function()
  qlora.data.load("chat.jsonl", { format = "alpaca", tokenizer = model.tokenizer })
end)
mistake("a line that is cut off", function()
  qlora.data.load("broken.jsonl", { format = "alpaca", tokenizer = model.tokenizer })
end)
mistake("no tokenizer", function() qlora.data.load(records, { format = "alpaca" }) end)
mistake("a length below that of the prompt", function()
  qlora.data.load(records, { format = "alpaca", tokenizer = model.tokenizer, max_length = 16 })
end)
mistake("a format function that returns text", function()
  qlora.data.load(records, { format = function(r) return r.output end, tokenizer = model.tokenizer })
end)
mistake("a misspelt key of a span", function()
  qlora.data.load(records, {
    format = function(r) return { { text = r.instruction }, { text = r.output, trian = true } } end,
    tokenizer = model.tokenizer,
  })
end)
mistake("a misspelt key of a row", function() qlora.data.batch { { ids = { 1, 2 }, lables = { -100, 2 } } } end)
mistake("a row where a batch is expected", function() model:loss(data[1]) end)
mistake("a token id of another tokenizer", function() model:logits { 1, 50256 } end)
mistake("a sample, counted from zero", function() return data[0] end)
mistake("a row of a matrix, counted from zero", function() return qlora.ones(2, 2)[0] end)

-- Training
mistake("an optimizer before the adapters", function() qlora.optim.adamw(model:trainable(), { lr = 1e-3 }) end)
mistake("an optimizer without a rate", function()
  local fresh = ready()
  qlora.optim.adamw(fresh:trainable(), {})
end)
mistake("a rate in quotes", function()
  local fresh = ready()
  qlora.optim.adamw(fresh:trainable(), { lr = "1e-4" })
end)
mistake("the whole model as parameters", function() qlora.optim.adamw(model, { lr = 1e-3 }) end)
mistake("16-bit optimizer state", function()
  local fresh = ready()
  qlora.optim.adamw(fresh:trainable(), { lr = 1e-3, bits = 16 })
end)
mistake("a model that is nil", function()
  local _, optimizer = ready()
  qlora.train { model = nil, data = data, optimizer = optimizer, steps = 1 }
end)
mistake("an option as transformers calls it", function()
  local fresh, optimizer = ready()
  qlora.train { model = fresh, data = data, optimizer = optimizer, max_steps = 1 }
end)
mistake("a micro-batch larger than the batch", function()
  local fresh, optimizer = ready()
  qlora.train { model = fresh, data = data, optimizer = optimizer, steps = 1, batch = 4, micro_batch = 8 }
end)
mistake("steps and epochs", function()
  local fresh, optimizer = ready()
  qlora.train { model = fresh, data = data, optimizer = optimizer, steps = 1, epochs = 3 }
end)
mistake("a schedule by name", function()
  local fresh, optimizer = ready()
  qlora.train { model = fresh, data = data, optimizer = optimizer, steps = 1, schedule = "cosine" }
end)
mistake("evaluation of nothing", function()
  local fresh, optimizer = ready()
  qlora.train { model = fresh, data = data, optimizer = optimizer, steps = 1, eval_every = 10 }
end)
mistake("adapters added after the optimizer was made", function()
  local fresh, optimizer = ready()
  fresh:remove_adapters()
  fresh:add_lora { select = attention, rank = 4 }
  qlora.train { model = fresh, data = data, optimizer = optimizer, steps = 1, batch = 4 }
end)
mistake("a rate a million times too high", function()
  local fresh, optimizer = ready(1e30)
  qlora.train { model = fresh, data = data, optimizer = optimizer, steps = 4, batch = 4, micro_batch = 4 }
end)
mistake("a misspelt parameter", function()
  local p = qlora.params { rank = 16, alpha = 32 }
  return p.ranks
end)
mistake("a misspelt variable", function() return modle end)

-- Afterwards
mistake("saving what was never added", function() model:save_adapter "out" end)
mistake("options for a function that takes none", function() model:save_adapter("out", { safe = true }) end)
mistake("an adapter that is not there", function() model:add_adapter "out/first" end)
mistake("an option of generate as transformers calls it", function() model:generate("Mia", { max_tokens = 8 }) end)
mistake("generating with a dot", function() return model.generate("Mia") end)
mistake("sampling as transformers calls it", function() model:generate("Mia", { do_sample = true, top_k = 5 }) end)
mistake("saving as transformers calls it", function() model:save_pretrained "out" end)
mistake("merging as PEFT calls it", function() model:merge_and_unload() end)
mistake("the end of a text as transformers calls it", function() return model.tokenizer.eos_token_id end)
mistake("a batch as transformers calls it", function() qlora.train { per_device_train_batch_size = 4 } end)
mistake("a schedule as transformers calls it", function() qlora.train { lr_scheduler_type = "cosine" } end)
mistake("4 bits as a flag", function() qlora.load(root, { quant = true }) end)
mistake("a class of transformers", function() return qlora.AutoModelForCausalLM end)
mistake("nothing as Python calls it", function() return None end)
