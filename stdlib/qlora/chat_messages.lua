--- The messages of a chat as the model's own template gets them: every field as it is, but for the marks of what is
--- trained and ShareGPT's names.
local fields = require "qlora.data.fields"
local jinja = require "qlora.jinja"
local parts = require "qlora.chat_parts"
local roles = require "qlora.chat_roles"
local strict = require "qlora.strict"
local values = require "qlora.jinja.values"

local names = { from = "role", value = "content" }

local function plain(dict)
  local holder = {}
  for _, name in ipairs(fields.marks) do
    local value = values.raw(dict, name)
    if value ~= values.None then holder[name] = value end
  end
  return holder
end

--- Whether a message says nothing.
local function is_empty(dict)
  for _, key in ipairs { "content", "tool_calls", "reasoning_content", "reasoning", "thinking" } do
    local value = values.raw(dict, key)
    if value ~= nil and value ~= values.None and values.truth(value) then return false end
  end
  return true
end

--- One message as { value =, train =, mark =, role = }; `train` and `mark` are nil without a mark.
local function read(given, i, ignored, o)
  if not values.is_dict(given) then strict.fail("chat: message %d is no table with a role and a content", i) end
  local what = ("chat: message %d: "):format(i)
  local train, name_of_mark = fields.mark(plain(given), what, ignored)
  local marks, dict = fields.set(fields.marks), values.dict()
  for _, key in ipairs(given.keys) do
    local value = values.raw(given, key)
    local name = names[key] or key
    if name ~= key and values.raw(given, name) ~= nil and not values.equal(values.raw(given, name), value) then
      strict.fail("%s'%s' and '%s' differ", what, name, key)
    end
    if name == "role" then value = roles.aliases[value] or value end
    local is_left_out = marks[key] or ignored[key] and name ~= "role" and name ~= "content"
    if not is_left_out then values.put(dict, name, value) end
  end
  local role = values.raw(dict, "role")
  if type(role) ~= "string" then strict.fail("chat: message %d needs a role and a content; it has no role", i) end
  local content = values.raw(dict, "content")
  if (content == nil or content == values.None) and (role ~= "assistant" or is_empty(dict)) then
    strict.fail("chat: message %d needs a role and a content; it has no content", i)
  end
  if content ~= nil and content ~= values.None then parts.check_kind(content, i, role) end
  for _, entry in ipairs(fields.message_refused) do
    local name, why = entry[1], entry[2]
    if fields.never_read[name] and values.raw(dict, name) ~= nil and values.raw(dict, name) ~= values.None then
      strict.fail("%s'%s' is not read: %s; %s", what, name, why, fields.remedy(name, o.is_request))
    end
  end
  if name_of_mark == "weight" and train and role ~= "assistant" then
    strict.fail("chat: message %d of the %s has weight 1, but a weight is for answers; write train = true to train it",
      i, role)
  end
  dict.seen = {}
  return { value = dict, train = train, mark = train, role = role }
end

--- Messages (Lua tables or a template's list) as a list of { value =, train =, mark =, role = }: whether the message is
--- trained, and what its own mark says. `o`: train, ignore, default_system, is_request (they are of a client of
--- `serve`, which cannot set options).
return function(messages, o)
  if type(messages) ~= "table" then strict.fail "chat: expected a list of messages, got none" end
  if not values.is_sequence(messages) and next(messages) ~= nil and not fields.is_list(messages) then
    strict.fail "chat: the messages are no list, or one of them is null"
  end
  local given, ignored = jinja.read(messages), fields.set(o.ignore)
  if not values.is_sequence(given) or given.n == 0 then strict.fail "chat: expected a list of messages, got none" end
  local list, last = {}, 0
  for i = 1, given.n do
    list[i] = read(given[i], i, ignored, o)
    if list[i].role == "assistant" then last = i end
  end
  for i, message in ipairs(list) do
    if message.train == nil then
      message.train = message.role == "assistant" and not is_empty(message.value) and (o.train ~= "last" or i == last)
    end
  end
  if o.default_system and list[1].role ~= "system" then
    local system = values.dict()
    values.put(system, "role", "system")
    values.put(system, "content", o.default_system)
    system.seen = {}
    table.insert(list, 1, { value = system, train = false, role = "system" })
  end
  return list
end
