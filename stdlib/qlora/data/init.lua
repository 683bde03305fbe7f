--- Data sets: records read from a file or a table, turned into token samples with a mask of what is trained.
local native = require "qlora.native"
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"
local chat = require "qlora.chat"
local check_markers = require "qlora.chat_markers"
local formats = require "qlora.data.formats"
local options_of = require "qlora.data.options"
local samples = require "qlora.data.samples"
local batching = require "qlora.data.batching"
local random = require "qlora.data.random"

local data = { formats = formats.by_name, alpaca_prompt = formats.alpaca_prompt }

local Dataset = strict.class("Dataset", { __name = "dataset" }, {
  doc = "Token samples with a mask of what is trained: `#data` counts them, `data[i]` is { ids =, labels = }, printing "
    .. "it shows the counts.", receiver = "data",
  fields = { { "tokenizer", "Tokenizer", "the tokenizer they were made with" } },
})

function Dataset:__len() return #self.samples end

--- Sample `i` as { ids =, labels = }, nil after the last; other keys are methods.
function Dataset:__index(key)
  if type(key) == "number" then
    if key < 1 then strict.fail("data[%d]: samples are counted from 1, as lists in Lua; there are %d", key, #self) end
    if key > #self then return nil end
    local ids, labels = self.samples:row(key)
    return { ids = ids, labels = labels }
  end
  if Dataset[key] == nil then
    strict.fail("data has no '%s'%s", tostring(key), suggest.phrase(tostring(key), strict.sorted_keys(Dataset)))
  end
  return Dataset[key]
end

local function new(list, tokenizer, counts)
  return setmetatable({ samples = list, tokenizer = tokenizer, counts = counts }, Dataset)
end

--- The number of tokens of a sample.
--- @param i integer number of the sample, from 1
--- @return integer its tokens
--- @example assert(data:length(1) == #data[1].ids)
function Dataset:length(i) return self.samples:lengths()[i] end

Dataset.steps = batching.steps

--- Samples as one batch, for model:loss and model:nll.
--- @param numbers integer[] numbers of the samples, from 1
--- @return Batch the batch
--- @throws when there is no such sample
--- @example assert(data:batch({ 1, 2 }).rows == 2)
function Dataset:batch(numbers) return self.samples:batch(numbers) end

--- Counts of the data set.
--- @return table samples, tokens, trained, longest, mean, truncated, and records left out: incomplete, untrained
--- @example assert(data:stats().samples == #data)
function Dataset:stats()
  local s = self.samples:stats()
  s.samples = #self
  s.mean = s.samples > 0 and s.tokens / s.samples or 0
  for key, value in pairs(self.counts) do s[key] = value end
  return s
end

function Dataset:__tostring()
  local s = self:stats()
  local text = ("%d samples, %d tokens (%d trained), longest %d, mean %.0f"):format(
    s.samples, s.tokens, s.trained, s.longest, s.mean)
  if s.truncated > 0 then text = text .. ("; %d truncated"):format(s.truncated) end
  if s.incomplete > 0 then
    text = text .. ("; %d records without the fields of the format left out"):format(s.incomplete)
  end
  if s.untrained > 0 then text = text .. ("; %d samples without a trained token left out"):format(s.untrained) end
  return text
end

--- Two data sets of these samples, drawn at random.
--- @param at number fraction (below 1) or number of samples of the second one
--- @param seed? integer seed of the draw; 0 when left out
--- @return Dataset, Dataset the first and the second part
--- @throws when one of them would be empty
--- @example
--- local train, held_out = data:split(0.2)
--- assert(#train + #held_out == #data)
function Dataset:split(at, seed)
  if native.options.plan then return self, self end
  if not (strict.is_finite(at) and at > 0 and at < #self) then
    strict.fail("data:split: expected a fraction below 1 or a number of samples below %d, got %s", #self,
      strict.show(at))
  end
  if seed ~= nil and math.type(seed) ~= "integer" then
    strict.fail("data:split: the second argument is a seed, a whole number; got %s", strict.show(seed))
  end
  local count = at < 1 and math.max(1, math.floor(#self * at + 0.5)) or math.floor(at)
  local first, second = {}, {}
  for position, index in ipairs(random.permutation(#self, seed or 0, 0x5eed)) do
    local side = position <= #self - count and first or second
    side[#side + 1] = index
  end
  local none = { incomplete = 0, untrained = 0 }
  return new(self.samples:select(first), self.tokenizer, self.counts),
    new(self.samples:select(second), self.tokenizer, none)
end

--- Prints a sample with trained tokens in green and the others dimmed; without a terminal, trained parts in [[…]].
--- @param i? integer number of the sample; 1 when left out
--- @throws when there is no such sample
--- @example data:preview(1)
function Dataset:preview(i)
  if native.options.plan then return end
  local number = i or 1
  if math.type(number) ~= "integer" or number < 1 or number > #self then
    strict.fail("data:preview: no sample %s; there are %d", tostring(i), #self)
  end
  local ids, labels = self.samples:row(number)
  local colour, parts, from = native.isatty(1), {}, 1
  while from <= #ids do
    local to, on = from, labels[from] ~= -100
    while to < #ids and (labels[to + 1] ~= -100) == on do to = to + 1 end
    local part, earlier = table.move(ids, from, to, 1, {}), table.move(ids, 1, from - 1, 1, {})
    local text = self.tokenizer:decode(part, { after = earlier })
    if colour then parts[#parts + 1] = (on and "\27[32m" or "\27[2m") .. text .. "\27[0m"
    else parts[#parts + 1] = on and "[[" .. text .. "]]" or text end
    from = to + 1
  end
  print(("sample %d: %d tokens, %d trained"):format(number, #ids, self.samples:trained(number)))
  print(table.concat(parts))
end

--- The format's function, its name (nil for a function of the recipe), and what the format may need to know.
local function resolve_format(o)
  local format = o.format or options_of.load.format.default
  if type(format) == "function" then return format, nil end
  local known = formats.by_name[format]
  if not known then
    strict.fail("data.load: unknown format \"%s\"%s", format, suggest.phrase(format,
      strict.sorted_keys(formats.by_name)))
  end
  return known, format
end

local function chat_context(o, name)
  local found, settings = chat.for_tokenizer(o.tokenizer)
  settings.train, settings.default_system = o.train, o.default_system or settings.default_system
  settings.literal = o.literal
  local template = o.template or found
  if formats.own_end[name] and not template then
    strict.fail("data.load: the tokenizer has no chat template known here; name one with `template =` (%s)",
      table.concat(strict.sorted_keys(chat.templates), ", "))
  end
  if formats.own_end[name] then check_markers("data.load", template, o.tokenizer) end
  local is_own = template ~= nil and template == found
  return { template = template, chat = settings, tokenizer = o.tokenizer, is_own = is_own }
end

local spans_are = "a list of spans such as { { text = prompt }, { text = answer, train = true } }"

local function check_spans(spans, index)
  local is_span = type(spans) == "table" and spans.text ~= nil
  if type(spans) ~= "table" or is_span then
    strict.fail("data.load: the format gave %s for record %d, expected %s",
      is_span and "one span" or strict.show(spans), index, spans_are)
  end
  for i, span in ipairs(spans) do
    if type(span) ~= "table" or type(span.text) ~= "string" then
      strict.fail("data.load: span %d of record %d needs a text, expected %s", i, index, spans_are)
    end
    for key in pairs(span) do
      if not options_of.span[key] then
        strict.options(("data.load: span %d of record %d"):format(i, index), span, options_of.span)
      end
    end
  end
end

--- Why nothing is left to train on, and what to do.
local function fail_empty(records, o, name, counts, context)
  if #records == 0 then strict.fail("data.load: there are no records") end
  local reasons = {}
  if counts.incomplete > 0 then
    local fields, fitting = {}, {}
    context.template = context.template or "chatml" -- any template tells whether a record is a conversation
    for _, key in ipairs(strict.sorted_keys(records[1])) do fields[#fields + 1] = tostring(key) end
    for _, other in ipairs(strict.sorted_keys(formats.by_name)) do
      local ok, spans = pcall(formats.by_name[other], records[1], context)
      if ok and spans then fitting[#fitting + 1] = other end
    end
    reasons[#reasons + 1] = ("%d lack what %s needs%s; the first has %s%s"):format(counts.incomplete,
      name and "format " .. name or "the format function", counts.wanted and (" ('%s')"):format(counts.wanted) or "",
      table.concat(fields, ", "),
      #fitting > 0 and ", which fits format " .. table.concat(fitting, " or ") or "")
  end
  if counts.untrained > 0 then
    reasons[#reasons + 1] = ("%d train no token%s"):format(counts.untrained, counts.longest > 0
      and ("; max_length = %s cuts the answers off: raise it, the longest sample has %d tokens"):format(
        tostring(o.max_length or o.target_max_length), counts.longest) or "; mark what is trained with train = true")
  end
  strict.fail("data.load: nothing to train on: of %d records %s", #records, table.concat(reasons, ", "))
end

--- A plan needs no data file, only the length of its samples.
local function planned(o)
  local set = new(native.samples(), o.tokenizer, { incomplete = 0, untrained = 0 })
  rawset(set, "max_length", o.max_length or (o.source_max_length or 0) + (o.target_max_length or 0))
  return set
end

--- Samples of a list of records, as qlora.data.load makes them of a file.
--- @param records table list of tables
--- @param options? table those of qlora.data.load
--- @return Dataset the samples
--- @throws when no record has what the format needs, or none trains a token
--- @example
--- local data = qlora.data.from_records({ { input = "Who?", output = " Mia." } }, { tokenizer = model.tokenizer })
--- assert(#data == 1)
function data.from_records(records, options)
  local o = strict.options("data.load", options, options_of.load)
  local format, name = resolve_format(o)
  if native.options.plan then return planned(o) end
  if not o.tokenizer then strict.fail("data.load: option 'tokenizer' is missing; pass model.tokenizer") end
  local context = chat_context(o, name)
  local bos, eos, endless = samples.borders(o, formats.own_end[name], context.is_own)
  local how = { tokenizer = o.tokenizer, bos = bos, eos = eos,
    literal = o.literal and not formats.own_end[name], train_on_source = o.train_on_source,
    source_max_length = o.source_max_length, target_max_length = o.target_max_length,
    max_length = name ~= "text" and o.max_length or nil }
  local limit = math.min(o.limit or #records, native.options.smoke and 8 or #records)
  local list, counts = native.samples(), { incomplete = 0, untrained = 0, longest = 0 }
  for i = 1, math.min(limit, #records) do
    local spans, field = format(records[i], context)
    if spans then
      check_spans(spans, i)
      local sample = samples.from_spans(spans, how)
      if list:append(sample.ids, sample.trained, sample.cut) == 0 then
        counts.untrained = counts.untrained + 1
        if sample.cut > 0 then counts.longest = math.max(counts.longest, #sample.ids + sample.cut) end
      end
    else
      counts.incomplete, counts.wanted = counts.incomplete + 1, counts.wanted or field
    end
  end
  if name == "text" then list = list:windows(o.max_length or 1024) end
  if #list == 0 then fail_empty(records, o, name, counts, context) end
  counts.longest, counts.wanted = nil, nil -- for the message only
  local set = new(list, o.tokenizer, counts)
  if not o.quiet and not native.options.quiet then
    print("data: " .. tostring(set))
    if endless then print("data: no sample ends with EOS, since the tokenizer has none") end
  end
  return set
end

local function fail_missing(path)
  local folder, name = path:match("^(.*)/([^/]*)$")
  folder, name = folder or ".", name or path
  local near = native.exists(folder) and suggest.nearest(name, native.list_dir(folder), 1)[1]
  strict.fail("data.load: there is no file %s%s; a path starts at the folder where qlora-run was started", path,
    near and (" (did you mean %s?)"):format(folder == "." and near or folder .. "/" .. near) or "")
end

--- Reads a .json, .jsonl, .csv, .tsv or .txt file and makes samples of its records.
--- @param path string|table the file, or a list of records
--- @return Dataset the samples
--- @throws when there is no such file, when no record has what the format needs, or none trains a token
--- @example
--- local data = qlora.data.load("facts.jsonl",
---   { format = "input_output", tokenizer = model.tokenizer, max_length = 64 })
--- assert(#data == 10)
function data.load(path, options)
  if type(path) == "table" then return data.from_records(path, options) end
  if type(path) ~= "string" then
    strict.fail("data.load: expected a path or a list of records, got a %s", type(path))
  end
  if native.options.plan then return data.from_records({}, options) end
  -- Checked before the file is read, which may take long.
  local limit = strict.options("data.load", options, options_of.load).limit
  resolve_format(options or {})
  if native.options.smoke then
    limit = math.min(limit or 8, 8)
    if not native.exists(path) then return data.from_records(require "qlora.data.smoke".records(), options) end
  end
  if not native.exists(path) then fail_missing(path) end
  return data.from_records(native.read_records(path, { limit = limit }), options)
end

strict.declare("qlora.data.batch", strict.native "batch")

--- A batch from token ids.
--- @param rows table list of { ids = {…}, labels = {…} }; labels default to the ids, -100 is not trained
--- @return Batch what model:loss takes
--- @throws when a row is empty or its labels have another length
--- @example assert(qlora.data.batch({ { ids = { 5, 6, 7 }, labels = { -100, 6, 7 } } }).trained == 2)
function data.batch(rows, options) return native.batch(rows, options) end

return strict.namespace("qlora.data", data)
