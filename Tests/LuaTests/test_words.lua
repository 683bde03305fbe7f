--- Words of PEFT, transformers, TRL, axolotl and Python, answered with what to write.
local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"
local python = require "qlora.python"
local suggest = require "qlora.suggest"
local words = require "qlora.foreign_words"

t.test("a word with the same meaning keeps its value, another is answered with one", function()
  for _, case in ipairs {
    { { num_train_epochs = 3 }, 'here it is called "epochs": write epochs = 3' },
    { { gradient_clipping = 0.5 }, "write max_grad_norm = 0.5" },
    { { output_dir = "out/x" }, 'write dir = "out/x"' },
    { { per_device_train_batch_size = 4 }, "write micro_batch = 4, and batch = 16 for the samples of a whole step" },
    { { lr_scheduler_type = "cosine" }, "write schedule = qlora.schedule.cosine(steps)" },
    { { eval_strategy = "steps" }, "write eval_every = 50" },
    { { report_to = "wandb" }, 'write dir = "runs/NAME", which has TensorBoard files' },
    { { dataset_text_field = "text" }, 'write map = { text = "FIELD" }, format = "completion"' },
    { { val_set_size = 0.1 }, "data:split(0.05)" },
  } do t.raises(function() qlora.train(case[1]) end, "test_words.lua:", case[2]) end
  t.raises(function() qlora.load("m", { quant = true }) end, 'no choice true; write quant = "nf4"')
  t.raises(function() qlora.load("m", { quant = "4bit" }) end, 'no choice "4bit"; write "nf4"')
  t.equal(suggest.choice("bfloat16", { "auto", "bf16", "f32" }), '; write "bf16"')
  t.raises(function() qlora.data.load({}, { cutoff_len = 8 }) end, "write max_length = 8")
  local model = native.mock_model()
  t.raises(function() model:add_lora { r = 8, lora_alpha = 16, target_modules = "all-linear" } end, "write rank = 8",
    "write alpha = 16", 'write select = { "q_proj", "v_proj" }')
end)

t.test("names of other libraries lead to ours", function()
  t.raises(function() return qlora.AutoModelForCausalLM end, 'write qlora.load "NAME OR DIRECTORY"')
  t.raises(function() return qlora.SFTTrainer end, "write qlora.train {")
  t.raises(function() return qlora.schedule.get_cosine_schedule_with_warmup end, "write qlora.schedule.warmup(10, ")
  -- What native errors ask: a field has no list of what is possible, an option has one.
  local generate = { "max_new_tokens", "temperature", "top_k", "stop", "on_text" }
  t.equal(suggest.foreign("max_tokens", generate), '; here it is called "max_new_tokens": write max_new_tokens = 128')
  -- What is switched off is not answered with what switches it on, and a value stays what it is.
  t.equal({ suggest.foreign("gradient_checkpointing", { "checkpointing" }, "false"),
    suggest.foreign("use_dora", { "method" }, "false"), suggest.foreign("learning_rate", { "lr" }, "0.0001") },
    { "; write checkpointing = false", "; leave it out: that is so without it",
      '; here it is called "lr": write lr = 0.0001' })
  -- Options are nothing by themselves.
  t.equal({ suggest.foreign("packing", {}), suggest.foreign("messages", {}) }, {})
  t.equal(suggest.foreign("do_sample", generate),
    "; write temperature = 0.7 to draw, temperature = 0 for the likeliest token")
  t.equal(suggest.foreign("save_pretrained", {}),
    '; write model:save_adapter "DIR" for the adapter, model:save "DIR" for the whole model')
  t.equal({ suggest.foreign("pad_token_id", {}), suggest.foreign("pad_token_id", generate) },
    { "; write .pad", "; leave it out: there is no padding here" })
  t.equal({ suggest.foreign("None", {}), suggest.foreign("True", {}) }, { "; write nil", "; write true" })
  t.equal({ suggest.foreign("temperature", generate), suggest.foreign("rnak", {}) }, {}) -- known here, or nowhere
end)

t.test("no word is sent to itself, and what is left out is not renamed", function()
  for name, here in pairs(words.names) do
    assert(name ~= here, name)
    local value = words.values[name]
    assert(type(value) ~= "string" or not value:find "^nothing", name .. " is renamed and left out")
  end
end)

