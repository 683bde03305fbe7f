local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"
local selection = require "qlora.selection"
local s = qlora.select

local function names(what, layers)
  local list, report = selection.resolve(native.mock_model { layers = layers }, what, { rank = 4 })
  return list, report
end

t.test("names with commas between them are a list, also in one text", function()
  t.equal(names("q_proj,v_proj"), names { "q_proj", "v_proj" })
  t.equal(names("q_proj, v_proj,"), names { "q_proj", "v_proj" })
  t.equal(names("q_proj,"), names { "q_proj" })
  t.equal(s.from_value(".*[qv]_proj{1,1}").text, "regex '.*[qv]_proj{1,1}'")
  t.raises(function() names("q_proj,w_proj") end, "w_proj")
end)

t.test("all-linear leaves out lm_head, embedding and norms", function()
  t.equal(#names("all-linear"), 28)
  t.equal(#names("ALL-LINEAR"), 28)
  t.equal(#names(s.all_linear()), 28)
  t.equal(#names(function(m) return m.kind == "linear" end), 29)
end)

t.test("names match as PEFT: whole or after a dot", function()
  t.equal(#names { "q_proj", "v_proj" }, 8)
  t.equal(#names { "self_attn.q_proj" }, 4)
  t.equal(#names { "model.layers.2.mlp.up_proj" }, 1)
  t.equal(#names { "lm_head", "up_proj" }, 5)
  t.equal(#names { "embed_tokens" }, 1)
  t.raises(function() names { "input_layernorm" } end, "input_layernorm (norm), which cannot carry an adapter")
  t.raises(function() names { "proj" } end, 'selection "proj" matches no module', "o_proj")
  t.raises(function() names { "q_proj", "qq_proj" } end, '"qq_proj"', "nearest names: q_proj")
end)

t.test("a string is a regular expression for the whole name", function()
  t.equal(#names [[.*\.(q|v)_proj]], 8)
  t.raises(function() names "q_proj" end, "whole dotted name", "q_proj")
end)

t.test("algebra: both, either, without", function()
  t.equal(#names(s.attention() * s.layers { last = 1 }), 4)
  t.equal(#names(s.attention() + s.names { "down_proj" }), 20)
  t.equal(#names(s.all_linear() - s.mlp()), 16)
  t.equal(#names(s.all_linear() * function(m) return m.layer % 2 == 0 end), 14)
  t.equal(#names(s.mlp() - { "up_proj" }), 8)
end)

t.test("layers add up, every filters, numbers out of range fail", function()
  local function layers(o)
    local seen, list = {}, {}
    for _, entry in ipairs((names(s.layers(o), 6))) do
      local n = tonumber(entry.name:match("layers%.(%d+)"))
      if not seen[n] then list[#list + 1], seen[n] = n, true end
    end
    return list
  end
  t.equal(layers { first = 2 }, { 0, 1 })
  t.equal(layers { first = 1, last = 2 }, { 0, 4, 5 })
  t.equal(layers { every = 2 }, { 0, 2, 4 })
  t.equal(layers { only = { 3 }, between = { 4, 5 } }, { 3, 4, 5 })
  t.raises(function() layers { only = { 6 } } end, "layer 6 does not exist", "0 to 5")
  t.raises(function() layers { first = 7 } end, "first = 7, and the model has 6 layers")
  t.raises(function() layers { last = 99 } end, "last = 99, and the model has 6 layers")
  t.equal(#layers { last = 6 }, 6)
  t.raises(function() s.layers { firts = 1 } end, '"first"')
end)

t.test("settings come from the rule, then from add_lora", function()
  local list = names(s.attention():with { rank = 8, lr = 0.5 } + s.mlp())
  t.equal({ list[1].rank, list[1].lr, list[1].alpha }, { 8, 0.5, 8 })
  t.equal({ list[5].rank, list[5].lr, list[5].dropout }, { 4, nil, 0.0 })
  local custom = names(function(m) return m.role == "q_proj" and { rank = 2 ^ (m.layer // 2) // 1 | 0, dropout = 0.1 }
    end)
  t.equal({ custom[1].rank, custom[4].rank, custom[4].dropout }, { 1, 2, 0.1 })
  t.raises(function() names(function(m) return m.role == "q_proj" and { rnk = 1 } end)
    end, "self_attn.q_proj", '"rank"')
  t.raises(function() names(function(m) return m.role == "q_proj" and { dropout = 1.0 } end) end, "below 1")
  t.raises(function() names(function(m) return m.role == "q_proj" and "yes" end) end, "expected false, true or a table")
end)

t.test("quant is read by load and held against the model by add_lora", function()
  local model = native.mock_model()
  local function policy(m)
    return m.role == "q_proj" and { quant = m.layer == 1 and "int4" } or m.role == "k_proj" and { rank = 1 }
  end
  local chosen, text = selection.quantization(model, policy)
  t.equal({ chosen["model.layers.0.self_attn.q_proj"], chosen["model.layers.1.self_attn.q_proj"] }, { false, "int4" })
  t.equal(chosen["model.layers.0.self_attn.k_proj"], nil)
  t.equal(text, "quantization by module: 3 in 16 bits, 1 in int4, the others as `quant` says")
  t.raises(function() selection.quantization(model, s.all_linear()) end, "no answer of all-linear says quant")
  t.raises(function() selection.quantization(model, s.names { "norm" }:with { quant = "nf4" }) end, "is of the kind norm; only linear layers")
  t.raises(function() selection.quantization(model, s.mlp():with { quant = "nf5" }) end, 'no choice "nf5"', "nf4")
  t.raises(function() names(s.mlp():with { quant = "nf4" }) end, "comes too late", "modules = ")
  t.equal(#names(s.mlp():with { quant = false }), 12)
end)

t.test("an error inside a selection function names the module and the remedy", function()
  t.raises(function() names(function(m) return m.kind == "linear" and m.layer > 2 end) end, "at linear module lm_head",
    "write `m.layer and", "test_select.lua")
end)

t.test("norms cannot be selected and nothing at all is an error", function()
  t.raises(function() names(function(m) return m.layer == 1 end) end, "input_layernorm (norm)", 'm.kind == "linear"')
  t.raises(function() names(function() return false end) end, "matches none of 35 modules")
  t.raises(function() names(s.attention() * s.mlp()) end, "attention alone matches 16, mlp alone matches 12")
  t.raises(function() names(42) end, "expected a function")
end)

t.test("the report counts each rule and warns of missed layers", function()
  local _, report = names(s.regex [[model\.layers\.(0|2)\.self_attn\.q_proj]] + s.mlp())
  t.equal(#report.rules, 2)
  t.equal({ report.rules[1].matched, report.rules[2].matched }, { 2, 12 })
  t.equal(report.rules[1].missed, { { role = "q_proj", layers = { 1, 3 } } })
  t.equal(report.rules[2].missed, {})
  local _, together = names(s.mlp() * s.layers { first = 2 })
  t.equal(together.rules[1].missed, { { role = "gate_proj, up_proj, down_proj", layers = { 2, 3 } } })
  local text = tostring(report)
  assert(text:find("2 of 29 linear layers", 1, true) and text:find("WARNING: q_proj: not in layers 1, 3", 1, true),
    text)
  t.equal(selection.ranges { 0, 1, 2, 5, 7, 8 }, "0-2, 5, 7-8")
  t.equal(selection.ranges { 1, 3, 5, 7, 9 }, "1, 3, … 9")
  t.equal(selection.ranges { 3 }, "3")
end)

t.test("add_lora attaches the list, prints and returns the report", function()
  local model = native.mock_model()
  native.options.quiet = nil
  local report
  local text = t.captured(function() report = model:add_lora { select = "all-linear", rank = 8, alpha = 16,
    dropout = 0.05 } end)
  native.options.quiet = true
  t.equal({ #model.attached, report.modules, report.trainable }, { 28, 28, 448 })
  t.equal(model.attached[1], { name = "model.layers.0.self_attn.q_proj", rank = 8, alpha = 16, dropout = 0.05 })
  assert(text:find("28 modules: rank 8 alpha 16 dropout 0.05", 1, true), text)
  t.raises(function() model:add_lora { rank = 8 } end, "'select' is missing")
  t.raises(function() model:add_lora { select = "all-linear", r = 8 } end, "unknown option 'r'")
  t.raises(function() model:add_lora { select = "all-linear" } end, "has no rank")
end)
