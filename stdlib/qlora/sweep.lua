--- `qlora.sweep { variants =, base =, run = }`: the same experiment under several settings, in one process over one
--- loaded base, with a table of what came out. Several ranks take turns: variant i is computed by rank i mod N, alone.
local native = require "qlora.native"
local format = require "qlora.format"
local json = require "qlora.json"
local lockstep = require "qlora.lockstep"
local strict = require "qlora.strict"
local table_of = require "qlora.sweep_table"

local schema = strict.declare("qlora.sweep", {
  variants = { "table", "a list of settings, or lists of values by key for every combination", required = true,
    hint = "a list such as { { rank = 4 }, { rank = 16 } }, or { rank = { 4, 16 }, lr = { 1e-4, 1e-3 } } for every "
      .. "combination" },
  base = { "callable", "a function variant -> model; called again only when a setting it reads has changed",
    required = true,
    hint = "a function variant -> model, such as function(v) return qlora.load(path, { quant = v.quant }) end" },
  run = { "callable", "a function variant, model -> table of measures", required = true,
    hint = "a function variant, model -> measures, such as { loss = result.last_loss }" },
  dir = { "string", "where sweep.jsonl gets a row after each variant, and sweep.txt the table" },
  lowest = { "string", "the measure whose lowest row is marked" },
  columns = { "table", "names of the columns to show, in order; default all" },
  seed = { "integer", "of each variant's adapters; default --seed, else 0" },
  verbose = { "boolean", "print what each variant prints", default = false },
  together = { "boolean", "train all variants at once: one pass over the base computes what each of them needs, and "
    .. "each gets the result that it gets alone, up to rounding. All have one base", default = false },
})

