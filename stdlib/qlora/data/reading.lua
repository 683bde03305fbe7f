--- Records -> samples. A record that has nothing to learn from is left out and counted; a wrong one is an error that
--- names it and where it stands, or with skip_invalid left out and counted too.
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"
local fields = require "qlora.data.fields"
local mapping = require "qlora.data.mapping"
local options_of = require "qlora.data.options"
local samples = require "qlora.data.samples"

local traceback, here = debug.traceback, debug.getinfo(1, "S").short_src
local library = here:match "^(.*)data/reading%.lua$" or here

local reading = {}

--- Names a record: `record 7 (train.jsonl:9)`; `origin` = { path =, lines = of each record }, nil for a table.
function reading.place(origin, number)
  local line = origin and origin.lines and origin.lines[number]
  return line and ("record %d (%s:%d)"):format(number, origin.path, line) or ("record %d"):format(number)
end

local spans_are = "a list of spans such as { { text = prompt }, { text = answer, train = true } }"

--- `place()` names the record.
local function check_spans(spans, place)
  local is_span = type(spans) == "table" and spans.text ~= nil
  if is_span or not fields.is_list(spans) then
    local is_record = type(spans) == "table" and not is_span
    strict.fail("data.load: the format gave %s for %s, expected %s",
      is_span and "one span" or strict.show(spans), place(),
      spans_are .. (is_record and "; a function that makes records of records is an option of its own, map" or ""))
  end
  for i, span in ipairs(spans) do
    if type(span) ~= "table" or type(span.text) ~= "string" then
      strict.fail("data.load: span %d of %s needs a text, expected %s", i, place(), spans_are)
    end
    for key, value in pairs(span) do
      local option = options_of.span[key]
      if not option or type(value) ~= option[1] then
        strict.options(("data.load: span %d of %s"):format(i, place()), span, options_of.span)
      end
    end
  end
end

--- Whether an error is not about the record: a program that ends, Ctrl-C, no memory left.
local function ends_all(message)
  return type(message) ~= "string" or message:find("not enough memory", 1, true) ~= nil
end

