--- Data sets: records read from a file or a table, turned into token samples with a mask of what is trained.
local native = require "qlora.native"
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"
local made = require "qlora.made"
local chat = require "qlora.chat"
local missing_marker = require "qlora.chat_markers"
local chat_model = require "qlora.chat_model"
local chat_source = require "qlora.chat_source"
local jinja = require "qlora.jinja"
local kept_source = require "qlora.chat_kept"
local dataset = require "qlora.data.dataset"
local detect = require "qlora.data.detect"
local fields = require "qlora.data.fields"
local files = require "qlora.data.files"
local formats = require "qlora.data.formats"
local mapping = require "qlora.data.mapping"
local options_of = require "qlora.data.options"
local reading = require "qlora.data.reading"
local repr = require "qlora.jinja.repr"
local samples = require "qlora.data.samples"

local data = { formats = formats.by_name, alpaca_prompt = formats.alpaca_prompt }

--- The format's function and its name (nil for a function of the recipe); nothing where no format is named.
local function resolve_format(format)
  if format == nil then return nil end
  if type(format) == "function" then return format, nil end
  local known = formats.by_name[format]
  if not known then
    local names = strict.sorted_keys(formats.by_name)
    strict.fail("data.load: unknown format \"%s\"%s", format,
      suggest.choice(format, names) or suggest.phrase(format, names))
  end
  return known, format
end

local function chat_context(o, name)
  local found, settings = chat.for_tokenizer(o.tokenizer)
  settings.train, settings.default_system = o.train, o.default_system
  settings.literal = o.literal
  local template = o.template
  if template == nil then template = found end
  if formats.own_end[name] and not template then chat_source.fail_without "data.load" end
  local is_own = chat_model.is(template)
  if is_own and formats.own_end[name] then
    local ok, problem = pcall(chat_model.check, template)
    if not ok then strict.fail("data.load: %s", problem) end
  end
  for _, key in ipairs { "template_options", "roles" } do
    if o[key] and not (is_own and (name == nil or formats.own_end[name])) then
      strict.fail("data.load: %s are for the model's own template, and none is used here", key)
    end
    settings[key] = o[key]
  end
  settings.ignore = o.ignore
  -- A template that the recipe names is its choice, and what the tokenizer lacks for it is said.
  return { template = template, chat = settings, tokenizer = o.tokenizer, ignored = fields.set(o.ignore),
    of_records = {}, is_own = is_own, missing = formats.own_end[name] and missing_marker(template, o.tokenizer) }
end

--- A plan needs no data file, only the length of its samples.
local function planned(o)
  local set = dataset.new(native.samples(), o.tokenizer, dataset.nothing_left_out)
  rawset(set, "max_length", o.max_length or (o.source_max_length or 0) + (o.target_max_length or 0))
  return set
end

-- The tokens of a window of format text.
local text_window = 1024

--- A wrong entry of `ignore` would ignore nothing, and one of `roles` allow nothing.
local function check_options(options)
  local o = strict.options("data.load", options, options_of.load)
  for key, of in pairs { ignore = "fields", roles = "roles" } do
    for _, name in ipairs(o[key] or {}) do
      if type(name) ~= "string" then
        strict.fail("data.load: option '%s' is a list of names of %s, got %s in it", key, of, strict.show(name))
      end
    end
  end
  if o.too_long == "leave_out" and not (o.max_length or o.source_max_length or o.target_max_length) then
    strict.fail("data.load: too_long = \"leave_out\" needs a max_length")
  end
  if o.too_long == "leave_out" and o.format == "text" then
    strict.fail("data.load: format text cuts one stream into windows; nothing in it is too long")
  end
  if o.stride and o.stride > (o.max_length or text_window) then
    strict.fail("data.load: a stride of %d leaves out tokens between windows of %d", o.stride,
      o.max_length or text_window)
  end
  if o.template_options then
    local ok, shown = pcall(function() return repr.repr(jinja.read(o.template_options)) end)
    if not ok then
      strict.fail("data.load: option 'template_options': %s", type(shown) == "table" and shown.jinja or shown)
    end
    o.shown_options = shown
  end
  if o.template ~= nil and o.tokenizer then
    o.named = type(o.template) == "string" and o.template
    o.template = chat_source.resolved(o.template, o.tokenizer, "data.load")
  end
  return o
