--- What each field of a record does, in one place: formats, messages of a chat and docs/records.md are made of it.
local strict = require "qlora.strict"
local pairs_of = require "qlora.data.pairs"

local fields = {}

--- What a format reads: lists of variants { field, kind }, the first field being the one that tells the variants apart.
--- A record takes the first variant whose first field it has. Kinds:
---   answer    text that is trained; a record without it has nothing to learn from
---   text      text that must be there, "" included
---   optional  text that may be absent
---   messages  a list of messages
---   turns     a list of { question, answer }, may be absent
---   instances a list of one { input =, output = }
fields.formats = {
  alpaca = { { { "output", "answer" }, { "instruction", "text" }, { "input", "optional" }, { "system", "optional" },
    { "history", "turns" } } },
  chat = { { { "messages", "messages" }, { "system", "optional" } },
    { { "completion", "messages" }, { "prompt", "messages" }, { "system", "optional" } } },
  chip2 = { { { "text", "answer" } } },
  completion = { { { "completion", "answer" }, { "prompt", "text" } }, { { "text", "answer" } } },
  hh_rlhf = { { { "chosen", "answer" } } },
  input_output = { { { "output", "answer" }, { "input", "text" } } },
  longform = { { { "output", "answer" }, { "input", "text" } } },
  oasst1 = { { { "text", "answer" } } },
  self_instruct = { { { "instances", "instances" }, { "instruction", "text" } },
    { { "completion", "answer" }, { "prompt", "text" } } },
  sharegpt = { { { "conversations", "messages" }, { "system", "optional" } },
    { { "messages", "messages" }, { "system", "optional" } } },
  text = { { { "text", "answer" } } },
}

--- Marks of what is trained, on a record and on a message.
fields.marks = { "weight", "train", "training" }

local no_tools = "no template here writes tools"
local text_only = "models here read text alone"
local seen = "it would change what the model sees"
local by_part = "parts of a message cannot be marked"
local no_reasoning = "no template here writes reasoning"

local answering = { "alpaca", "chat", "sharegpt", "completion", "self_instruct", "input_output", "longform", "hh_rlhf" }

--- Fields of a record that would change training and that no format reads: an error unless they are empty. The third
--- item lists the only formats it holds for; the others name the field as unread.
fields.refused = {
  { "system", seen }, { "history", seen }, { "system_prompt", seen }, { "system_message", seen },
  { "context", seen, answering }, { "suffix", seen, answering },
  { "instruction", seen, { "chat", "sharegpt", "completion", "self_instruct", "input_output", "longform", "hh_rlhf" } },
  { "input", seen, { "chat", "sharegpt", "completion", "self_instruct", "hh_rlhf" } },
  { "prompt", seen, { "input_output", "longform", "hh_rlhf" } }, { "question", seen, { "hh_rlhf" } },
  { "query", seen, { "hh_rlhf" } },
  { "tools", no_tools }, { "functions", no_tools }, { "function_call", no_tools }, { "tool_calls", no_tools },
  { "tool_choice", no_tools }, { "documents", seen }, { "chat_template", seen }, { "chat_template_kwargs", seen },
  { "enable_thinking", seen }, { "reasoning_content", no_reasoning }, { "thinking", no_reasoning },
  { "image", text_only }, { "images", text_only }, { "audio", text_only }, { "audios", text_only },
  { "video", text_only }, { "videos", text_only },
}

--- Fields of a message that are read; of each pair the second is ShareGPT's name.
fields.message = { "role", "from", "content", "value", "weight", "train", "training" }

--- Fields of a message that no template here can say: an error unless they are empty.
fields.message_refused = {
  { "tool_calls", no_tools }, { "tool_call_id", no_tools }, { "function_call", no_tools }, { "tools", no_tools },
  { "functions", no_tools }, { "name", "no template here writes names" },
  { "reasoning_content", no_reasoning }, { "reasoning", no_reasoning }, { "thinking", no_reasoning },
  { "train_detail", by_part }, { "training_detail", by_part }, { "loss", "write train = true or false" },
  { "mask", "write train = true or false" }, { "loss_mask", "write train = true or false" },
  { "loss_weight", "write train = true or false" },
  { "prefix", "no template here continues a message" }, { "refusal", "write it as content" },
  { "image", text_only }, { "images", text_only }, { "audio", text_only }, { "audios", text_only },
  { "video", text_only }, { "videos", text_only },
}

--- Those of them that no template of a model reads either: marks of other tools.
fields.never_read = { train_detail = true, training_detail = true, loss = true, mask = true, loss_mask = true,
  loss_weight = true }

