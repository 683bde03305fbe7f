--- Applies a selection to a model's modules and reports, rule by rule, what it matched and what it missed.
local format = require "qlora.format"
local strict = require "qlora.strict"
local select = require "qlora.select"
local suggest = require "qlora.suggest"

local selection = {}

--- The settings of an adapter that add_lora and the answers of a selection may carry.
local settings_schema = strict.native("Model:attach_lora",
  { "rank", "alpha", "dropout", "lr", "lr_ratio", "rslora", "method", "init", "niter", "tied" })
settings_schema.rank.required, settings_schema.alpha.required = nil, nil -- a rule may leave them to add_lora
settings_schema.rank.hint = "such as rank = 16"
settings_schema.dropout.hint = "it is a probability such as 0.05"
settings_schema.quant = { "boolean|string", "the module's 4-bit type, for qlora.load's `modules`; false is 16 bits",
  choices = { "nf4", "fp4", "int4", "true", "false" } }
selection.settings_schema = settings_schema

local Report = strict.class("Selection", { __name = "selection" }, {
  doc = "What a selection matched, as model:add_lora returns it; printing it shows a line for each rule.",
  receiver = "report",
  fields = {
    { "rules", "table[]", "one for each rule: text, matched, params, bytes, missed" },
    { "modules", "integer", "modules that got an adapter" },
    { "selected", "Module[]", "the modules themselves" },
    { "list", "table[]", "name, rank, alpha, dropout, … of each adapter" },
    { "trainable", "integer|nil", "trained parameters; nil in a preview" },
    { "parameters", "integer", "parameters of the model without adapters" },
    { "bytes", "integer", "bytes of the adapters in f32" },
    { "base_bytes", "integer", "bytes of the selected weights" },
    { "total", "integer", "modules of the model" },
    { "linear", "integer", "linear layers of the model" },
  },
})
Report.__index = Report

