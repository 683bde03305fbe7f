--- `model:add_lora { select = …, rank = … }`: resolves the selection, attaches the adapters and prints what matched.
local native = require "qlora.native"
local strict = require "qlora.strict"
local selection = require "qlora.selection"

local lora = {}

local schema = strict.declare("model:add_lora", selection.settings_schema, {
  select = { "any", "a function of the module, a list of names, \"all-linear\" or a qlora.select helper",
    required = true, hint = 'such as select = "all-linear", { "q_proj", "v_proj" } or a function of the module' },
  name = { "string", "what the adapter is called among others of the model", default = "default" },
  bias = { "string", "biases of the base that are trained too: of all modules, or of those with an adapter",
    default = "none", choices = { "none", "all", "lora_only" } },
  modules_to_save = { "table", "names, or their ends, of modules that are trained as a whole and saved with the "
    .. "adapters, such as lm_head", optional = true },
  tokens = { "table", "ids of tokens whose rows of the embedding are trained too, as model:train_tokens does",
    optional = true },
  eva = { "table", "of init = \"eva\": data, a data set that goes through the model, and the options of attach_eva",
    optional = true,
    hint = "such as eva = { data = data, rho = 2 }" },
  quiet = { "boolean", "do not print the report", default = false },
})

local eva_schema = strict.native("Model:attach_eva",
  { "batch", "rho", "tau", "trained_only", "whiten", "adjust_scaling", "batches" })
eva_schema.data = { "any", "a data set, as qlora.data.load makes", required = true, hint = "as qlora.data.load makes" }

