--- Looking into a loaded model: likely tokens, loss by token, activations, attention, adapters, quantization. Each
--- function returns a table to compute with; printing it shows it.
local checks = require "qlora.checks"
local plot = require "qlora.plot"
local screen = require "qlora.screen"
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"

local explore = {}

local next_schema = strict.declare("qlora.explore.next_tokens", {
  k = { "count", "how many tokens", default = 10 },
  position = { "count", "the token of the input, from 1, after which the next is asked; default the last" },
})
local attention_schema = strict.declare("qlora.explore.attention", {
  layer = { "integer", "number of the layer, as in the tensor names", default = 0 },
  head = { "count", "the head that is printed, from 1; default the mean of all" },
})

--- A table that prints by `show`.
local function shown(value, show) return setmetatable(value, { __name = "exploration", __tostring = show }) end

--- The text that a token adds to those before its place: the first token of a text alone loses its space. Eight of them
--- are more than a character has.
local function added(tokenizer, id, ids, place)
  return tokenizer:decode({ id }, { after = table.move(ids, math.max(place - 8, 1), place - 1, 1, {}) })
end

--- Token ids of a text (as the model reads it) or of a list, and each token's own text.
local function tokens_of(name, model, input)
  checks.model(name, model)
  local tokenizer = model.tokenizer
  if type(input) ~= "string" and type(input) ~= "table" then
    strict.fail("%s: expected a text or a list of token ids, got a %s", name, type(input))
  end
  if not tokenizer then strict.fail("%s: the model has no tokenizer, so its tokens have no text", name) end
  local ids = type(input) == "string" and tokenizer:encode(input, { special = true }) or input
  if #ids == 0 then strict.fail("%s: there are no tokens in the input", name) end
  local texts = {}
  for i, id in ipairs(ids) do texts[i] = added(tokenizer, id, ids, i) end
  return ids, texts
end

--- A token's text on one line, with its blanks to be seen.
local function visible(text)
  return (text:gsub("\n", "↵"):gsub("\t", "⇥"):gsub("^ ", "·"):gsub("%c", "?"))
end