local function modules_of(model)
  local list, layers = {}, 0
  for module in model:modules() do
    list[#list + 1] = module
    if module.layer then layers = math.max(layers, module.layer + 1) end
  end
  return list, layers
end

--- Names worth showing when nothing matched: short roles first, then whole names.
local function nearest_names(wanted, modules)
  local names, seen = {}, {}
  for _, module in ipairs(modules) do
    for _, name in ipairs { module.role or module.name, module.name } do
      if not seen[name] and (module.kind == "linear" or module.kind == "embedding") then
        seen[name] = true
        names[#names + 1] = name
      end
    end
  end
  local last = wanted:match("([%w_]+)[^%w_]*$") or wanted
  local near = suggest.nearest(last, names, 3)
  if #near == 0 then table.move(names, 1, math.min(#names, 8), 1, near) end
  return table.concat(near, ", ")
end

--- How many modules each side of `a * b` matches by itself.
local function sides(selector, modules)
  local parts = {}
  for i, side in ipairs(selector.sides) do
    local count = 0
    for _, module in ipairs(modules) do
      if side.test(module) then count = count + 1 end
    end
    parts[i] = ("%s alone matches %d"):format(side, count)
  end
  return table.concat(parts, ", ")
end

local function fail_empty(rule, modules)
  if rule.wanted then
    strict.fail("selection %s matches no module%s; nearest names: %s", rule.text,
      rule.text:find("^regex") and (' (a regular expression must match the whole dotted name; for names write '
        .. '{ "%s" }%s)'):format(rule.wanted, rule.wanted:find "[^%w_.]" and "" or
        (', or "%s," as one text'):format(rule.wanted)) or "",
      nearest_names(rule.wanted, modules))
  end
  if rule.sides then
    strict.fail("selection %s matches no module: %s, but none is in both; `+` takes what is in either", rule.text,
      sides(rule, modules))
  end
  strict.fail("selection %s matches none of %d modules; linear layers here: %s", rule.text, #modules,
    nearest_names("", modules))
end

--- The step between sorted numbers when it is the same everywhere, else nil.
local function stride(numbers)
  local step = numbers[2] and numbers[2] - numbers[1]
  for i = 3, #numbers do
    if numbers[i] - numbers[i - 1] ~= step then return nil end
  end
  return step
end

--- "0-3, 7" from a sorted list of numbers, "1, 3, … 79" when they are evenly spaced.
local function ranges(numbers)
  local parts, i, step = {}, 1, stride(numbers)
  if step and step > 1 and #numbers > 4 then
    return ("%d, %d, … %d"):format(numbers[1], numbers[2], numbers[#numbers])
  end
  while i <= #numbers do
    local j = i
    while numbers[j + 1] == numbers[j] + 1 do j = j + 1 end
    parts[#parts + 1] = i == j and tostring(numbers[i]) or ("%d-%d"):format(numbers[i], numbers[j])
    i = j + 1
  end
  return table.concat(parts, ", ")
end
selection.ranges = ranges

--- Per role that a rule covers: the layers that have the role and were not selected.
local function missed_layers(matched, modules)
  local taken, roles = {}, {}
  for _, module in ipairs(matched) do
    taken[module.name] = true
    if module.layer and module.role then roles[module.role] = true end
  end
  local missed, order = {}, {}
  for _, module in ipairs(modules) do
    if module.layer and roles[module.role] and not taken[module.name] then
      if not missed[module.role] then
        missed[module.role] = {}
        order[#order + 1] = module.role
      end
      table.insert(missed[module.role], module.layer)
    end
  end
  local list, same = {}, {}
  for _, role in ipairs(order) do -- roles that miss the same layers share an entry
    local key = ranges(missed[role])
    if same[key] then
      same[key].role = same[key].role .. ", " .. role
    else
      same[key] = { role = role, layers = missed[role] }
      list[#list + 1] = same[key]
    end
  end
  return list
end

--- The settings a selection gave for `module`, over `defaults`, checked.
local function settings_of(answer, defaults, module)
  if answer ~= true and type(answer) ~= "table" then
    strict.fail("selection: %s was answered with a %s (%s); expected false, true or a table such as { rank = 8 }",
      module.name, type(answer), tostring(answer))
  end
  local merged = select.overlay(defaults, answer)
  local s = strict.options("selection of " .. module.name, merged ~= true and merged or {}, settings_schema)
  if s.quant == true then s.quant = nil end -- as the model has it
  return s
end

local function checked_settings(answer, defaults, module)
  local s = settings_of(answer, defaults or true, module)
  if not s.rank and defaults then
    strict.fail("selection: %s has no rank; write add_lora { rank = 16, … } or return { rank = 16 } from the function",
      module.name)
  end
  if s.quant ~= nil and (module.quant or false) ~= s.quant then
    strict.fail("selection: %s is loaded %s, so quant = %s comes too late; give the same selection to "
      .. "qlora.load(path, { modules = … })", module.name, module.quant and "in " .. module.quant or "in 16 or 32 bits",
      tostring(s.quant))
  end
  return { name = module.name, rank = s.rank, alpha = s.alpha or s.rank, dropout = s.dropout or 0.0, lr = s.lr,
    lr_ratio = s.lr_ratio, rslora = s.rslora, method = s.method, init = s.init, niter = s.niter,
    tied = module.kind == "embedding" and s.tied or nil }
end

--- What each rule of a selector matches and misses; a rule that matches nothing is an error.
local function matched_rules(selector, modules)
  local rules = {}
  for _, rule in ipairs(selector.rules) do
    local matched, params, bytes = {}, 0, 0
    for _, module in ipairs(modules) do
      if rule.test(module) then
        matched[#matched + 1], params, bytes = module, params + module.params, bytes + module.bytes
      end
    end
    if #matched == 0 then fail_empty(rule, modules) end
    rules[#rules + 1] = { text = rule.text, matched = #matched, pattern = rule.pattern, params = params, bytes = bytes,
      missed = missed_layers(matched, modules) }
  end
  return rules
end

--- Resolves `what` over `model`: returns the list for `attach_lora` and the report. `defaults` = { rank=, alpha=,
--- dropout=, … }; without it a preview, where adapters may have no rank yet.
function selection.resolve(model, what, defaults)
  local selector = select.from_value(what)
  local modules, layers = modules_of(model)
  local list, report = {}, setmetatable({ rules = {}, total = 0, linear = 0, parameters = 0, selected = {} }, Report)
  select.with_layers(layers, function()
    for _, module in ipairs(modules) do
      report.total, report.parameters = report.total + 1, report.parameters + module.params
      if module.kind == "linear" then report.linear = report.linear + 1 end
      local answer = selector.test(module)
      if answer then
        if module.kind ~= "linear" and module.kind ~= "embedding" then
          strict.fail('selection %s matches %s (%s), which cannot carry an adapter; add a test such as '
            .. 'm.kind == "linear"', selector.text, module.name, tostring(module.kind))
        end
        list[#list + 1] = checked_settings(answer, defaults, module)
        report.selected[#report.selected + 1] = module
      end
    end
    report.rules = matched_rules(selector, modules)
  end)
  if #list == 0 then fail_empty(selector, modules) end
  report.list, report.modules, report.base_bytes, report.bytes = list, #list, 0, 0
  for i, module in ipairs(report.selected) do
    report.base_bytes = report.base_bytes + module.bytes
    report.bytes = report.bytes + 4 * (list[i].rank or 0) * (module.in_features + module.out_features)
      + (list[i].method == "dora" and 4 * module.out_features or 0)
  end
  return list, report
end

--- Resolves the 4-bit types a selection asks for: { name = "nf4" | … | false } where an answer has `quant`, and the
--- text to print.
function selection.quantization(model, what)
  local selector = select.from_value(what)
  local modules, layers = modules_of(model)
  local chosen, counts, order, total = {}, {}, {}, 0
  select.with_layers(layers, function()
    for _, module in ipairs(modules) do
      local answer = selector.test(module)
      local quant = type(answer) == "table" and settings_of(answer, true, module).quant
      if type(answer) == "table" and quant ~= nil then
        if quant and module.kind ~= "linear" then
          strict.fail("modules: %s is of the kind %s; only linear layers are stored in 4 bits", module.name,
            module.kind)
        end
        local key = quant or "16 bits"
        if not counts[key] then counts[key], order[#order + 1] = 0, key end
        chosen[module.name], counts[key], total = quant, counts[key] + 1, total + 1
      end
    end
    matched_rules(selector, modules)
  end)
  if total == 0 then
    strict.fail("modules: no answer of %s says quant; answer { quant = false } for what stays in 16 bits",
      selector.text)
  end
  for i, key in ipairs(order) do order[i] = ("%d in %s"):format(counts[key], key) end
  return chosen, ("quantization by module: %s, the others as `quant` says"):format(table.concat(order, ", "))
end

--- One line per kind of adapter, by rank: "16 modules: rank 8 alpha 16 dropout 0.05".
local function groups(list)
  local counts, order = {}, {}
  list = { table.unpack(list) }
  table.sort(list, function(a, b)
    if a.rank ~= b.rank then return (a.rank or 0) < (b.rank or 0) end
    return a.name < b.name
  end)
  for _, entry in ipairs(list) do
    local rank = entry.rank and ("rank %d alpha %g"):format(entry.rank, entry.alpha) or "no rank yet,"
    local key = entry.text or ("%s dropout %g%s%s%s%s%s"):format(rank, entry.dropout,
      entry.lr and (" lr x %g"):format(entry.lr) or "",
      entry.lr_ratio and (" lr of B x %g"):format(entry.lr_ratio) or "",
      entry.rslora and " rslora" or "", entry.method == "dora" and " dora" or "",
      (entry.init == "pissa" or entry.init == "olora" or entry.init == "loftq" or entry.init == "eva")
        and " " .. entry.init or "")
    if not counts[key] then order[#order + 1] = key end
    counts[key] = (counts[key] or 0) + 1
  end
  for i, key in ipairs(order) do order[i] = ("  %d modules: %s"):format(counts[key], key) end
  return order
end

--- The report as text: a line per rule, a warning where a name or pattern covers only some of the layers that have the
--- role.
function Report:__tostring()
  local lines = { (self.kind or "LoRA") .. " selection" }
  for _, rule in ipairs(self.rules) do
    lines[#lines + 1] = ("  %-36s %d of %d linear layers, %s parameters, %s"):format(rule.text, rule.matched,
      self.linear, format.count(rule.params), format.bytes(rule.bytes))
    for _, missed in ipairs(rule.missed) do
      lines[#lines + 1] = ("    %s%s: not in layer%s %s"):format(rule.pattern and "WARNING: " or "", missed.role,
        #missed.layers == 1 and "" or "s", ranges(missed.layers))
    end
  end
  table.move(groups(self.list), 1, 100, #lines + 1, lines)
  if self.trainable then
    lines[#lines + 1] = ("  %s trainable parameters, %.3g %% of all, %s in f32"):format(
      format.thousands(self.trainable), 100.0 * self.trainable / math.max(self.trainable + self.parameters, 1),
      format.bytes(self.bytes))
  end
  return table.concat(lines, "\n")
end

return selection