--- The ranks as they became, for the report.
local function ranks_after(model, list, report)
  local left = {}
  report.bytes = 0
  for _, entry in ipairs(list) do
    local module = model:module(entry.name)
    local adapter = module.adapter
    if adapter then
      entry.rank, entry.alpha = adapter.rank, adapter.alpha
      left[#left + 1] = entry
      report.bytes = report.bytes + 4 * adapter.rank * (module.in_features + module.out_features)
    end
  end
  report.list, report.modules = left, #left
end

--- LoRA that starts with what goes through the model.
local function attach_eva(model, list, o, report)
  for _, entry in ipairs(list) do
    if entry.init ~= "eva" then
      strict.fail('add_lora: init = "eva" is for all modules of one call, and %s has init = "%s"', entry.name,
        entry.init or "default")
    end
  end
  local e = strict.options("add_lora: eva", o.eva or {}, eva_schema)
  local samples = type(e.data) == "table" and rawget(e.data, "samples")
  if not samples then strict.fail("add_lora: eva.data must be a data set, as qlora.data.load makes") end
  e.data = nil
  local count = model:attach_eva(list, samples, e, o.name)
  ranks_after(model, list, report)
  return count
end

--- `tied` of all is for the embedding among them.
local function check_tied(list, defaults)
  if type(defaults) ~= "table" or not defaults.tied then return end
  for _, entry in ipairs(list) do
    if entry.tied then return end
  end
  strict.fail 'add_lora: tied = true is for an embedding, and none is selected; select = { "embed_tokens" } does'
end

--- Adds trainable low-rank adapters to the selected modules. Settings that a selection answers win over those given
--- here.
--- @return Selection what matched; printing it shows the table
--- @throws when a rule matches no module, when a module is not linear or has no rank, or when it has an adapter
---   already
--- @example
--- model:remove_adapters()
--- local report = model:add_lora { select = qlora.select.mlp(), rank = 8, alpha = 16, dropout = 0.05 }
--- assert(report.modules > 0)
function lora.add_lora(model, options)
  if options == nil and type(model) == "table" and not model.modules then
    strict.fail("add_lora: call it with a colon, model:add_lora { … }; with a dot it gets no model")
  end
  local o = strict.options("add_lora", options, schema)
  local defaults = {}
  for key in pairs(selection.settings_schema) do defaults[key] = o[key] end
  local list, report = selection.resolve(model, o.select, defaults)
  check_tied(list, defaults)
  for _, id in ipairs(o.tokens or {}) do
    if not math.tointeger(id) or id < 0 or id >= model.config.vocab_size then
      strict.fail("add_lora: tokens: there is no token %s", strict.show(id))
    end
  end
  local has_eva = o.eva ~= nil
  for _, entry in ipairs(list) do has_eva = has_eva or entry.init == "eva" end
  report.trainable = has_eva and attach_eva(model, list, o, report) or model:attach_lora(list, o.name)
  local attached = {}
  for i, entry in ipairs(list) do attached[i] = entry.name end
  --- Trains what the call asks for besides. Where that fails, the call has added nothing.
  local function besides(method, ...)
    local ok, count = pcall(model[method], model, ...)
    if not ok then
      model:remove_adapters(o.name, attached)
      error(count, 0)
    end
    report.trainable, report.bytes = report.trainable + count, report.bytes + 4 * count
  end
  if o.tokens then
    besides("train_tokens", o.tokens, { name = o.name })
    for module in model:modules() do
      if module.kind == "embedding" then attached[#attached + 1] = module.name end
    end
  end
  if o.modules_to_save or o.bias and o.bias ~= "none" then besides("train_parts", o.modules_to_save or {}, o.bias) end
  if not o.quiet and not native.options.quiet then print(report) end
  return report
end

local ia3_schema = strict.declare("model:add_ia3", strict.native("Model:attach_ia3", { "lr" }), {
  select = { "any", "a function of the module, a list of names or a qlora.select helper", required = true,
    hint = 'such as select = { "k_proj", "v_proj", "down_proj" }' },
  feedforward = { "table", "last names of the modules whose inputs are scaled, as PEFT's feedforward_modules; "
    .. "default down_proj", optional = true },
  name = { "string", "what the adapter is called among others of the model", default = "default" },
  quiet = { "boolean", "do not print the report", default = false },
})

--- Adds trained factors to the selected modules, one for each output, or for each input of a feed-forward module:
--- (IA)³. They start at 1.
--- @return Selection what matched; printing it shows the table
--- @throws when a rule matches no module, when a module is not linear, or when it has an adapter already
--- @example
--- model:remove_adapters()
--- local report = model:add_ia3 { select = { "k_proj", "v_proj", "down_proj" } }
--- assert(report.trainable > 0)
function lora.add_ia3(model, options)
  local o = strict.options("add_ia3", options, ia3_schema)
  local inputs, list = {}, {}
  for _, name in ipairs(o.feedforward or { "down_proj" }) do inputs[name] = true end
  local _, report = selection.resolve(model, o.select)
  for i, module in ipairs(report.selected) do
    local feedforward = inputs[module.role] or false
    list[i] = { name = module.name, feedforward = feedforward, lr = o.lr }
    report.list[i] = { name = module.name,
      text = feedforward and "a factor for each input" or "a factor for each output" }
  end
  report.kind, report.trainable = "(IA)³", model:attach_ia3(list, o.name)
  report.bytes = 4 * report.trainable
  if not o.quiet and not native.options.quiet then print(report) end
  return report
end

local vera_schema = strict.declare("model:add_vera",
  strict.native("Model:attach_vera", { "rank", "dropout", "d_initial", "key", "save_projection" }), {
    lr = { "positive", "factor on the optimizer's learning rate", optional = true },
    select = { "any", "a function of the module, a list of names or a qlora.select helper", required = true,
      hint = 'such as select = "all-linear"' },
    name = { "string", "what the adapter is called among others of the model", default = "default" },
    quiet = { "boolean", "do not print the report", default = false },
  })

--- Adds two trained vectors to each selected module, between random matrices that all of them share and that are not
--- trained: VeRA. The rank is larger than that of LoRA, such as 256.
--- @return Selection what matched; printing it shows the table
--- @throws when a rule matches no module, when a module is not linear, or when it has an adapter already
--- @example
--- model:remove_adapters()
--- local report = model:add_vera { select = { "q_proj", "v_proj" }, rank = 32 }
--- assert(report.trainable > 0)
function lora.add_vera(model, options)
  local o = strict.options("add_vera", options, vera_schema)
  local list = {}
  local _, report = selection.resolve(model, o.select)
  for i, module in ipairs(report.selected) do
    list[i] = { name = module.name, lr = o.lr }
    report.list[i] = { name = module.name, text = ("rank %d of shared random matrices"):format(o.rank) }
  end
  report.kind = "VeRA"
  report.trainable = model:attach_vera(list, { rank = o.rank, dropout = o.dropout, d_initial = o.d_initial, key = o.key,
    save_projection = o.save_projection }, o.name)
  report.bytes = 4 * report.trainable
  if not o.quiet and not native.options.quiet then print(report) end
  return report
end

--- What a selection would match, without attaching anything.
--- @param what any a selection, as for add_lora
--- @param defaults? table settings as add_lora takes them, such as { rank = 8 }
--- @return Selection what would match
--- @throws when a rule matches no module
--- @example assert(model:preview_lora({ "up_proj" }, { rank = 4 }).modules > 0)
function lora.preview(model, what, defaults)
  local _, report = selection.resolve(model, what, defaults)
  return report
end

return lora