local function padded(text, width)
  return text .. (" "):rep(width - (utf8.len(text) or #text))
end

--- The most likely next tokens of a text.
--- @param model Model the model to look into
--- @param input string|integer[] a text, or token ids
--- @return table[] { token =, id =, logit =, probability = }, best first; printing it shows them
--- @throws when the input is empty or `position` is beyond it
--- @example assert(#qlora.explore.next_tokens(model, "The baker", { k = 3 }) == 3)
function explore.next_tokens(model, input, options)
  local o = strict.options("explore.next_tokens", options, next_schema)
  local ids = tokens_of("explore.next_tokens", model, input)
  local position = o.position or #ids
  if position > #ids then
    strict.fail("explore.next_tokens: position %d is beyond the input's %d tokens", position, #ids)
  end
  local logits = model:logits(table.move(ids, 1, position, 1, {}), { last = true })[1]
  local count = math.min(o.k, logits:numel())
  local values, places = logits:topk(count)
  local probabilities = logits:softmax(1)
  local list = {}
  for i = 1, count do
    local place = places[i]:item() -- tensor positions count from 1, token ids from 0
    list[i] = { id = place - 1, token = added(model.tokenizer, place - 1, ids, position + 1), logit = values[i]:item(),
      probability = probabilities[place]:item() }
  end
  return shown(list, function(self)
    local lines = {}
    for i, row in ipairs(self) do
      lines[i] = ("%6.2f %%  %s %s"):format(100 * row.probability, padded(visible(row.token), 16),
        screen.bar(row.probability, 27, 40))
    end
    return table.concat(lines, "\n")
  end)
end

--- How surprising each token of a text is.
--- @param model Model the model to look into
--- @param input string|integer[] a text, or token ids
--- @return table[] { token =, id =, loss =, probability = } from the second token on, with .mean and .perplexity
--- @throws when the input has fewer than two tokens
--- @example assert(qlora.explore.token_losses(model, "The baker makes bread.").perplexity > 1)
function explore.token_losses(model, input)
  local ids, texts = tokens_of("explore.token_losses", model, input)
  if #ids < 2 then strict.fail("explore.token_losses: the input has one token, at least two are needed") end
  local losses, list, sum = model:token_losses(ids):totable(), {}, 0.0
  for i, loss in ipairs(losses) do
    list[i] = { token = texts[i + 1], id = ids[i + 1], loss = loss, probability = math.exp(-loss) }
    sum = sum + loss
  end
  list.mean, list.perplexity = sum / #losses, math.exp(sum / #losses)
  return shown(list, function(self)
    local high, lines = 1e-9, {}
    for _, row in ipairs(self) do high = math.max(high, row.loss) end
    for i, row in ipairs(self) do
      lines[i] = ("%8.4f  %s %s"):format(row.loss, padded(visible(row.token), 16),
        screen.bar(row.loss / high, 27, 40))
    end
    lines[#lines + 1] = ("mean %.4f, perplexity %.3f over %d tokens"):format(self.mean, self.perplexity, #self)
    return table.concat(lines, "\n")
  end)
end

--- Attention weights of a layer for a short text; row = query, column = key.
--- @param model Model the model to look into
--- @param input string|integer[] a text, or token ids
--- @return table { maps = Tensor [heads, T, T], map = what is drawn, tokens =, layer =, head = }
--- @throws when the layer or the head does not exist
--- @example print(qlora.explore.attention(model, "The baker", { layer = 1 }))
function explore.attention(model, input, options)
  local o = strict.options("explore.attention", options, attention_schema)
  local ids, texts = tokens_of("explore.attention", model, input)
  local maps = model:attention(ids, o.layer)
  if o.head and o.head > maps:size(1) then
    strict.fail("explore.attention: head %d of %d; heads count from 1", o.head, maps:size(1))
  end
  local result = { maps = maps, tokens = texts, layer = o.layer, head = o.head }
  --- The matrix that is drawn: one head, or the mean of all.
  result.map = o.head and maps[o.head] or maps:mean(1):view(#ids, #ids)
  return shown(result, function(self)
    local names = {}
    for i, text in ipairs(self.tokens) do names[i] = visible(text) end
    return plot.heatmap(self.map, { rows = names, columns = #names <= 24 and names or nil, low = 0, high = 1,
      title = ("attention of layer %d, %s"):format(self.layer,
        self.head and "head " .. self.head or "mean of all heads") })
  end)
end

--- Statistics of what modules compute for a text, in the order of the forward pass; a large `max` beside a small
--- `std` marks outliers.
--- @param model Model the model to look into
--- @param input string|integer[] a text, or token ids
--- @param pattern? string Lua pattern on module names; all when left out
--- @return table[] { name =, shape =, mean =, std =, max = } of each module
--- @throws when no module matches
--- @example assert(#qlora.explore.activations(model, "The baker", "up_proj$") > 0)
function explore.activations(model, input, pattern)
  checks.model("explore.activations", model)
  local modules, list, hooks = model:find(pattern or ""), {}, {}
  if #modules == 0 then
    local names = {}
    for module in model:modules() do names[#names + 1] = module.name end
    strict.fail("explore.activations: no module matches %q%s", pattern,
      #suggest.nearest(pattern, names) > 0 and suggest.phrase(pattern, names) or "; model:tree() shows the names")
  end
  for i, module in ipairs(modules) do
    hooks[i] = model:hook(module.name, function(m, output)
      local mean = output:mean():item()
      list[#list + 1] = { name = m.name, shape = output:shape(), mean = mean,
        std = math.sqrt(math.max(0, output:square():mean():item() - mean * mean)), max = output:abs():max():item() }
    end)
  end
  local ok, message = pcall(model.logits, model, input)
  for _, hook in ipairs(hooks) do hook:remove() end
  if not ok then error(message, 0) end
  return shown(list, function(self)
    local lines = { ("%-44s %12s %11s %11s %11s"):format("module", "shape", "mean", "std", "max |x|") }
    for i, row in ipairs(self) do
      lines[i + 1] = ("%-44s %12s %11.4g %11.4g %11.4g"):format(row.name, table.concat(row.shape, " x "), row.mean,
        row.std, row.max)
    end
    return table.concat(lines, "\n")
  end)
end

--- What the adapters add to the frozen weights; `relative` is their norm over that of the weight.
--- @param model Model a model with adapters
--- @return table[] { name =, kind =, norm =, relative = } and, of a low-rank branch, { rank =, spectral_norm =,
---   effective_rank =, singular_values = }
--- @throws when the model has no adapters
--- @example assert(qlora.explore.adapters(model)[1].rank == 2)
function explore.adapters(model)
  checks.model("explore.adapters", model)
  local list = {}
  for module in model:modules() do
    if module.adapter then
      local row = model:adapter_spectrum(module.name)
      row.name, row.kind = module.name, module.adapter.kind
      row.relative = row.norm and row.norm / math.sqrt(module:weight():square():sum():item())
      list[#list + 1] = row
    end
  end
  if #list == 0 then
    strict.fail("explore.adapters: the model has no adapters; model:add_lora or model:add_adapter makes them")
  end
  return shown(list, function(self)
    local lines = { ("%-44s %4s %10s %9s %10s %9s  singular values"):format("module", "rank", "norm", "relative",
      "spectral", "eff. rank") }
    for i, row in ipairs(self) do
      local sizes = row.norm and ("%10.4g %8.2f%%"):format(row.norm, 100 * row.relative)
        or "       no weight stands for it"
      lines[i + 1] = row.rank and ("%-44s %4d %s %10.4g %9.2f  %s"):format(row.name, row.rank, sizes,
        row.spectral_norm, row.effective_rank, plot.sparkline(row.singular_values, 16))
        or ("%-44s %4s %s"):format(row.name, row.kind, sizes)
    end
    return table.concat(lines, "\n")
  end)
end

--- How far the quantized matrices are from the weights in the file, worst first.
--- @param model Model a quantized model
--- @param names? string[] modules; all quantized ones when left out
--- @return table[] { name =, rmse =, max =, relative =, bits_per_param = } of each module
--- @throws when a module is not quantized, or the file of the original weights is gone
--- @example assert(qlora.explore.quantization_error(model, { "model.layers.0.mlp.up_proj" })[1].relative < 0.2)
function explore.quantization_error(model, names)
  checks.model("explore.quantization_error", model)
  local list = model:quantization_error(names)
  table.sort(list, function(a, b)
    if a.relative ~= b.relative then return a.relative > b.relative end
    return a.name < b.name
  end)
  return shown(list, function(self)
    local lines = { ("%-44s %11s %11s %9s %10s"):format("module", "RMSE", "max", "relative", "bits/param") }
    for i, row in ipairs(self) do
      lines[i + 1] = ("%-44s %11.4g %11.4g %8.2f%% %10.3f"):format(row.name, row.rmse, row.max, 100 * row.relative,
        row.bits_per_param)
    end
    return table.concat(lines, "\n")
  end)
end

--- The text a model writes with and without its adapters.
--- @param model Model a model with adapters
--- @param prompts string|string[] a prompt, or several
--- @param options? table those of model:generate
--- @return table[] { prompt =, with =, without = } of each prompt
--- @example print(qlora.explore.with_and_without(model, "In the morning", { max_new_tokens = 4 }))
function explore.with_and_without(model, prompts, options)
  checks.model("explore.with_and_without", model)
  if type(prompts) == "string" then prompts = { prompts } end
  if type(prompts) ~= "table" then
    strict.fail("explore.with_and_without: expected a prompt or a list of prompts, got a %s", type(prompts))
  end
  local list = {}
  for i, prompt in ipairs(prompts) do
    list[i] = { prompt = prompt, with = model:generate(prompt, options),
      without = model:without_adapters(function() return model:generate(prompt, options) end) }
  end
  return shown(list, function(self)
    local lines = {}
    for _, row in ipairs(self) do
      lines[#lines + 1] = row.prompt .. "\n  with adapters:    " .. row.with .. "\n  without adapters: " .. row.without
    end
    return table.concat(lines, "\n")
  end)
end

return explore
