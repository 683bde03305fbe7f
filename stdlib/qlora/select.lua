--- Which modules get an adapter. A selector is called with a module and answers false, true or a table of settings;
--- `a * b` means both, `a + b` either (the left one's settings win), `a - b` the left without the right.
local native = require "qlora.native"
local strict = require "qlora.strict"

local select = {}
local Selector = strict.class("Selector", { __name = "selector" }, {
  doc = "A selection of modules: called with a module it answers false, true or a table of settings. `a * b` means "
    .. "both, `a + b` either (the left one's settings win), `a - b` the left without the right.", receiver = "selector",
  fields = { { "text", "string", "what reports call it" } },
})
Selector.__index = Selector

local function new(text, test, rules)
  local self = setmetatable({ text = text, test = test }, Selector)
  self.rules = rules or { self }
  return self
end

function Selector:__call(module) return self.test(module) end
function Selector:__tostring() return self.text end

--- The same selector with settings for what it selects.
--- @param settings table rank, alpha, dropout, lr, rslora, init or quant
--- @return Selector the selector with settings
--- @example
--- local selector = qlora.select.mlp():with { rank = 8, lr = 0.5 }
--- assert(selector(model:module "model.layers.0.mlp.up_proj").rank == 8)
function Selector:with(settings)
  return new(self.text, function(module)
    local answer = self.test(module)
    if not answer then return false end
    return select.overlay(answer, settings)
  end)
end

--- Settings of `top` over those of `bottom`.
--- @param bottom table|boolean settings, or true for none
--- @param top table|boolean settings, or true for none
--- @return table|boolean the settings of both, or true for none
--- @example assert(qlora.select.overlay({ rank = 4, alpha = 8 }, { rank = 2 }).rank == 2)
function select.overlay(bottom, top)
  local merged = {}
  for _, settings in ipairs { bottom, top } do
    if type(settings) == "table" then
      for key, value in pairs(settings) do merged[key] = value end
    end
  end
  return next(merged) and merged or true
end

local is_selector, from_value

function Selector.__mul(a, b)
  a, b = from_value(a), from_value(b)
  local self = new(("(%s * %s)"):format(a, b), function(module)
    local first = a.test(module)
    if not first then return false end
    local second = b.test(module)
    return second and select.overlay(first, second) or false
  end)
  self.sides = { a, b }
  return self
end

function Selector.__add(a, b)
  a, b = from_value(a), from_value(b)
  local rules = {}
  for _, side in ipairs { a, b } do table.move(side.rules, 1, #side.rules, #rules + 1, rules) end
  return new(("(%s + %s)"):format(a, b), function(module) return a.test(module) or b.test(module) end, rules)
end

function Selector.__sub(a, b)
  a, b = from_value(a), from_value(b)
  return new(("(%s - %s)"):format(a, b), function(module) return not b.test(module) and a.test(module) or false end)
end

--- Whether a value is a selector.
--- @param value any the value
--- @return boolean whether qlora.select made it
--- @example assert(qlora.select.is_selector(qlora.select.mlp()))
function is_selector(value) return getmetatable(value) == Selector end
select.is_selector = is_selector

--- Every linear layer except the output embedding (`lm_head`, or `embed_out` of GPT-NeoX), as PEFT's "all-linear".
--- @return Selector the selector
--- @example assert(not qlora.select.all_linear()(model:module "model.norm"))
function select.all_linear()
  return new("all-linear", function(module) return module.kind == "linear" and module.layer ~= nil end)
end

--- One name as PEFT matches list entries: the whole dotted name, or a suffix that starts after a dot.
--- @param name string the name, such as "q_proj"
--- @return Selector the selector
--- @example assert(qlora.select.name("q_proj")(model:module "model.layers.0.self_attn.q_proj"))
function select.name(name)
  if type(name) ~= "string" then strict.fail("select.names: expected names, got a %s", type(name)) end
  local suffix = "." .. name
  local self = new(('"%s"'):format(name), function(module)
    return module.name == name or module.name:sub(-#suffix) == suffix
  end)
  self.wanted, self.pattern = name, true
  return self
end

--- Names as PEFT's list of target_modules; each name is reported as a rule of its own.
--- @param list string[] names, or one name
--- @return Selector the selector
--- @throws when the list is empty
--- @example assert(qlora.select.names({ "q_proj", "v_proj" })(model:module "model.layers.0.self_attn.v_proj"))
function select.names(list)
  if type(list) == "string" then list = { list } end
  if type(list) ~= "table" or #list == 0 then strict.fail("select.names: expected a list of at least one name") end
  local union
  for _, name in ipairs(list) do
    local rule = is_selector(name) and name or select.name(name)
    union = union and union + rule or rule
  end
  return union
end

--- A regular expression that must match the whole dotted name, as PEFT's string form of target_modules.
--- @param pattern string a Python-style regular expression
--- @return Selector the selector
--- @throws when the pattern is no regular expression
--- @example assert(qlora.select.regex(".*\\.[qv]_proj")(model:module "model.layers.0.self_attn.q_proj"))
function select.regex(pattern)
  if type(pattern) ~= "string" then strict.fail("select.regex: expected a pattern, got a %s", type(pattern)) end
  local ok, problem = pcall(native.regex_full_match, pattern, "")
  if not ok then
    local reason = tostring(problem):match("([^:]+)$"):match("^%s*(.-)%s*$"):gsub("at byte %d+$", "")
    strict.fail("select.regex: '%s' is not a regular expression: %s; a ( [ or . that stands for itself needs a "
      .. "backslash", pattern, reason:match("^(.-)%s*$"))
  end
  local self = new(("regex '%s'"):format(pattern), function(module)
    return native.regex_full_match(pattern, module.name)
  end)
  self.wanted, self.pattern = pattern, true
  return self
end

--- Calls a recipe's function of the module; an error in it also says at which module it happened.
local function guarded(test)
  return function(module)
    local ok, answer = pcall(test, module)
    if ok then return answer end
    if type(answer) ~= "string" then error(answer, 0) end
    local remedy = ""
    if module.layer == nil and answer:find "nil" then
      remedy = "; it is outside the decoder layers, so its m.layer is nil: write `m.layer and …`"
    end
    error(("%s (at %s module %s%s)"):format(answer, module.kind, module.name, remedy), 0)
  end
end

--- A function of the module as a selector, with a text for the report.
--- @param test function called with a Module; answers false, true or settings
--- @param text? string what reports call it; default the function's place
--- @return Selector the selector
--- @example
--- local wide = qlora.select.by(function(m) return m.kind == "linear" and m.out_features > 300 end, "wide layers")
--- assert(wide(model:module "model.layers.0.mlp.up_proj"))
function select.by(test, text)
  if type(test) ~= "function" then strict.fail("select.by: expected a function, got a %s", type(test)) end
  if not text then
    local info = debug.getinfo(test, "S")
    text = ("function at %s:%d"):format(info.short_src, info.linedefined)
  end
  return new(text, guarded(test))
end

local score_schema = strict.declare("qlora.select.by_score", {
  rank = { "count", "the mean rank", required = true, hint = "the mean rank, such as rank = 8" },
  min = { "count", "the lowest rank", default = 1 },
  max = { "count", "the highest rank; default four times `rank`" },
  scaling = { "positive", "alpha / rank, so that every adapter counts alike", default = 2.0 },
})

--- A rank for every scored module: proportional to its score, `rank` in the mean, within `min` and `max`. Doubling
--- all scores changes nothing.
--- @param scores table<string,number> a finite score of at least 0 by module name, higher is more
--- @return Selector the selector
--- @throws when a score is negative or not finite, or all are 0
--- @example
--- local scores = { ["model.layers.0.mlp.up_proj"] = 3, ["model.layers.1.mlp.up_proj"] = 1 }
--- local selector = qlora.select.by_score(scores, { rank = 4 })
--- assert(selector(model:module "model.layers.0.mlp.up_proj").rank == 6)
function select.by_score(scores, options)
  local o = strict.options("select.by_score", options, score_schema)
  local sum, count = 0.0, 0
  for name, score in pairs(scores) do
    if type(score) ~= "number" or score ~= score or score < 0 or score == math.huge then
      strict.fail("select.by_score: the score of %s is %s, expected a finite number of at least 0", tostring(name),
        strict.show(score))
    end
    sum, count = sum + score, count + 1
  end
  if sum <= 0 then strict.fail("select.by_score: all %d scores are 0, so nothing can be ranked by them", count) end
  if sum == math.huge then strict.fail("select.by_score: the scores add up to infinity; give smaller ones") end
  if o.min > (o.max or 4 * o.rank) then
    strict.fail("select.by_score: min is %d, expected at most max, which is %d", o.min, o.max or 4 * o.rank)
  end
  return new(("by score of %d modules"):format(count), function(module)
    local score = scores[module.name]
    if not score then return false end
    local rank = math.floor(o.rank * score * count / sum + 0.5)
    rank = math.max(o.min, math.min(o.max or 4 * o.rank, rank))
    return { rank = rank, alpha = o.scaling * rank }
  end)
end

local function role_set(text, roles)
  local set = {}
  for role in roles:gmatch("%S+") do set[role] = true end
  return new(text, function(module) return module.kind == "linear" and set[module.role] or false end)
end

--- The linear layers of attention, under the names the supported families use.
--- @return Selector the selector
--- @example assert(qlora.select.attention()(model:module "model.layers.0.self_attn.q_proj"))
function select.attention()
  return role_set("attention", "q_proj k_proj v_proj o_proj qkv_proj query_key_value dense c_attn out_proj Wqkv "
    .. "in_proj_qkv in_proj_z in_proj_b in_proj_a")
end

--- The linear layers of the feed-forward part.
--- @return Selector the selector
--- @example assert(qlora.select.mlp()(model:module "model.layers.0.mlp.up_proj"))
function select.mlp()
  return role_set("mlp", "gate_proj up_proj down_proj gate_up_proj dense_h_to_4h dense_4h_to_h fc1 fc2 c_fc w1 w2 w3")
end

--- Anything add_lora accepts as a selection, as a selector.
--- @param value any a selector, a function, "all-linear", a list of names, a text of names with commas between them,
---   or a regular expression
--- @return Selector the selector
--- @throws for any other value
--- @example assert(qlora.select.from_value("all-linear").text == "all-linear")
function from_value(value)
  if is_selector(value) then return value end
  if type(value) == "function" then return select.by(value) end
  if type(value) == "string" then
    if value:lower() == "all-linear" then return select.all_linear() end
    if value:find("%w,") and not value:find "[^%w_., ]" then -- no name has a comma, so that it is no expression
      local names = {}
      for name in value:gmatch "[^, ]+" do names[#names + 1] = name end
      return select.names(names)
    end
    return select.regex(value)
  end
  if type(value) == "table" then return select.names(value) end
  return strict.fail('select: expected a function, a list of names, "all-linear" or a qlora.select helper, got %s',
    strict.show(value))
end
select.from_value = from_value

require "qlora.select_layers"(select, new)

return strict.namespace("qlora.select", select)
