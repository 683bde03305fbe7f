--- The messages of a chat as templates read them: role, content and whether it is trained. What a template here cannot
--- say is an error, never dropped.
local strict = require "qlora.strict"
local fields = require "qlora.data.fields"
local roles = require "qlora.chat_roles"
local suggest = require "qlora.suggest"

local messages = {}

local known = { system = true, user = true, assistant = true }

--- One of two names for the same thing; both are an error unless they agree.
local function either(message, what, name, other)
  local value, second = message[name], message[other]
  if value ~= nil and second ~= nil and value ~= second then
    strict.fail("%s has '%s' and '%s', which differ", what, name, other)
  end
  if value == nil then return second end
  return value
end

--- Texts of the parts of a content as one text: a line break between two, as vLLM and llama.cpp put one for templates
--- that take no parts.
function messages.joined(texts) return table.concat(texts, "\n") end

--- The text of a content: a text, or parts { type = "text", text = } as one.
function messages.content(content, what)
  if type(content) ~= "table" then return content end
  if not fields.is_list(content) then strict.fail("%s: its content is no list, or has a null in it", what) end
  local texts = {}
  for i, part in ipairs(content) do
    local kind = type(part) == "table" and part.type
    if kind ~= "text" or type(part.text) ~= "string" then
      strict.fail("%s: part %d of its content is %s, expected { type = \"text\", text = }; models here read text alone",
        what, i, kind and kind ~= "text" and "of type " .. fields.shown(kind) or fields.shown(part))
    else
      for _, key in ipairs(strict.sorted_keys(part)) do
        if key ~= "type" and key ~= "text" and not fields.is_empty(part[key]) then
          strict.fail("%s: part %d of its content has '%s', which no template here writes", what, i, tostring(key))
        end
      end
      texts[i] = part.text
    end
  end
  return messages.joined(texts)
end

--- A message as { role =, content =, train = }; train is nil when the message has no mark.
local function read(message, i, ignored, is_own)
  local what = ("message %d"):format(i)
  if type(message) ~= "table" then strict.fail("chat: %s is %s, expected a table", what, fields.shown(message)) end
  local role = either(message, "chat: " .. what, "role", "from")
  local content = messages.content(either(message, "chat: " .. what, "content", "value"), "chat: " .. what)
  role = roles.aliases[role] or role
  local train, mark = fields.mark(message, ("chat: %s: "):format(what), ignored)
  if is_own then -- a function of the recipe decides what it says; it gets every field
    local own = {}
    for key, value in pairs(message) do own[key] = value end
    own.role, own.content, own.train = role, content, train
    return own
  end
  fields.refuse(message, ("chat: %s: "):format(what), fields.message_refused, ignored)
  if type(role) ~= "string" or type(content) ~= "string" then
    strict.fail("chat: %s needs a role and a content, both texts; got %s and %s", what, fields.shown(role),
      fields.shown(content))
  end
  if not known[role] then
    local near = suggest.nearest(role, strict.sorted_keys(roles.aliases), 1)[1]
    near = role == "developer" and "system" or suggest.nearest(role, strict.sorted_keys(known), 1)[1] or near
    strict.fail("chat: %s has the role %s%s; templates here know system, user and assistant", what, fields.shown(role),
      suggest.meant(near) or "")
  end
  if mark == "weight" and train and role ~= "assistant" then
    strict.fail("chat: %s of the %s has weight 1, but a weight is for answers; write train = true to train it", what,
      role)
  end
  return { role = role, content = content, train = train }
end

--- Messages with the field's role names, each marked as trained or not. Answers are trained (the last one alone with
--- `which` = "last") unless they are empty or the message says otherwise. `is_own`: for a template of the recipe, which
--- gets every field of a message.
function messages.normalized(list, which, ignore, is_own)
  if type(list) ~= "table" or next(list) == nil then strict.fail("chat: expected a list of messages, got none") end
  if not fields.is_list(list) then strict.fail("chat: the messages are no list, or one of them is null") end
  local result, last_answer, ignored = {}, 0, fields.set(ignore)
  for i, message in ipairs(list) do
    result[i] = read(message, i, ignored, is_own)
    if result[i].role == "assistant" then last_answer = i end
  end
  for i, message in ipairs(result) do
    if message.train == nil then
      message.train = message.role == "assistant" and message.content ~= "" and (which ~= "last" or i == last_answer)
    end
  end
  return result
end

return messages
