--- Applies a selection to a model's modules and reports, rule by rule, what it matched and what it missed.
local strict = require "qlora.strict"
local select = require "qlora.select"
local suggest = require "qlora.suggest"

local selection = {}

local settings_schema = {
  rank = "count", alpha = "positive", dropout = "number", lr = "positive", rslora = "boolean", dora = "boolean",
  init = "string",
}
selection.settings_schema = settings_schema

local Report = { __name = "selection" }
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

local function fail_empty(rule, modules)
  if rule.wanted then
    strict.fail("selection %s matches no module%s; nearest names: %s", rule.text,
      rule.text:find("^regex") and " (a regular expression must match the whole dotted name)" or "",
      nearest_names(rule.wanted, modules))
  end
  strict.fail("selection %s matches none of %d modules; linear layers here: %s", rule.text, #modules,
    nearest_names("", modules))
end

--- "0-3, 7" from a sorted list of numbers.
local function ranges(numbers)
  local parts, i = {}, 1
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
  local list = {}
  for _, role in ipairs(order) do list[#list + 1] = { role = role, layers = missed[role] } end
  return list
end

local function checked_settings(answer, defaults, module)
  if answer ~= true and type(answer) ~= "table" then
    strict.fail("selection: %s was answered with a %s; expected false, true or a table", module.name, type(answer))
  end
  local merged = select.overlay(defaults, answer)
  local s = strict.options("selection of " .. module.name, merged ~= true and merged or {}, settings_schema)
  if not s.rank then strict.fail("selection: %s has no rank; give add_lora a rank or return one", module.name) end
  if s.dropout and (s.dropout < 0 or s.dropout >= 1) then
    strict.fail("selection: dropout of %s must be at least 0 and below 1, got %s", module.name, s.dropout)
  end
  return { name = module.name, rank = s.rank, alpha = s.alpha or s.rank, dropout = s.dropout or 0.0, lr = s.lr,
    rslora = s.rslora, dora = s.dora, init = s.init }
end

--- Resolves `what` over `model`: returns the list for `attach_lora` and the report. `defaults` = { rank=, alpha=,
--- dropout=, … }.
function selection.resolve(model, what, defaults)
  local selector = select.from_value(what)
  local modules, layers = modules_of(model)
  local list, report = {}, setmetatable({ rules = {}, total = 0, linear = 0, selected = {} }, Report)
  select.with_layers(layers, function()
    for _, module in ipairs(modules) do
      report.total = report.total + 1
      if module.kind == "linear" then report.linear = report.linear + 1 end
      local answer = selector.test(module)
      if answer then
        if module.kind ~= "linear" and module.kind ~= "embedding" then
          strict.fail("selection %s matches %s (%s), which cannot carry LoRA; add a test such as m.kind == \"linear\"",
            selector.text, module.name, tostring(module.kind))
        end
        list[#list + 1] = checked_settings(answer, defaults, module)
        report.selected[#report.selected + 1] = module
      end
    end
    for _, rule in ipairs(selector.rules) do
      local matched = {}
      for _, module in ipairs(modules) do
        if rule.test(module) then matched[#matched + 1] = module end
      end
      if #matched == 0 then fail_empty(rule, modules) end
      report.rules[#report.rules + 1] = { text = rule.text, matched = #matched, pattern = rule.pattern,
        missed = missed_layers(matched, modules) }
    end
  end)
  if #list == 0 then fail_empty(selector, modules) end
  report.list, report.modules = list, #list
  return list, report
end

--- The report as text: a line per rule, a warning where a name or pattern covers only some of the layers that have the
--- role.
function Report:__tostring()
  local lines = {}
  for _, rule in ipairs(self.rules) do
    lines[#lines + 1] = ("  %-36s %d of %d linear layers"):format(rule.text, rule.matched, self.linear)
    for _, missed in ipairs(rule.missed) do
      lines[#lines + 1] = ("    %s%s: not in layer%s %s"):format(rule.pattern and "WARNING: " or "", missed.role,
        #missed.layers == 1 and "" or "s", ranges(missed.layers))
    end
  end
  local ranks, order = {}, {}
  for _, entry in ipairs(self.list) do
    local key = ("rank %d alpha %g dropout %g"):format(entry.rank, entry.alpha, entry.dropout)
    if not ranks[key] then order[#order + 1] = key end
    ranks[key] = (ranks[key] or 0) + 1
  end
  for _, key in ipairs(order) do lines[#lines + 1] = ("  %d modules: %s"):format(ranks[key], key) end
  if self.trainable then lines[#lines + 1] = ("  %d trainable parameters"):format(self.trainable) end
  return "LoRA selection\n" .. table.concat(lines, "\n")
end

return selection
