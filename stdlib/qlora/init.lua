--- qlora: 4-bit fine-tuning of language models. Tensors, models and optimizers are native; everything else here is Lua
--- to read.
local native = require "qlora.native"
local chat = require "qlora.chat"
local chat_model = require "qlora.chat_model"
local checks = require "qlora.checks"
local format = require "qlora.format"
local json = require "qlora.json"
local lora = require "qlora.lora"
local made = require "qlora.made"
local plan = require "qlora.plan"
local scripted = require "qlora.scripted"
local selection = require "qlora.selection"
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"

local qlora = {
  native = native, version = native.version, tokenizer = native.tokenizer,
  chat = chat, data = require "qlora.data", eval = require "qlora.eval",
  explore = require "qlora.explore", format = format, json = json, merge = require "qlora.merge",
  params = require "qlora.params",
  plot = require "qlora.plot", report = require "qlora.report", run = require "qlora.run",
  runs = require "qlora.runs", schedule = require "qlora.schedule",
  select = require "qlora.select", sweep = require "qlora.sweep",
  train = require "qlora.train", optim = {},
}

for _, name in ipairs {
  "tensor", "zeros", "ones", "full", "arange", "rand", "randn", "eye", "cat", "stack", "where", "einsum",
  "seed", "threads", "memory", "cpu", "ranks", "clip_grad_norm", "resource",
} do
  qlora[name] = native[name]
end

native.extend("Model",
  { add_lora = lora.add_lora, add_ia3 = lora.add_ia3, add_vera = lora.add_vera, preview_lora = lora.preview,
    plan = plan.of, add_adapter_module = scripted.add, load_adapter_module = scripted.load })
native.extend("Tokenizer", { apply_chat = chat.apply_chat })

local load_schema = strict.declare("qlora.load",
  strict.native("load_model",
    { "quant", "block", "double_quant", "compute", "device", "stream", "adapter", "pipeline", "header_only" }),
  {
    modules = { "any", "a selection whose answers may carry `quant`, over the `quant` of the whole model" },
    quiet = { "boolean", "print neither how many modules got which type nor notes about the files", default = false },
  })

load_schema.quant.hint = 'write quant = "nf4"'

--- Types of modules with a choice of their own, from the tree of a header-only (or smoke) model.
local function quantization_by_module(path, o)
  if o.modules == nil then return nil end
  local header = native.load_model(path, { smoke = o.smoke, header_only = not o.smoke or nil, quant = o.quant })
  local chosen, text = selection.quantization(header, o.modules)
  if not o.quiet and not native.options.quiet then print(text) end
  return chosen
end

--- Whether a checkpoint says that it is stored in 4 bits; how, the engine compares with the options.
local function is_stored_quantized(path)
  local found, header = pcall(native.load_model, path, { header_only = true })
  return found and header.config.quantization_config ~= nil
end

--- A model from a directory, a .gguf file or a name of the hub: "HuggingFaceTB/SmolLM2-135M-Instruct", with @REVISION
--- behind it, or "hf://ORGANISATION/NAME/FILE.gguf". What the cache lacks is fetched, but not under --plan, --smoke and
--- --sandbox. A table { name = tensor } comes from a .safetensors file. With `header_only` nothing but the
--- configuration is read: for selections and plans of models
--- that are not here; `path` may then be a config.json or a known name such as "llama-65b".
--- @param path string a directory, a .gguf or .safetensors file, or a hub name
--- @return Model the model, or a table of tensors
--- @throws when nothing is found at the path, when its architecture is not known, or when it does not fit the memory
--- @example
--- local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", double_quant = true, compute = "bf16" })
--- assert(model:module("model.layers.0.mlp.up_proj").quant == "nf4")
function qlora.load(path, options)
  if type(path) ~= "string" then
    strict.fail("qlora.load: expected a directory, a .gguf file or a hub name, got %s", strict.show(path))
  end
  local o = strict.options("qlora.load", options, load_schema)
  path = native.fetch(path, { cached = o.header_only })
  if path:match("%.safetensors$") then return native.load_tensors(path) end
  if o.quant == "keep" and (o.block or o.double_quant ~= nil) and not o.modules then
    strict.fail('qlora.load: quant = "keep" has the blocks and scales of the file; leave block and double_quant out')
  end
  if (o.block or o.double_quant ~= nil) and not o.quant and not o.modules and not is_stored_quantized(path) then
    strict.fail('qlora.load: block and double_quant say how to quantize; set quant = "nf4", "fp4" or "int4" too')
  end
  o.smoke, o.header_only = native.options.smoke or nil, native.options.plan or o.header_only
  local quiet = o.quiet or native.options.quiet
  o.module_quant, o.modules, o.quiet = quantization_by_module(path, o), nil, nil
  local model = made.note(native.load_model(path, o), { quant = o.quant, double_quant = o.double_quant, block = o.block,
    stream = o.stream, adapter = o.adapter })
  plan.last.model = model
  if model.tokenizer and not o.header_only and not o.smoke then
    model.turn_end = chat_model.turn_end(model.tokenizer)
  end
  if not quiet then
    for _, text in ipairs(model.notices or {}) do print("note: " .. text) end
  end
  if o.stream == nil and not native.options.quiet and model.streaming and model:streaming() then
    print(("base streamed from disk: its %s do not fit into %s (stream = true or false decides)"):format(
      format.bytes(model:streaming().bytes), format.bytes(native.memory().limit)))
  end
  return model