--- The variants as a list: given as one, or every combination of { key = { values } }, keys in alphabetical order.
local function expanded(variants)
  if #variants > 0 then return variants end
  local list = { {} }
  for _, key in ipairs(strict.sorted_keys(variants)) do
    if type(variants[key]) ~= "table" or #variants[key] == 0 then
      strict.fail("sweep: variants.%s must be a list of values, got %s", tostring(key), strict.show(variants[key]))
    end
    local longer = {}
    for _, one in ipairs(list) do
      for _, value in ipairs(variants[key]) do
        local copy = { [key] = value }
        for k, v in pairs(one) do copy[k] = v end
        longer[#longer + 1] = copy
      end
    end
    list = longer
  end
  if #list[1] == 0 and next(list[1]) == nil then strict.fail("sweep: there are no variants") end
  return list
end

--- The keys that any variant has; reading another is a slip.
local function keys_of(variants)
  local known = {}
  for i, variant in ipairs(variants) do
    if type(variant) ~= "table" then
      strict.fail("sweep: variant %d must be a table of settings, got %s", i, strict.show(variant))
    end
    for key in pairs(variant) do known[key] = true end
  end
  return known
end

-- What a variant has for a key that others have; equal to no value of a recipe.
local absent = {}

local function setting(variant, key)
  if variant[key] == nil then return absent end
  return variant[key]
end

local function shown(value) return value == absent and "absent" or strict.show(value) end

--- `variant` for reading: unknown keys are errors, and what is read is noted in `seen`.
local function reader(variant, known, seen)
  return setmetatable({}, {
    __index = function(_, key)
      if not known[key] then
        strict.fail("sweep: no variant has '%s'; they have %s", tostring(key),
          table.concat(strict.sorted_keys(known), ", "))
      end
      seen[key] = setting(variant, key)
      return variant[key]
    end,
    __pairs = function()
      for key in pairs(known) do seen[key] = setting(variant, key) end
      return next, variant, nil
    end,
  })
end

--- Loads a base when what the last one was made from has changed, else takes its adapters off.
local function bases(load, known)
  local model, made_from
  return function(variant)
    local fits = model ~= nil and not model.merged -- a merge changes the base, and so does LoftQ
    for key, value in pairs(made_from or {}) do
      if setting(variant, key) ~= value then fits = false end
    end
    if fits then
      model:remove_adapters()
    else
      model = nil -- the old base goes before the new one comes
      collectgarbage()
      made_from = {}
      model = load(reader(variant, known, made_from))
    end
    collectgarbage() -- adapters, gradients and optimizer state of the last variant
    return model
  end
end

local function measured(answer, variant)
  if type(answer) ~= "table" then
    strict.fail("sweep: run must return a table of measures such as { loss = result.last_loss }, got %s",
      strict.show(answer))
  end
  local row = {}
  for key, value in pairs(variant) do row[key] = value end
  for key, value in pairs(answer) do
    if row[key] ~= nil then
      strict.fail("sweep: run returned '%s', which is a setting of the variant; name the measure otherwise",
        tostring(key))
    end
    row[key] = value
  end
  return row
end

--- A row as JSON can hold it: what is no number, text or plain list goes in as its text.
local function storable(row)
  local copy = {}
  for key, value in pairs(row) do
    local kind = type(value)
    local plain = kind == "number" or kind == "string" or kind == "boolean"
      or kind == "table" and getmetatable(value) == nil
    copy[key] = plain and value or tostring(value)
  end
  return copy
end

--- The rows of all ranks in the order of the variants; what cannot be stored comes as its text. Ranks that cannot
--- reach each other keep their own.
local function gathered(own, count)
  local texts, rows = {}, table_of.rows(own.lowest)
  if not native.ranks().connected then
    print "sweep: the ranks are not connected, so each has its own rows only; with dir they are in sweep.rank-N.jsonl"
    for i = 1, count do rows[#rows + 1] = own[i] end
    return rows
  end
  for i = 1, count do
    if own[i] then texts[#texts + 1] = json.encode { number = i, row = storable(own[i]) } end
  end
  for _, text in ipairs(native.gather("end of the sweep", table.concat(texts, "\n"))) do
    for line in text:gmatch "[^\n]+" do
      local entry = json.decode(line)
      rows[entry.number] = entry.row
    end
  end
  return rows
end

--- The base of all variants, which must read the same settings of each.
local function shared_base(load, variants, known)
  local made_from = {}
  local model = load(reader(variants[1], known, made_from))
  for _, key in ipairs(strict.sorted_keys(made_from)) do
    for i, variant in ipairs(variants) do
      local value = setting(variant, key)
      if value ~= made_from[key] then
        strict.fail("sweep: together trains all variants on one base, but base reads '%s', which is %s in variant 1 "
          .. "and %s in variant %d; leave together out, or make a sweep for each base", key,
          shown(made_from[key]), shown(value), i)
      end
    end
  end
  return model
end

--- Refuses what sweeps one after another can do and this cannot.
local function check_together(ranks)
  if ranks.size > 1 then
    strict.fail("sweep: together trains all variants in one process, and there are %d ranks; leave together out, and "
      .. "they share the variants", ranks.size)
  end
  if type(native.options.resume) == "string" then
    strict.fail("sweep: together has a run directory for each variant; give --resume without a directory, and each "
      .. "goes on in the last of its own")
  end
end

--- All variants at once; `note` gets the row of each.
local function train_together(o, variants, known, note)
  local model, bodies, began = shared_base(o.base, variants, known), {}, native.clock()
  for i, variant in ipairs(variants) do
    bodies[i] = function()
      native.seed(o.seed or native.options.seed or 0)
      return measured(o.run(reader(variant, known, {}), model), variant)
    end
  end
  lockstep.run(model, bodies, function(i, ok, answer)
    note(i, ok and answer or measured({ error = answer }, variants[i]), native.clock() - began)
  end)
end

--- What is shown by name must be in the rows.
local function check_shown(o, row)
  local function check(option, name)
    if row[name] ~= nil or name == "error" then return end
    strict.fail("sweep: %s names %s, which is neither a setting nor a measure of the first row; it has %s", option,
      strict.show(name), table.concat(strict.sorted_keys(row), ", "))
  end
  if o.lowest then check("lowest", o.lowest) end
  for _, name in ipairs(o.columns or {}) do check("columns", name) end
end

--- Runs the same experiment under several settings, in one process over one loaded base. The adapters of the last
--- variant are taken off before the next begins. Ranks share the variants; one that fails is then a row with its error.
--- With `together` the variants train at once, in one pass over the base: each has data, optimizer, run directory and
--- checkpoints of its own, and one that fails after the first pass is a row with its error.
--- @return Sweep the rows; printing it shows the table
--- @throws when a variant has no settings, when `base` or `run` reads a setting that no variant has, or when a
---   measure has the name of a setting
--- @example
--- local sweep = qlora.sweep {
---   variants = { rank = { 1, 2 } }, lowest = "bytes",
---   base = function() return qlora.load(qlora.resource "models/tiny") end,
---   run = function(v, model)
---     return { bytes = model:add_lora({ select = { "q_proj" }, rank = v.rank, quiet = true }).bytes }
---   end,
--- }
--- assert(sweep[1].bytes < sweep[2].bytes)
return function(options)
  local o = strict.options("sweep", options, schema)
  local variants = expanded(o.variants)
  local known = keys_of(variants)
  local base, rows = bases(o.base, known), table_of.rows(o.lowest)
  local quiet, stored, here = native.options.quiet, nil, native.ranks()
  if o.dir and not native.options.plan then
    o.dir = native.place_to_save(o.dir)
    native.mkdir(o.dir)
    stored = {}
  end
  if native.options.plan then
    print(("sweep: the plan is that of %s %d variants"):format(o.together and "all" or "the first of", #variants))
  end
  local is_checked = false
  --- Keeps the row of a variant, and stores all there are. The first one tells whether what is to be shown is there.
  local function note(i, row, seconds)
    row.seconds = seconds
    rows[i] = row
    if not is_checked and not row.error then
      is_checked = true
      check_shown(o, row)
    end
    if stored then -- whole after each row, so that a reader never finds half of one
      stored[i] = json.encode(storable(row)) .. "\n"
      local lines = {}
      for number = 1, #variants do lines[#lines + 1] = stored[number] end
      local name = here.size > 1 and ("sweep.rank-%d.jsonl"):format(here.rank) or "sweep.jsonl"
      native.write_file(o.dir .. "/" .. name, table.concat(lines))
    end
    if not quiet then print(("variant %d of %d done in %s"):format(i, #variants, format.seconds(row.seconds))) end
  end
  if o.together then
    check_together(here)
    if not native.options.plan then native.options.quiet = quiet or not o.verbose end
    local ok, message = pcall(train_together, o, variants, known, note)
    native.options.quiet = quiet
    if not ok then error(message, 0) end
  end
  for i, variant in ipairs(o.together and {} or variants) do
    if (i - 1) % here.size == here.rank then
      native.seed(o.seed or native.options.seed or 0) -- the same initial adapters wherever the shapes agree
      local began, seen = native.clock(), {}
      if not native.options.plan then native.options.quiet = quiet or not o.verbose end
      native.apart(true)
      local ok, row = pcall(function()
        return measured(o.run(reader(variant, known, seen), base(variant)), variant)
      end)
      native.apart(false)
      native.options.quiet = quiet
      if not ok then
        if here.size == 1 or type(row) == "table" then error(row, 0) end
        row = measured({ error = row }, variant) -- the rows of the others are not lost
      end
      note(i, row, native.clock() - began)
    end
  end
  if here.size > 1 then rows = gathered(rows, #variants) end
  rows.columns = o.columns or table_of.columns(known, rows)
  if not quiet then print(rows) end
  if stored and here.rank == 0 then
    if here.size > 1 and here.connected then
      for i, row in ipairs(rows) do stored[i] = json.encode(storable(row)) .. "\n" end
      native.write_file(o.dir .. "/sweep.jsonl", table.concat(stored))
    end
    native.write_file(o.dir .. "/sweep.txt", tostring(rows) .. "\n")
    if not quiet then print("stored in " .. o.dir) end
  end
  return rows
end