t.test("a line of Python is answered in Lua", function()
  for line, wanted in pairs {
    ["import torch"] = 'local qlora = require "qlora"', ["from peft import LoraConfig"] = 'require "qlora"',
    ["print x"] = "write print(x)", ["if x != 3 then end"] = "write ~= for !=", ["x += 1"] = "write x = x + 1",
    ["i++"] = "write x = x + 1", ["f(a=1)"] = "f(x, { name = value })", ["def f(x):"] = "local function name",
    ["for i in range(10): pass"] = "for i = 1, n do", ["for x in list:"] = "ipairs(list)",
    ["x = [1, 2, 3]"] = "a list as { 1, 2 }", ['x = {"a": 1}'] = "{ name = value }",
    ["x = {a: 1}"] = "{ name = value }", ["if x is None: pass"] = "write == nil",
    ["y = x if x is not None else 3"] = "write ~= nil", ["f = lambda x: x"] = "function(x) return",
    ["// a comment"] = "comment behind --", ["# a comment"] = "comment behind --", ["if a:"] = "then … end",
    ["elif x then end"] = "elseif", ["if a && b then end"] = "write and", ["if a || b then end"] = "write or",
    ["while x:"] = "while condition do", ["try:"] = "pcall", ["if !x then end"] = "write not",
    ["with open(x) as f:"] = "has no with", ["class A:"] = "tables", ["assert x == 3"] = "assert(condition)",
    ["train(model, steps=3)"] = "f(x, { name = value })", ["x = a ? b : c"] = false, ["x = = 3"] = false,
    ["local t = { a = [[text]], b == }"] = false, ["if x = 1 then end"] = "write == to compare",
    ["elif a:"] = "elseif b then", ['print(f"{d["a"]}")'] = '("%d steps"):format(n)',
    -- Slips of Lua are not taken for Python: what a string or a comment holds, indices, two statements.
    ['print("Done! (all)"'] = false, ['local s = "a != b" .. .. "c"'] = false, ['print(("%f"):format(x)'] = false,
    ["local t = { [1] = 2 ) }"] = false, ["print(x) y = = 2"] = false, ["local x = = 3 -- a += b"] = false,
    ["local t = f(function() local a = 1 end) )"] = false, ["f({ a = 1 } b)"] = false,
  } do
    local chunk, message = load(line, "=recipe.lua")
    assert(not chunk, line .. " is Lua")
    local said = python(message, line)
    t.equal(said:sub(1, #message), message)
    if wanted then assert(said:sub(#message + 1):find(wanted, 1, true), line .. " -> " .. said)
    else t.equal(said, message) end
  end
  t.equal(python("stdin:1: unexpected symbol near '<\\195>'", "local grün = 1"),
    "stdin:1: unexpected symbol near '<\\195>'; names have the letters a to z, digits and _")
  t.raises(function() error(python(select(2, pcall(load 'return "a" + "b"'))), 0) end, "texts are joined with ..")
end)

t.test("a block of Python is found above the line that Lua names", function()
  for source, wanted in pairs {
    ["local n = 3\nfor i in range(10):\n    print(i)\n"] = "line 2: write for i = 1, n do",
    ["while True:\n    f(1)\n    g(2)\n"] = "line 1: write while condition do",
    ["for i = 1, 3 do\n  print(i)\n"] = false,
  } do
    local _, message = load(source, "=recipe.lua")
    local said = python(message, source)
    if wanted then assert(said:find(wanted, 1, true), said) else t.equal(said, message) end
  end
end)

t.test("a text with f in front is a call, of which nobody knows the name", function()
  local message = "recipe.lua:2: undeclared global 'f'; is it misspelt? Declare variables with local"
  t.equal(python(message, "\nprint(f\"loss {x}\")"),
    "recipe.lua:2: undeclared global 'f'; write (\"%d steps\"):format(n) for f\"{n} steps\"")
  t.equal(python(message, "\nprint(f(x))"), message)
end)

t.test("words are answered for what they are: a value, an option here or elsewhere, a name", function()
  t.equal(suggest.choice("float16", { "auto", "bf16", "f32" }), '; write "bf16"')
  t.raises(function() qlora.load("m", { float16 = true }) end, 'write compute = "bf16"')
  t.equal({ suggest.foreign("float16", {}) }, { '; write "bf16"' })
  t.raises(function() qlora.train { lora_alpha = 16 } end,
    "here it is called \"alpha\", an option of model:add_lora")
  t.raises(function() qlora.train { sample_packing = true } end, "leave it out: samples are always packed")
  t.raises(function() qlora.data.load({}, { max_seq_len = 8 }) end, 'it is called "max_length": write max_length = 8')
  t.raises(function() qlora.train { max_seq_len = 8 } end, "max_length = 1024 of qlora.data.load")
  t.equal(suggest.choice("rslora", { "lora", "dora" }), '; write "lora", and rslora = true beside it')
  for name, wanted in pairs { resize_token_embeddings = "keeps its size", merge_adapter = "model:merge()",
    DataCollatorForLanguageModeling = "packed without padding" } do
    assert(suggest.foreign(name, {}):find(wanted, 1, true), name)
  end
end)

t.test("of several unknown options the valid ones are listed once", function()
  local _, message = pcall(qlora.train, { rnakk = 8, foooo = 1, bar = 2 })
  local _, count = message:gsub("valid:", "")
  t.equal(count, 1)
  assert(message:find("unknown option 'foooo'; unknown option 'rnakk'; valid: batch, ", 1, true), message)
end)

t.test("the line is read from the file that the message names", function()
  local path = os.tmpname()
  local file <close> = assert(io.open(path, "w"))
  file:write("local x = 1\r\n\r\nprint x\r\n")
  file:flush()
  t.equal(python(path .. ":3: syntax error near 'x'"), path .. ":3: syntax error near 'x'; write print(x)")
  t.equal(python(path .. ":1: syntax error near 'x'"), path .. ":1: syntax error near 'x'")
  t.equal(python("nowhere.lua:3: syntax error near 'x'"), "nowhere.lua:3: syntax error near 'x'")
  t.equal(python "no word about a line", "no word about a line")
  os.remove(path)
end)
