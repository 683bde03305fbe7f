--- Needs the engine: see run_engine.lua.
local t = require "harness"
local qlora = require "qlora"
local explore = qlora.explore

local text = "At the market, Rosa the fisher dropped a beautiful kite."
local function tiny(options)
  return qlora.load(qlora.resource "models/tiny", options or { quant = "nf4", compute = "f32" })
end
local model = tiny()
local root = os.tmpname()
os.remove(root)
qlora.native.mkdir(root)

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

t.test("a hook gets module, output and input until it is removed", function()
  local seen = {}
  local hook = model:hook("model.layers.1.mlp.down_proj", function(module, output, input)
    seen[#seen + 1] = { module.name, output:shape(), input:shape() }
  end)
  local count = #model.tokenizer:encode(text, { special = true })
  local first = model:logits(text):sum():item()
  t.equal(seen, { { "model.layers.1.mlp.down_proj", { count, model.config.hidden_size },
    { count, model.config.intermediate_size } } })
  hook:remove()
  hook:remove()
  t.equal(model:logits(text):sum():item(), first)
  t.equal(#seen, 1)
  do
    local scoped <close> = model:hook("model.norm", function() seen[#seen + 1] = "norm" end)
    assert(scoped)
    model:generate("At", { max_new_tokens = 2 })
  end
  model:logits(text)
  t.equal(#seen, 3) -- one per generated token, none after the scope
end)

t.test("a prompt that leaves no position for a new token is an error, not an empty answer", function()
  t.raises(function() model:generate(("a "):rep(4000), { max_new_tokens = 2 }) end, "positions; give a shorter prompt")
end)

t.test("a hook may replace an output, and the change reaches logits and generation", function()
  local before = model:logits(text):argmax(2):totable()
  local hook = model:hook("model.norm", function(_, output) return output * 0 end)
  local zero = model:logits(text)
  hook:remove()
  t.equal(zero:abs():max():item(), 0.0)
  t.equal(model:logits(text):argmax(2):totable(), before)
end)

t.test("errors in a hook surface with file and line, and the hook can still be removed", function()
  local hook = model:hook("model.layers.0.self_attn.q_proj", function() error "broken here" end)
  local line = debug.getinfo(1, "l").currentline - 1
  t.raises(function() model:logits(text) end, ("test_explore.lua:%d: broken here"):format(line))
  hook:remove()
  model:logits(text)
  local wrong = model:hook("model.norm", function() return 7 end)
  t.raises(function() model:logits(text) end, "hook on model.norm: fn returned a number, expected a Tensor or nothing")
  wrong:remove()
  local shape = model:hook("model.norm", function(_, output) return output[1] end)
  t.raises(function() model:logits(text) end, "hook on model.norm", "return nil to leave it")
  shape:remove()
  t.raises(function() model:hook("q_proj", print) end, "no module is called 'q_proj'",
    "model.layers.0.self_attn.q_proj")
  t.raises(function() model:hook("model.norm") end, "bad argument #2 to 'hook' (function expected")
  -- A hook that runs the model again ends in an error, not in a crash.
  local again = model:hook("model.norm", function() model:logits("At") end)
  t.raises(function() model:logits(text) end, "hook on model.norm: it runs the model again")
  again:remove()
  model:logits(text)
end)

t.test("hooks see training, and gradients pass them", function()
  local own = tiny()
  own:add_lora { select = "all-linear", rank = 2, alpha = 4 }
  local batch = qlora.data.load({ { text = text } }, { format = "completion", tokenizer = own.tokenizer })
  local function norm()
    own:loss(qlora.native.batch { batch[1] }):backward()
    local value = qlora.clip_grad_norm(own:trainable(), 1e9)
    for _, tensor in ipairs(own:trainable()) do tensor.grad = nil end
    return value
  end
  local plain, calls = norm(), 0
  local hook = own:hook("model.layers.0.mlp.up_proj", function() calls = calls + 1 end)
  t.equal(norm(), plain)
  hook:remove()
  t.equal(calls, 1)
  own:checkpointing(true)
  hook = own:hook("model.layers.0.mlp.up_proj", function() calls = calls + 1 end)
  t.close(norm(), plain, 1e-6)
  hook:remove()
  t.equal(calls, 3) -- the recomputation of the layer calls it again
end)

t.test("next tokens are those of the logits, best first", function()
  local list = explore.next_tokens(model, text, { k = 4 })
  local row = model:logits(text, { last = true })[1]
  t.equal({ #list, list[1].id }, { 4, row:argmax():item() - 1 })
  t.close(list[1].logit, row:max():item(), 1e-6)
  t.close(list[2].probability, row:softmax(1)[list[2].id + 1]:item(), 1e-7)
  assert(list[1].probability >= list[2].probability and list[3].probability >= list[4].probability)
  t.equal(list[1].token, model.tokenizer:decode { list[1].id })
  t.equal(select(2, tostring(list):gsub("%%", "")), 4)
  local early = explore.next_tokens(model, text, { position = 2 })
  assert(early[1].id ~= list[1].id or early[1].probability ~= list[1].probability)
  t.raises(function() explore.next_tokens(model, text, { position = 99 }) end, "test_explore.lua:", "position 99")
  t.raises(function() explore.next_tokens(model, text, { n = 3 }) end, "unknown option 'n'")
  t.raises(function() explore.next_tokens(model, 7) end, "expected a text")
end)

t.test("losses by token add up to the loss of the text", function()
  local list = explore.token_losses(model, text)
  local ids = model.tokenizer:encode(text, { special = true })
  t.equal(#list, #ids - 1)
  t.equal({ list[2].id, list[2].token }, { ids[3], model.tokenizer:decode { ids[3] } })
  local sum, count = model:nll(qlora.native.batch { { ids = ids } })
  t.close(list.mean, sum / count, 1e-5)
  t.close(list.perplexity, math.exp(sum / count), 1e-3)
  t.close(list[3].probability, math.exp(-list[3].loss), 1e-9)
  assert(tostring(list):find "mean")
  t.raises(function() explore.token_losses(model, { 5 }) end, "at least two")
end)

t.test("attention maps are causal and their rows are shares", function()
  local result = explore.attention(model, text, { layer = 1, head = 2 })
  local heads, count = model.config.num_attention_heads, #result.tokens
  t.equal(result.maps:shape(), { heads, count, count })
  local sums = result.maps:sum(3):view(heads * count):totable()
  for _, sum in ipairs(sums) do t.close(sum, 1, 1e-5) end
  local map = result.maps[1]:totable()
  for query = 1, count do
    for key = query + 1, count do t.equal(map[query][key], 0.0) end
  end
  t.equal(result.map:totable(), result.maps[2]:totable())
  assert(tostring(result):find("attention of layer 1, head 2", 1, true))
  t.raises(function() explore.attention(model, text, { layer = 5 }) end, "no layer 5", "0..4")
  t.raises(function() explore.attention(model, text, { head = 99 }) end, "heads count from 1")
end)

t.test("activations are measured in the order of the forward pass and leave no hook behind", function()
  local list = explore.activations(model, text, "layers%.[01]%.mlp")
  t.equal({ #list, list[1].name, list[6].name }, { 6, "model.layers.0.mlp.gate_proj", "model.layers.1.mlp.down_proj" })
  assert(list[1].std > 0 and list[1].max > math.abs(list[1].mean))
  local caught
  local hook = model:hook("model.layers.0.mlp.gate_proj", function(_, output) caught = output end)
  model:logits(text)
  hook:remove()
  t.close(list[1].max, caught:abs():max():item(), 0)
  t.equal(#list, 6)
  t.raises(function() explore.activations(model, text, "gate_prj") end, "no module matches")
end)

t.test("adapters: norms, singular values, effective rank", function()
  local own = tiny()
  t.raises(function() explore.adapters(own) end, "has no adapters")
  own:add_lora { select = { "q_proj" }, rank = 3, alpha = 6 }
  local q = own:module "model.layers.0.self_attn.q_proj"
  t.equal(explore.adapters(own)[1].norm, 0.0)
  q.adapter.b[{ {}, {} }] = qlora.randn(q.out_features, 3)
  local row = explore.adapters(own)[1]
  local delta = q.adapter.b:matmul(q.adapter.a) * 2
  t.close(row.norm, math.sqrt(delta:square():sum():item()), 1e-4 * row.norm)
  t.close(row.relative, row.norm / math.sqrt(q:weight():square():sum():item()), 1e-9)
  t.close(own:adapter_norms()[q.name], row.norm, 1e-5 * row.norm)
  t.equal({ #row.singular_values, row.rank }, { 3, 3 })
  assert(row.effective_rank > 2 and row.effective_rank <= 3 and row.spectral_norm == row.singular_values[1])
  assert(tostring(explore.adapters(own)):find("q_proj", 1, true))
  t.raises(function() own:adapter_spectrum "model.layers.0.self_attn.k_proj" end, "has no adapter")
end)

t.test("quantization error: each matrix against the file", function()
  local list = explore.quantization_error(model)
  t.equal(#list, 35)
  local dense = tiny { compute = "f32" }
  for i = 1, #list, 7 do
    local difference = dense:module(list[i].name):weight() - model:module(list[i].name):weight()
    t.close(list[i].rmse, math.sqrt(difference:square():mean():item()), 1e-6)
    t.close(list[i].max, difference:abs():max():item(), 1e-6)
    if i > 1 then assert(list[i].relative <= list[i - 1].relative) end
  end
  t.equal(#explore.quantization_error(model, { "model.layers.0.mlp.up_proj" }), 1)
  t.raises(function() dense:quantization_error() end, "no module is quantized", 'quant = "nf4"')
  t.raises(function() model:quantization_error { "up_proj" } end, "nearest", "model.layers.0.mlp.up_proj")
  t.raises(function() model:module "up_proj" end, "nearest", "model.layers.0.mlp.up_proj")
  t.raises(function() model:module "model.layers.0" end, "nearest", "model.layers.0.")
end)

t.test("what is no model or data set is named", function()
  local own = qlora.load(qlora.resource "models/tiny")
  t.raises(function() qlora.eval.perplexity(own, "Mia the baker") end, 'data must be a Dataset, got "Mia the baker"')
  t.raises(function() qlora.eval.compare(own, "bas", {}) end, 'b must be', '"bas"')
  t.raises(function() qlora.eval.compare(own, "base", {}) end, "data must be a Dataset, got a table")
  t.raises(function() qlora.merge("model", {}) end, 'model must be a Model, got "model"')
  t.raises(function() qlora.explore.adapters() end, "explore.adapters: model must be a Model, got nil")
  t.raises(function() own:generate("Mia", { stop = "" }) end, "stop")
end)

t.test("an add_lora that fails takes off what it added and no more", function()
  local own = qlora.load(qlora.resource "models/tiny")
  own:add_lora { select = { "q_proj" }, rank = 2, quiet = true }
  local count = #own:trainable()
  t.raises(function()
    own:add_lora { select = { "v_proj" }, rank = 2, tokens = { 5 }, modules_to_save = { "lm_hed" }, quiet = true }
  end, "lm_hed")
  t.equal(#own:trainable(), count)
  own:add_lora { select = { "v_proj" }, rank = 2, tokens = { 5 }, quiet = true }
end)

t.test("without_adapters and eval.compare tell what adapters change", function()
  local own = tiny()
  local data = qlora.data.load({ { text = text }, { text = "In the morning, Mia" } },
    { format = "completion", tokenizer = own.tokenizer })
  local base = own:logits(text):totable()
  own:add_lora { select = "all-linear", rank = 2, alpha = 4 }
  local same = qlora.eval.compare(own, "base", data)
  t.equal({ same.kl, same.agreement }, { 0.0, 1.0 }) -- a new adapter changes nothing
  for module in own:modules() do
    if module.adapter then module.adapter.b[{ {}, {} }] = qlora.randn(module.out_features, 2) * 0.2 end
  end
  local changed = qlora.eval.compare(own, "base", data)
  assert(changed.kl > 0.01 and changed.agreement < 1, changed.kl)
  t.equal(own:without_adapters(function() return own:logits(text):totable() end), base)
  t.raises(function() own:without_adapters(function() error "inside" end) end, "inside")
  assert(own:logits(text):totable()[1][1] ~= base[1][1]) -- adapters are back after the error
  local pair = explore.with_and_without(own, text, { max_new_tokens = 4 })[1]
  t.equal(pair.without, model:generate(text, { max_new_tokens = 4 }))
  -- KL by hand for one position of one text.
  local a, b = own:logits(text):softmax(2), own:without_adapters(function() return own:logits(text):softmax(2) end)
  local kl = ((a * (a:log() - b:log())):sum() / a:size(1)):item()
  local one = qlora.eval.compare(own, "base", data, { limit = 1 })
  local ids = model.tokenizer:encode(text, { special = true })
  if #data[1].ids == #ids then t.close(one.kl, kl, 1e-3 * kl) end
end)

t.test("heat maps and histograms, in the terminal and as files", function()
  local x = qlora.tensor { { 0, 1, 2 }, { 3, 4, 0 / 0 } }
  local map = qlora.plot.heatmap(x, { title = "map", rows = { "a", "b" }, file = root .. "/m.svg" })
  t.equal(map, "map\na │  ░░▒▒\nb │▓▓██??\n   0 to 4, 2 x 3")
  assert(read(root .. "/m.svg"):find('^<svg xmlns="http://www.w3.org/2000/svg"'))
  qlora.plot.heatmap(qlora.randn(300, 700), { file = root .. "/m.png" })
  local png = read(root .. "/m.png")
  t.equal({ png:sub(1, 8), string.unpack(">I4I4", png, 17) }, { "\x89PNG\r\n\x1a\n", 512, 300, 25 })
  assert(qlora.plot.heatmap(qlora.randn(300, 700)):find "300 x 700, averaged to 40 x 64")
  t.raises(function() qlora.plot.heatmap(x, { file = "m.gif" }) end, "test_explore.lua:", ".png or .svg")
  t.raises(function() qlora.plot.heatmap(qlora.ones(2, 2, 2)) end, "choose one with x[i]")
  t.raises(function() qlora.plot.heatmap "x" end, "expected a matrix")
  local bars = qlora.plot.histogram({ 0, 0, 1, 2 }, { bins = 2, width = 4, title = "h", file = root .. "/h.svg" })
  t.equal(bars, "h\n         0 │████ 2\n         1 │████ 2\n         2")
  assert(read(root .. "/h.svg"):find "</svg>")
  t.raises(function() qlora.plot.histogram {} end, "list of numbers")
  t.raises(function() qlora.plot.histogram({ 1 }, { bins = 100000 }) end, "option 'bins' must be at most 4096")
  t.raises(function() qlora.plot.histogram({ 1 }, { low = 2, high = 1 }) end, "low is 2.0, expected a number below high")
end)

qlora.native.remove_tree(root)