end

-- What config.json files hold besides what the engine computes with.
local unused_config = { "architectures", "initializer_range", "torch_dtype", "dtype", "transformers_version",
  "use_cache", "pad_token_id", "attention_dropout", "pretraining_tp" }

--- A key of a config table that the model made of it does not have was read by nobody.
local function check_config(given, model)
  local known = { table.unpack(unused_config) }
  for key in pairs(model.config) do known[#known + 1] = key end
  local set = {}
  for _, key in ipairs(known) do set[key] = true end
  for _, key in ipairs(strict.sorted_keys(given)) do
    if not set[key] then
      strict.fail("qlora.new_model: config.%s is read by nobody%s", tostring(key), suggest.phrase(key, known))
    end
  end
end

local new_schema = strict.declare("qlora.new_model", strict.native "new_model")

--- A randomly initialised model of a configuration, with every parameter trainable.
--- @return Model the model
--- @throws when a key of `config` is read by nobody, or one that is needed is missing
--- @example
--- local model = qlora.new_model { config = model.config, seed = 3 }
--- assert(#model:trainable() > 0)
function qlora.new_model(options)
  local o = strict.options("qlora.new_model", options, new_schema)
  o.seed = o.seed or native.options.seed or 0
  local model = native.new_model(o)
  check_config(o.config, model)
  plan.last.model = model
  return model
end

--- Writes tensors as a safetensors file.
--- @param path string the file to write
--- @param tensors table the tensors by name
--- @example
--- qlora.save("two.safetensors", { a = qlora.ones(2), b = qlora.zeros(3) })
function qlora.save(path, tensors)
  return native.save_tensors(path, tensors)
end

--- How a model gets something to train, where it has nothing.
local function beginning()
  local model = plan.last.model
  for _, set in ipairs(model and model:adapters() or {}) do
    if not set.trained then
      return ("the adapter '%s' was loaded to be used: load the model without it, and model:add_adapter(DIR, "
        .. "{ trainable = true }) trains it on"):format(set.name)
    end
  end
  return "call model:add_lora { … } first"
end

for _, name in ipairs(strict.sorted_keys(native.optim)) do
  local schema = strict.declare("qlora.optim." .. name, strict.native("optim." .. name))
  schema.lr.hint = "the learning rate, such as lr = 2e-4"
  qlora.optim[name] = function(parameters, options)
    if type(parameters) ~= "table" then
      strict.fail("optim.%s: the first argument is the list of tensors to train, model:trainable(); got %s", name,
        strict.show(parameters))
    end
    local o = strict.options("optim." .. name, options, schema)
    if o.paged == nil and (o.budget or o.spill) then
      strict.fail("optim.%s: budget and spill are those of paged state; set paged = true too", name)
    end
    if #parameters == 0 then
      strict.fail("optim.%s: there is nothing to train; %s", name, beginning())
    end
    local optimizer = native.optim[name](parameters, o)
    plan.last.optimizer = optimizer
    checks.remember(optimizer, parameters)
    local settings = { optimizer = name }
    for key, value in pairs(o) do settings[key] = value end
    return made.note(optimizer, settings)
  end
end

strict.namespace("qlora.optim", qlora.optim)

--- A misspelt name of the library is an error with the nearest right one, not a nil that fails elsewhere.
return strict.namespace("qlora", qlora)