end

--- What of the writing of chats an adapter does not keep; nil for nothing.
local function not_kept(o, name, context)
  local given = strict.sorted_keys(context.of_records)
  if given[1] then return table.concat(given, ", ") .. ", which records give the template" end
  if name then return nil end
  for _, key in ipairs { "template", "template_options", "default_system" } do
    if o[key] ~= nil then given[#given + 1] = key end
  end
  return given[1] and table.concat(given, ", ") .. ", since a function of the recipe writes them; model:note_training "
    .. "takes the Jinja source that does"
end

--- The format that is named, or the one found from the fields; tells what was found.
local function format_of(o, records, count, origin, say)
  if o.format == nil then
    local found, by = detect.format(records, count, function(i) return reading.place(origin, i) end)
    say(("data: format %s, found from the fields %s"):format(found, table.concat(by, ", ")))
    return resolve_format(found)
  end
  return resolve_format(o.format)
end

--- What of the options decides the samples, for the report of a run.
local function settings_of(o, name, origin)
  local settings = { data = origin and origin.file or "records of the recipe",
    format = name or "a function of the recipe" }
  for _, key in ipairs { "max_length", "source_max_length", "target_max_length", "train_on_source", "stride",
    "too_long", "limit", "train", "eos", "bos", "literal", "default_system" } do settings[key] = o[key] end
  settings.map = mapping.shown(o.map)
  settings.template_options = o.shown_options
  if o.template then
    settings.template = o.named or chat_model.is(o.template) and "the model's own" or "a function of the recipe"
  end
  return settings
end

--- Samples of records; `origin` = { path =, file =, lines = } where a file has them.
local function build(records, options, origin)
  local o = check_options(options)
  resolve_format(o.format) -- an unknown name is an error in a plan too
  mapping.check(o.map, o.format)
  -- A plan reads the data that are there; without them, or a tokenizer, max_length stands for their lengths.
  if native.options.plan and (not o.tokenizer or #records == 0) then return planned(o) end
  if not o.tokenizer then strict.fail("data.load: option 'tokenizer' is missing; pass model.tokenizer") end
  local function say(line) if not o.quiet and not native.options.quiet then print(line) end end
  if #records == 0 then reading.fail_empty(records, nil, o, origin) end
  local count = math.min(o.limit or #records, native.options.smoke and 8 or #records, #records)
  local fates
  if o.map then
    records, fates = reading.mapped(records, count, { map = o.map, origin = origin, skip_invalid = o.skip_invalid })
  end
  local format, name = format_of(o, records, count, origin, say)
  if o.stride and name ~= "text" then
    strict.fail("data.load: stride is of windows: format text has them, %s has not", name or "a function")
  end
  local context = chat_context(o, name)
  for _, key in ipairs { "template", "default_system" } do
    if o[key] and name and not formats.own_end[name] then
      say(("data: %s is not read: format %s has no chats"):format(key, name))
    end
  end
  local bos, eos, endless = samples.borders(o, formats.own_end[name], context.is_own)
  if bos and not context.is_own then context.bos_text = o.tokenizer.bos_token end
  context.has_cells = origin ~= nil and files.has_cells(origin.path)
  context.eos_text = eos and o.tokenizer.eos_token or ""
  local how = { tokenizer = o.tokenizer, bos = bos, eos = eos,
    literal = o.literal and not formats.own_end[name], train_on_source = o.train_on_source,
    source_max_length = o.source_max_length, target_max_length = o.target_max_length,
    max_length = name ~= "text" and o.max_length or nil }
  local list = native.samples()
  local counts, numbers, unread = reading.append(list, records, count, { format = format, name = name, how = how,
    context = context, origin = origin, skip_invalid = o.skip_invalid, leave_out_long = o.too_long == "leave_out",
    fates = fates })
  if name == "text" then list = list:windows(o.max_length or text_window, o.stride) end
  if #list == 0 then reading.fail_empty(records, counts, o, origin) end
  local set = made.note(dataset.new(list, o.tokenizer, counts, name ~= "text" and { numbers = numbers, origin = origin }
    or nil), settings_of(o, name, origin))
  if formats.own_end[name] then rawset(set, "chat_template", kept_source(context.template, o.tokenizer, o, bos)) end
  local not_read = name and reading.unread_line(name, unread)
  if not_read then say(not_read) end
  local unkept = not_kept(o, name, context)
  if unkept then say("data: an adapter trained on these does not keep " .. unkept) end
  say("data: " .. tostring(set))
  if context.missing then say("data: " .. context.missing .. ": the model reads it as pieces of text") end
  if endless then say "data: no sample ends with EOS, since the tokenizer has none" end
  return set
end

--- Samples of a list of records, as qlora.data.load makes them of a file.
--- @param records table list of tables
--- @param options? table those of qlora.data.load
--- @return Dataset the samples
--- @throws when a record is wrong, when none has an answer, or none trains a token
--- @example
--- local data = qlora.data.from_records({ { input = "Who?", output = " Mia." } }, { tokenizer = model.tokenizer })
--- assert(#data == 1)
function data.from_records(records, options)
  if not fields.is_list(records) then
    strict.fail("data.load: expected a list of records, got %s", type(records) == "table"
      and "a table that is none, or has a hole" or strict.show(records))
  end
  return build(records, options)
end

--- Reads a .json, .jsonl, .ndjson, .csv, .tsv or .txt file and makes samples of its records. One of the hub is fetched
--- where its cache lacks it, but not under --plan, --smoke and --sandbox: "hf://datasets/ORGANISATION/NAME/FILE.jsonl".
--- @param path string|table the file, or a list of records
--- @return Dataset the samples
--- @throws when there is no such file, when a record is wrong (with its line), when none has an answer, or none trains
---   a token
--- @example
--- local data = qlora.data.load("facts.jsonl",
---   { format = "input_output", tokenizer = model.tokenizer, max_length = 64 })
--- assert(#data == 10)
function data.load(path, options)
  if type(path) == "table" then return data.from_records(path, options) end
  if type(path) ~= "string" then
    strict.fail("data.load: expected a path or a list of records, got a %s", type(path))
  end
  if native.options.plan and not native.exists(path) then return build({}, options) end
  -- Checked before the file is read, which may take long.
  local o = check_options(options)
  local _, name = resolve_format(o.format)
  mapping.check(o.map, o.format)
  local limit = o.limit
  local file = path
  if path:match "^hf://" and not native.options.smoke then path = native.fetch(path) end
  if native.options.smoke then
    limit = math.min(limit or 8, 8)
    if not native.exists(path) then
      if o.format == nil and not o.map then name = "input_output" end
      return build(require "qlora.data.smoke".records(name, o.map), options)
    end
  end
  files.check(path)
  -- The model's own template sees nulls and the order of keys, which Lua's tables do not keep.
  local is_chat = (o.format == nil or formats.own_end[name]) and not o.map and o.tokenizer
    and chat_model.is(o.template or chat.for_tokenizer(o.tokenizer))
  local records, lines, texts = files.read(path, { limit = limit, texts = is_chat or nil })
  return build(records, options, { path = path, file = file, lines = lines, texts = texts })
end

strict.declare("qlora.data.batch", strict.native "batch")

--- A batch from token ids.
--- @param rows table list of { ids = {…}, labels = {…} }; labels default to the ids, -100 is not trained
--- @return Batch what model:loss takes
--- @throws when a row is empty or its labels have another length
--- @example assert(qlora.data.batch({ { ids = { 5, 6, 7 }, labels = { -100, 6, 7 } } }).trained == 2)
function data.batch(rows, options) return native.batch(rows, options) end

return strict.namespace("qlora.data", data)
