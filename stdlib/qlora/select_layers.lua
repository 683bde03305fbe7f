--- Selection by decoder layer: adds `layers` and `with_layers` to qlora.select.
local native = require "qlora.native"
local strict = require "qlora.strict"

-- The model's layer numbers while a selection is resolved: `layers { last = 4 }` needs to know how many there are.
local layers_of_model = nil

local layers_schema = strict.declare("qlora.select.layers", {
  first = { "count", "the first layers, so many" },
  last = { "count", "the last layers, so many" },
  between = { "table", "two layer numbers, both included", hint = "two layer numbers such as { 4, 7 }" },
  only = { "table", "layer numbers", hint = "a list of layer numbers such as { 0, 5 }" },
  every = { "count", "keeps the layers whose number is a multiple" },
})

local function chosen_layers(o, count)
  local set, any = {}, false
  local function add(from, to)
    any = true
    for _, layer in ipairs { from, to } do
      if layer < 0 or layer >= count then
        strict.fail("select.layers: layer %d does not exist; the model has layers 0 to %d (numbered from 0, as in the "
          .. "tensor names)", layer, count - 1)
      end
    end
    for layer = from, to do set[layer] = true end
  end
  -- The model of a smoke run has fewer layers than the one that is meant.
  local function many(key)
    if o[key] > count and not native.options.smoke then
      strict.fail("select.layers: %s = %d, and the model has %d layers", key, o[key], count)
    end
    return math.min(o[key], count)
  end
  if o.first then add(0, many "first" - 1) end
  if o.last then add(count - many "last", count - 1) end
  if o.between then add(o.between[1], o.between[2]) end
  for _, layer in ipairs(o.only or {}) do add(layer, layer) end
  if not any then add(0, count - 1) end
  for layer in pairs(set) do
    if o.every and layer % o.every ~= 0 then set[layer] = nil end
  end
  return set
end

--- `new(text, test)` makes a selector.
return function(select, new)
  --- Calls a function while `layers { last = 4 }` knows how many layers the model has; for resolving a selection by
  --- hand.
  --- @param count integer number of decoder layers
  --- @param body function called without arguments
  --- @return any what the function returns
  --- @example
  --- local layers = qlora.select.layers { last = 1 }
  --- local module = model:module "model.layers.0.mlp.up_proj"
  --- assert(qlora.select.with_layers(model.config.num_hidden_layers, function() return layers(module) end) == false)
  function select.with_layers(count, body)
    local outer = layers_of_model
    layers_of_model = count
    local results = table.pack(pcall(body))
    layers_of_model = outer
    if not results[1] then error(results[2], 0) end
    return table.unpack(results, 2, results.n)
  end

  --- Linear layers of chosen decoder layers. `first`, `last`, `between` and `only` add up; `every` thins out what they
  --- chose. Numbers are those in the tensor names, so 0 is the first layer.
  --- @return Selector the selector
  --- @throws when a number is no layer of the model or more than it has, or `between` is not two numbers in order
  --- @example
  --- local report = model:preview_lora(qlora.select.layers { last = 1 } * qlora.select.mlp())
  --- assert(report.modules == 3)
  function select.layers(options)
    local o = strict.options("select.layers", options, layers_schema)
    local function is_layer(value) return type(value) == "number" and math.tointeger(value) end
    for _, layer in ipairs(o.between or {}) do
      if not is_layer(layer) then o.between = {} end
    end
    if o.between and (#o.between ~= 2 or o.between[1] > o.between[2]) then
      strict.fail("select.layers: between needs two layer numbers, the smaller first, such as { 4, 7 }")
    end
    for _, layer in ipairs(o.only or {}) do
      if not is_layer(layer) then
        strict.fail("select.layers: only needs layer numbers such as { 0, 5 }, got %s", strict.show(layer))
      end
    end
    local parts = {}
    for _, key in ipairs(strict.sorted_keys(o)) do
      local value = type(o[key]) == "table" and "{" .. table.concat(o[key], ",") .. "}" or tostring(o[key])
      parts[#parts + 1] = key .. "=" .. value
    end
    local sets = {}
    return new(("layers{%s}"):format(table.concat(parts, ", ")), function(module)
      local count = layers_of_model
      if not count then strict.fail("select.layers: can only be used inside a selection of a model") end
      sets[count] = sets[count] or chosen_layers(o, count)
      return module.kind == "linear" and module.layer ~= nil and sets[count][module.layer] or false
    end)
  end
end
