--- Contents that are lists of texts, under the model's own template. A template that takes such parts itself gets them;
--- for the others, which concatenate texts, drop what is no text or write a Python list, they are joined to one text.
local fields = require "qlora.data.fields"
local messages = require "qlora.messages"
local strict = require "qlora.strict"
local values = require "qlora.jinja.values"

local parts = {}

local function is_none(value) return value == nil or value == values.None end

--- The text of a part; nil for one that is no text.
local function text_of(part)
  if type(part) == "string" then return part end
  local text = values.is_dict(part) and values.raw(part, "type") == "text" and values.raw(part, "text")
  return type(text) == "string" and text or nil
end

--- What a part is, for messages.
local function shown(part)
  if not values.is_dict(part) then return type(part) == "table" and values.kind(part) or strict.show(part) end
  local kind = values.raw(part, "type")
  if type(kind) ~= "string" then return "without a type" end
  return kind == "text" and "without a text" or "of type " .. strict.show(kind)
end

--- An error for a part that is no text, where the template took no others (`is_taken`), and for one that says more
--- than was read of it.
local function check(content, i, o, is_taken)
  local what, ignored = ("chat: message %d: part %%d of its content "):format(i), fields.set(o.ignore)
  for k = 1, content.n do
    local part = content[k]
    local kind = values.is_dict(part) and values.raw(part, "type")
    local is_media = type(kind) == "string" and (kind:find "image" or kind:find "audio" or kind:find "video")
    if is_media or not is_taken and not text_of(part) then
      strict.fail(what .. 'is %s, expected {"type": "text", "text": …}; models here read text alone', k, shown(part))
    end
    for _, key in ipairs(kind == "text" and part.keys or {}) do
      local value = values.raw(part, key)
      local says = key ~= "type" and key ~= "text" and not is_none(value) and values.truth(value)
      if says and not ignored[key] and not (is_taken and part.seen[key]) then
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

--- Has the parts of all contents note what a template reads of them.
function parts.watch(list)
  for _, message in ipairs(list) do
    local content = values.raw(message.value, "content")
    for k = 1, values.is_sequence(content) and content.n or 0 do
      if values.is_dict(content[k]) then content[k].seen, content[k].as_whole = {}, nil end
    end
  end
end

--- Puts texts in place of the contents that the template did not take: lists, and with `failed` (it ended with an
--- error) absent ones, which are "" beside what else the message says. `o`: ignore, is_request. Returns whether there
--- were any.
function parts.settle(list, failed, o)
  local changed = false
  for i, message in ipairs(list) do
    local content, text = values.raw(message.value, "content"), nil
    if values.is_sequence(content) then
      -- a tool's answer may be anything that a template writes as JSON
      local is_written = values.is_dict(content[1]) and content[1].as_whole and not are_texts(content)
      local is_taken = not failed and (were_read(content) or is_written)
      check(content, i, o, is_taken)
      if not is_taken then
        local texts = {}
        for k = 1, content.n do texts[k] = text_of(content[k]) end
        text = messages.joined(texts)
      end
    elseif failed and is_none(content) then text = "" end
    if text then
      values.put(message.value, "content", text)
      message.value.seen, changed = {}, true
    end
  end
  return changed
end

return parts