--- Fields of a record that go to the model's own template.
fields.of_model = { tools = true, documents = true, chat_template_kwargs = true, enable_thinking = true }

--- A value in an error: texts in quotes and not at length, lists with their number.
function fields.shown(value)
  if type(value) == "string" then
    return strict.show(#value > 40 and value:sub(1, utf8.offset(value, 0, 41) - 1) .. "…" or value)
  end
  if type(value) ~= "table" then return strict.show(value) end
  return #value > 0 and ("a list of %d"):format(#value) or next(value) == nil and "empty" or "a table"
end

--- The names of a record's fields, for messages.
function fields.names(record)
  local names = {}
  for i, key in ipairs(strict.sorted_keys(record)) do names[i] = tostring(key) end
  return #names > 0 and table.concat(names, ", ") or "no fields"
end

--- Refused fields whose false says something: not to train.
fields.false_says = { loss = true, mask = true, loss_mask = true, loss_weight = true }

--- Whether a field says nothing: absent, "", false or an empty list.
function fields.is_empty(value)
  return value == nil or value == "" or value == false or type(value) == "table" and next(value) == nil
end

--- A list without holes and without names; JSON's null in an array is a hole.
function fields.is_list(value)
  if type(value) ~= "table" then return false end
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  for i = 1, count do
    if value[i] == nil then return false end
  end
  return true
end

--- What a cell of a CSV or TSV file says where a number or a flag is meant; other texts stay what they are.
local function from_cell(value)
  local text = type(value) == "string" and value:match "^%s*(.-)%s*$":lower()
  if text == "true" or text == "false" then return text == "true" end
  return text and text:find "^[%d.eE+-]+$" and tonumber(text) or value
end

--- What the marks of a record or message say: true, false, or nil without a mark. 1 and true train, 0 and false do not.
--- `has_cells`: the values are cells of a table, all of them texts.
function fields.mark(holder, what, ignored, has_cells)
  local result, from
  for _, name in ipairs(fields.marks) do
    local value = holder[name]
    if value ~= nil and value ~= "" and not ignored[name] then -- "" is an empty cell of a table
      local said = value
      if has_cells then said = from_cell(value) end
      local train = said == 1 or said == true
      if not train and said ~= 0 and said ~= false then
        strict.fail("%s'%s' is %s, expected true or false, 1 or 0; a loss has no other weights here", what, name,
          fields.shown(value))
      end
      if from and train ~= result then strict.fail("%s'%s' and '%s' say opposite things", what, from, name) end
      result, from = train, name
    end
  end
  return result, from
end

--- What to do about a field that is not read. `is_request`: a client of `serve` sent it, who has no options.
function fields.remedy(name, is_request)
  return is_request and "remove it" or ('remove it, or say ignore = { "%s" }'):format(name)
end

--- An error for the first field in `refused` that `holder` has. `more` is what else to do about it.
function fields.refuse(holder, what, refused, ignored, applies, more)
  for _, entry in ipairs(refused) do
    local name, why = entry[1], entry[2]
    local says = not fields.is_empty(holder[name]) or holder[name] == false and fields.false_says[name]
    if says and not ignored[name] and (not applies or applies(entry)) then
      strict.fail("%s'%s' is %s, which is not read: %s; %s", what, name, fields.shown(holder[name]), why,
        fields.remedy(name) .. (more or ""))
    end
  end
end

--- The names in a list as a set.
function fields.set(names)
  local set = {}
  for _, name in ipairs(names or {}) do set[name] = true end
  return set
end

local nothing = {}

--- The variant of a format that a record takes.
function fields.variant_of(format, record)
  for _, variant in ipairs(fields.formats[format]) do
    if record[variant[1][1]] ~= nil then return variant end
  end
  return fields.formats[format][1]
end

local function check_list(name, value, what)
  if not fields.is_list(value) then
    strict.fail("'%s' is %s, expected %s", name, type(value) == "table" and "no list, or has a null in it"
      or fields.shown(value), what)
  end
end

--- Each kind: whether the value may be absent, and what is wrong with one that is there.
local function check_text(name, value, record)
  if type(value) == "string" then return end
  local remedy = record and pairs_of.is_messages(value) and pairs_of.remedy(record)
  strict.fail("'%s' is %s, expected a text%s", name, fields.shown(value),
    remedy and "; to train a list of messages: " .. remedy or "")
end
local kinds = {
  answer = { absent = true, check = check_text },
  text = { check = check_text },
  optional = { absent = true, check = check_text },
  messages = { check = function(name, value)
    check_list(name, value, "a list of messages")
    if #value == 0 then strict.fail("'%s' is empty", name) end
  end },
  turns = { absent = true, check = function(name, value)
    check_list(name, value, "a list of { question, answer }")
    for i, turn in ipairs(value) do
      if not fields.is_list(turn) or #turn ~= 2 or type(turn[1]) ~= "string" or type(turn[2]) ~= "string" then
        strict.fail("'%s[%d]' is %s, expected two texts, question and answer", name, i, fields.shown(turn))
      end
    end
  end },
  instances = { check = function(name, value)
    check_list(name, value, "a list of { input =, output = }")
    if #value ~= 1 or type(value[1]) ~= "table" then
      strict.fail("'%s' has %d entries, expected one { input =, output = }; a record is one sample", name, #value)
    end
    for _, part in ipairs { "input", "output" } do
      if value[1][part] ~= nil then check_text(name .. "[1]." .. part, value[1][part]) end
    end
  end },
}

--- The formats that read the fields of a record, by name.
function fields.fitting(record)
  local found = {}
  for _, format in ipairs(strict.sorted_keys(fields.formats)) do
    local variant, fits = fields.variant_of(format, record), true
    for i, field in ipairs(variant) do
      local value, kind = record[field[1]], kinds[field[2]]
      if value == nil then fits = fits and i > 1 and kind.absent or false
      else fits = fits and pcall(kind.check, field[1], value) end
    end
    if fits then found[#found + 1] = format end
  end
  return found
end

--- Checks a record against what a format reads.
--- Returns true; or false and what the format gives instead of spans: nil and the name of the answer that is not there,
--- or {} for a record that is marked as not trained. Everything else that is missing or wrong is an error.
function fields.check(format, record, context)
  local ignored = context and context.ignored or nothing
  if type(record) ~= "table" then strict.fail("it is %s, expected a table of fields", fields.shown(record)) end
  local variant, read = fields.variant_of(format, record), {}
  for _, field in ipairs(variant) do
    local name, kind = field[1], kinds[field[2]]
    local value = record[name]
    read[name] = true
    if value ~= nil then kind.check(name, value, record)
    elseif not kind.absent then
      local fitting = fields.fitting(record)
      strict.fail("format %s needs '%s'; the record has %s%s", format, name, fields.names(record),
        #fitting > 0 and ", which fits format " .. table.concat(fitting, " or ") or "")
    end
  end
  if not ignored.label and fields.set(answering)[format] then
    local label = record.label
    if context and context.has_cells then label = from_cell(label) end
    pairs_of.refuse_label(label, type(record.label) == "string")
  end
  local remedy = format == "hh_rlhf" and pairs_of.remedy(record)
  fields.refuse(record, "", fields.refused, ignored, function(entry)
    if read[entry[1]] or context and context.is_own and fields.of_model[entry[1]] then return false end
    if not entry[3] then return true end
    for _, name in ipairs(entry[3]) do if name == format then return true end end
    return false
  end, remedy and "; to train what was chosen behind it: " .. remedy)
  if fields.mark(record, "", ignored, context and context.has_cells) == false then return false, {} end
  local first = variant[1]
  if first[2] == "answer" and fields.is_empty(record[first[1]]) then return false, nil, first[1] end
  return true
end

--- Counts in `unread` the fields of a record that its format did not read, as `id` or `messages[].id`.
function fields.note_unread(format, record, ignored, unread, is_own)
  local known, lists = fields.set(fields.marks), {}
  for name in pairs(is_own and fields.of_model or {}) do known[name] = true end
  for _, field in ipairs(fields.variant_of(format, record)) do
    known[field[1]] = true
    if field[2] == "messages" then lists[#lists + 1] = field[1] end
  end
  for name, value in pairs(record) do
    if not known[name] and not ignored[name] and (value == false or not fields.is_empty(value)) then
      unread[name] = (unread[name] or 0) + 1
    end
  end
  local once, of_message = {}, fields.set(fields.message)
  for _, list in ipairs(is_own and {} or lists) do -- a model's template read every field
    for _, message in ipairs(record[list]) do
      for name, value in pairs(message) do
        if not of_message[name] and not ignored[name] and (value == false or not fields.is_empty(value)) then
          once[("%s[].%s"):format(list, name)] = true
        end
      end
    end
  end
  for name in pairs(once) do unread[name] = (unread[name] or 0) + 1 end
end

return fields