--- What a message handler makes of an error inside a format: with a function of the recipe, where it came from. Level 2
--- is what calls handlers (calls.c).
local function explained(message, is_own)
  if ends_all(message) or not is_own then return message end
  local frames, is_recipe = {}, false
  for frame in traceback("", 3):gmatch "\n\t([^\n]*)" do
    if frame:sub(1, #here) == here then break end -- below are this library and the recipe's call of it
    if frame:sub(1, #library) ~= library then
      frames[#frames + 1], is_recipe = "\n\t" .. frame, is_recipe or frame:sub(1, 3) ~= "[C]"
    end
  end
  return is_recipe and message .. "\nstack traceback:" .. table.concat(frames) or message
end

--- An error without the place of the caller in front, which is put there again.
local function without_caller(message)
  local position = strict.caller()
  return message:sub(1, #position) == position and message:sub(#position + 1) or message
end

--- true and the results of `f`, or false and what is wrong with record `number`, which is an error unless
--- `o.skip_invalid`. `is_own`: `f` calls a function of the recipe.
local function attempted(number, o, is_own, f, ...)
  local results = table.pack(xpcall(f, function(message) return explained(message, is_own) end, ...))
  local ok, message = results[1], results[2]
  if ok then return table.unpack(results, 1, results.n) end
  if ends_all(message) then error(message, 0) end
  message = without_caller(message)
  -- what check_spans says names the record itself
  local text = message:find("^data%.load: ") and message
    or ("data.load: %s: %s"):format(reading.place(o.origin, number), message)
  if not o.skip_invalid then strict.fail("%s", text) end
  return false, text:match "^data%.load: ([^\n]*)"
end

--- The first `count` records as `o.map` makes them, and the fates of those that it makes none of: true for one that is
--- left out, or what is wrong with it.
function reading.mapped(records, count, o)
  mapping.check_used(o.map, records, count)
  local list, fates, kept = {}, {}, 0
  for i = 1, count do
    local ok, record = attempted(i, o, type(o.map) == "function", mapping.one, o.map, records[i])
    if ok and record then list[i], kept = record, kept + 1
    else list[i], fates[i] = {}, ok or record end
  end
  if kept == 0 then
    strict.fail("data.load: nothing to train on: map left out all %d records", count)
  end
  return list, fates
end

--- A field of a record that its format does not read and that nearly spells another one, which the record lacks; nil
--- without one.
local function slip_of(format, record, lacked)
  if record[lacked] ~= nil then return nil end
  local read, others = fields.set(fields.marks), {}
  for _, field in ipairs(fields.variant_of(format, record)) do read[field[1]] = true end
  for _, field in ipairs(strict.sorted_keys(record)) do
    if type(field) == "string" and not read[field] then others[#others + 1] = field end
  end
  return suggest.nearest(lacked, others, 1)[1]
end

--- Fills `list` with the samples of the first `count` records. `how` as in samples.from_spans. Returns the counts of
--- what was left out, the numbers of the records taken, and how many records have each field that was not read.
function reading.append(list, records, count, o)
  local format, name, context = o.format, o.name, o.context
  local counts = { records = count, incomplete = 0, untrained = 0, invalid = 0, unmapped = 0, too_long = 0, longest = 0,
    lacks = {}, slips = {} }
  local numbers, unread = {}, {}
  local i
  local function place() return reading.place(o.origin, i) end
  local function one()
    context.text = o.origin and o.origin.texts and o.origin.texts[i]
    local spans, lacks = format(records[i], context)
    if not spans then return nil, lacks end
    check_spans(spans, place)
    return samples.from_spans(spans, o.how)
  end
  for number = 1, count do
    i = number
    local fate = o.fates and o.fates[number]
    local ok, sample, lacks
    if type(fate) == "string" then ok, sample = false, fate
    elseif not fate then ok, sample, lacks = attempted(number, o, not name, one) end
    if fate == true then counts.unmapped = counts.unmapped + 1
    elseif not ok then
      counts.invalid = counts.invalid + 1
      counts.first_invalid = counts.first_invalid or sample
    elseif not sample then
      lacks = type(lacks) == "string" and lacks or "an answer"
      counts.incomplete, counts.lacks[lacks] = counts.incomplete + 1, (counts.lacks[lacks] or 0) + 1
      local slip = name and not counts.slips[lacks] and slip_of(name, records[i], lacks)
      if slip then counts.slips[lacks] = ("%s has '%s'"):format(place(), slip) end
    else
      if name then fields.note_unread(name, records[i], context.ignored, unread, context.is_own) end
      if sample.cut > 0 then counts.longest = math.max(counts.longest, #sample.ids + sample.cut) end
      if sample.cut > 0 and o.leave_out_long then counts.too_long = counts.too_long + 1
      elseif list:append(sample.ids, sample.trained, sample.cut) == 0 then counts.untrained = counts.untrained + 1
      else numbers[#numbers + 1] = i end
    end
  end
  return counts, numbers, unread
end

local function add(parts, count, text) if count > 0 then parts[#parts + 1] = ("%d %s"):format(count, text) end end

--- What was left out and why: `left out 3 of 1000 records: 2 without 'output', 1 without any trained token`; nil when
--- nothing was.
function reading.left_out(counts)
  local parts = {}
  for _, field in ipairs(strict.sorted_keys(counts.lacks or {})) do
    local slip = counts.slips[field]
    add(parts, counts.lacks[field], "without " .. (field == "an answer" and field or ("'%s'"):format(field))
      .. (slip and (" (%s)"):format(slip) or ""))
  end
  add(parts, counts.unmapped or 0, "by map")
  add(parts, counts.untrained, "without any trained token")
  add(parts, counts.too_long or 0, "longer than the limit")
  add(parts, counts.invalid or 0, ("wrong (the first: %s)"):format(counts.first_invalid or ""))
  if #parts == 0 then return nil end
  local total = counts.incomplete + counts.untrained + (counts.unmapped or 0) + (counts.too_long or 0)
    + (counts.invalid or 0)
  return ("left out %d of %d records: %s"):format(total, counts.records, table.concat(parts, ", "))
end

--- Why nothing is left to train on, and what to do; `counts` is nil where there are no records.
function reading.fail_empty(records, counts, o, origin)
  local file = origin and origin.path .. ": " or ""
  if #records == 0 then strict.fail("data.load: %sthere are no records", file) end
  local limit = o.max_length or o.target_max_length
  local more = ""
  if counts.incomplete > 0 and type(records[1]) == "table" then
    more = "; the first has " .. fields.names(records[1])
  end
  if counts.untrained > 0 and counts.longest == 0 then more = more .. "; mark what is trained with train = true" end
  if counts.longest > 0 then
    more = more .. ("; max_length = %s cuts the answers off: raise it, the longest sample has %d tokens"):format(
      tostring(limit), counts.longest)
  end
  local why = reading.left_out(counts) or "no record has two tokens"
  strict.fail("data.load: %snothing to train on: %s%s", file, why, more)
end

--- The line that names fields nobody read; nil when there are none.
function reading.unread_line(name, unread)
  local list = strict.sorted_keys(unread)
  if #list == 0 then return nil end
  for i, field in ipairs(list) do if field == "" then list[i] = "a field without a name" end end
  local shown = table.concat(list, ", ", 1, math.min(8, #list))
  return ("data: format %s does not read %s%s"):format(name, shown, #list > 8 and (" and %d more"):format(#list - 8)
    or "")
end

return reading
