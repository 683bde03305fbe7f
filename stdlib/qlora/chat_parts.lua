--- Contents that are no texts, under the model's own template. A template that takes parts itself gets them; for the
--- others, which concatenate texts, drop what is no text or write a Python list, the texts are joined to one.
local fields = require "qlora.data.fields"
local messages = require "qlora.messages"
local strict = require "qlora.strict"
local values = require "qlora.jinja.values"

local parts = {}
local expected = '{"type": "text", "text": …}'

-- What a tool answers may be any value that a template writes as JSON or takes apart.
local of_tools = fields.set { "tool", "tool_response", "ipython", "function", "observation", "environment" }

--- An error for a content of message `i` that is neither a text nor a list, nor a table of a tool.
function parts.check_kind(content, i, role)
  local is_table = values.is_dict(content)
  if type(content) == "string" or values.is_sequence(content) or is_table and of_tools[role] then return end
  strict.fail("chat: message %d: its content is %s, expected a text or a list of parts %s", i,
    is_table and "a table" or strict.show(content), expected)
end

--- The text of a part; nil for one that is no text.
local function text_of(part)
  local text = values.is_dict(part) and values.raw(part, "type") == "text" and values.raw(part, "text")
  return type(text) == "string" and text or nil
end

--- What a part is, for messages.
local function shown(part)
  if not values.is_dict(part) then return type(part) == "table" and values.kind(part) or fields.shown(part) end
  local kind, text = values.raw(part, "type"), values.raw(part, "text")
  if type(kind) ~= "string" then return "without a type" end
  if kind ~= "text" then return "of type " .. strict.show(kind) end
  if text == nil or text == values.None then return "without a text" end
  return 'of type "text" and has as its text ' .. (type(text) == "table" and values.kind(text) or strict.show(text))
end

--- Whether a template takes a part of a kind of its own: it names the kind and reads the part's fields one by one.
local function is_own_kind(part, named)
  local kind = values.is_dict(part) and values.raw(part, "type")
  return type(kind) == "string" and kind ~= "text" and named[kind] and part.seen.type
end

--- An error for a part that is neither a text nor of a kind that the template took, and for one that says more than was
--- read of it. `is_json`: the template wrote the list as JSON.
local function check(content, i, o, is_taken, is_json, named)
  local what, ignored = ("chat: message %d: part %%d of its content "):format(i), fields.set(o.ignore)
  for k = 1, content.n do
    local part = content[k]
    local kind = values.is_dict(part) and values.raw(part, "type")
    local is_media = type(kind) == "string" and (kind:find "image" or kind:find "audio" or kind:find "video")
    local is_fine = text_of(part) or is_json or is_taken and is_own_kind(part, named)
    if is_media or not is_fine then
      strict.fail(what .. "is %s, expected %s; models here read text alone", k, shown(part), expected)
    end
    for _, key in ipairs(values.is_dict(part) and part.keys or {}) do
      local value = values.raw(part, key)
      local says = key ~= "type" and value ~= values.None and values.truth(value)
      local is_read = is_taken and part.seen[key] or key == "text" and kind == "text"
      if says and not ignored[key] and not is_read then
        strict.fail(what .. "has '%s', which is not read; %s", k, key, fields.remedy(key, o.is_request))
      end
    end
  end
end

--- Whether a template took each part by itself, its text read.
local function were_read(content)
  for k = 1, content.n do
    local part = content[k]
    if not values.is_dict(part) or part.as_whole or not part.seen.type and not part.seen.text then return false end
    if values.raw(part, "type") == "text" and not part.seen.text then return false end
  end
  return true
end

--- Whether all parts are texts.
local function are_texts(content)
  for k = 1, content.n do if not text_of(content[k]) then return false end end
  return true
end

--- Calls `act` with a value and all the lists and dicts in it, until it gives true.
local function any(value, act)
  if values.is_sequence(value) then
    if act(value) then return true end
    for k = 1, value.n do if any(value[k], act) then return true end end
  elseif values.is_dict(value) then
    if act(value) then return true end
    for _, key in ipairs(value.keys) do if any(values.raw(value, key), act) then return true end end
  end
  return false
end

local function forget(value)
  value.printed = nil
  if values.is_dict(value) then value.seen, value.as_whole = {}, nil end
end

--- Has what is in all contents note what a template reads of it.
function parts.watch(list)
  for _, message in ipairs(list) do any(values.raw(message.value, "content"), forget) end
end

--- An error for a tool's table that the template does not write, or writes as Python does.
local function check_table(content, i, is_printed)
  if is_printed or not content.as_whole and next(content.seen) == nil then
    strict.fail("chat: message %d: its content is a table, which the model's template %s; give it as a text", i,
      is_printed and "writes as Python does" or "does not write")
  end
end

--- Puts texts in place of the contents that the template did not take: lists, and with `failed` (it ended with an
--- error) absent ones, which are "" beside what else the message says. `named`: the texts that the template's source
--- names. `o`: ignore, is_request. Returns whether there were any.
function parts.settle(list, failed, named, o)
  local changed = false
  for i, message in ipairs(list) do
    local content, text = values.raw(message.value, "content"), nil
    local is_printed = any(content, function(value) return value.printed end)
    if values.is_sequence(content) then
      local is_json = of_tools[message.role] and values.is_dict(content[1]) and content[1].as_whole
        and not failed and not is_printed and not are_texts(content)
      local is_taken = is_json or not failed and not is_printed and were_read(content)
      check(content, i, o, is_taken, is_json, named)
      if not is_taken then
        local texts = {}
        for k = 1, content.n do texts[k] = text_of(content[k]) end
        text = messages.joined(texts)
      end
    elseif values.is_dict(content) then
      if not failed then check_table(content, i, is_printed) end
    elseif failed and (content == nil or content == values.None) then text = "" end
    if text then
      values.put(message.value, "content", text)
      message.value.seen, changed = {}, true
    end
  end
  return changed
end

return parts
