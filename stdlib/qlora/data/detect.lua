--- The format of records that name none: the one whose fields all of them have.
local strict = require "qlora.strict"
local typed = require "qlora.typed"
local fields = require "qlora.data.fields"
local mapping = require "qlora.data.mapping"
local pairs_of = require "qlora.data.pairs"

local detect = {}

-- Fields that tell a format; `without` are fields that belong to another one, `of_messages` says whether the second is
-- a list of messages.
local shapes = {
  { "chat", { "messages" } }, { "sharegpt", { "conversations" } }, { "alpaca", { "instruction", "output" } },
  { "self_instruct", { "instances" } }, { "completion", { "prompt", "completion" }, of_messages = false },
  { "chat", { "prompt", "completion" }, of_messages = true },
  { "input_output", { "input", "output" }, without = { "instruction" } },
}

local function has_all(record, names)
  for _, name in ipairs(names) do if record[name] == nil then return false end end
  return true
end

--- The formats whose fields a record has, in the order of `shapes`.
local function fitting(record)
  local found = {}
  for _, shape in ipairs(shapes) do
    local foreign = false
    for _, name in ipairs(shape.without or {}) do foreign = foreign or not fields.is_empty(record[name]) end
    local fits = not foreign and has_all(record, shape[2])
    if fits and shape.of_messages ~= nil then fits = pairs_of.is_messages(record.completion) == shape.of_messages end
    if fits then found[#found + 1] = shape end
  end
  return found
end

local function names(found)
  local list = {}
  for i, shape in ipairs(found) do list[i] = ("%s (%s)"):format(shape[1], table.concat(shape[2], ", ")) end
  return table.concat(list, " or ")
end

local function named() return typed("format", "NAME") end

local function ask(record, place)
  local more = ""
  local only = next(record)
  if only and next(record, only) == nil and type(record[only]) == "table" then
    more = ("; the records may be what '%s' holds: give a file of that list alone"):format(only)
  elseif only and next(record, only) == nil and tostring(only):find "[;\t]" then
    more = "; that is one field: a .csv has commas between fields, a .tsv tabs"
  elseif record.chosen ~= nil then
    more = ("; to train what was chosen: %s (recipe dpo.lua trains on pairs)"):format(
      pairs_of.remedy(record) or "map =")
  elseif record.text ~= nil then
    more = ("; each text a sample: %s; one stream cut into windows: %s"):format(
      typed("format", "completion"), typed("format", "text"))
  end
  strict.fail("data.load: no format is named, and the fields of %s (%s) tell none%s; name one with %s, rename "
    .. "fields with %s, or give a function record -> spans", place, fields.names(record), more, named(),
    mapping.guess(record) or "map =")
end

--- The shapes that stand in both lists.
local function common(one, other)
  local both = {}
  for _, shape in ipairs(one) do
    for _, found in ipairs(other) do if found == shape then both[#both + 1] = shape end end
  end
  return both
end

--- Those of several shapes whose fields no record leaves empty: `"conversations": []` beside messages tells nothing.
local function never_empty(shapes_of_all, records, count)
  local kept = {}
  for _, shape in ipairs(shapes_of_all) do
    local is_kept = true
    for i = 1, count do
      local record = records[i]
      if type(record) == "table" and has_all(record, shape[2]) then
        for _, name in ipairs(shape[2]) do is_kept = is_kept and not fields.is_empty(record[name]) end
      end
    end
    if is_kept then kept[#kept + 1] = shape end
  end
  return kept
end

--- The format that the first `count` records fit, and the fields that tell it. Records that fit none do not count,
--- unless none does: an answer may be missing. `place(i)` names a record.
function detect.format(records, count, place)
  local fits, first
  for i = 1, count do
    local found = type(records[i]) == "table" and fitting(records[i]) or {}
    if found[1] then
      local both = fits and common(fits, found) or found
      if not both[1] then
        strict.fail("data.load: no format is named; %s fits %s, but %s %s; name one with %s", place(first),
          names(fits), place(i), names(found), named())
      end
      fits, first = both, first or i
    end
  end
  if fits and #fits > 1 then
    local kept = never_empty(fits, records, count)
    if #kept ~= 1 then
      strict.fail("data.load: no format is named, and %s fits %s; name one with %s", place(first), names(fits), named())
    end
    fits = kept
  end
  local chosen = fits and fits[1]
  if not chosen then
    if type(records[1]) ~= "table" then
      strict.fail("data.load: %s is %s, expected a table of fields", place(1), fields.shown(records[1]))
    end
    ask(records[1], place(1))
  end
  return chosen[1], chosen[2]
end

return detect
