--- A conversation under a model's own template, with the variables that transformers gives it.
local jinja = require "qlora.jinja"
local values = require "qlora.jinja.values"

local conversation = {}

local reasoning = { "reasoning_content", "thinking", "reasoning" }

--- A message with its reasoning under the names that templates read, as transformers 5 fills them in.
local function with_reasoning(message)
  if not values.is_dict(message) then return message end
  local found
  for _, key in ipairs(reasoning) do
    local value = values.raw(message, key)
    if value ~= nil and value ~= values.None then found = value break end
  end
  if found == nil then return message end
  local copy = values.dict()
  copy.seen = message.seen
  if values.raw(message, "thinking") == nil then values.put(copy, "thinking", found) end
  for _, key in ipairs(message.keys) do values.put(copy, key, values.raw(message, key)) end
  values.put(copy, "reasoning_content", found)
  return copy
end

--- Whether a template read the field of a message; reasoning has three names.
function conversation.was_read(message, key)
  for _, name in ipairs(reasoning) do
    if name == key then return message.seen.reasoning_content or message.seen.thinking or message.seen.reasoning end
  end
  return message.seen[key]
end

--- The text of `variables` (messages, tools, documents, add_generation_prompt, special tokens, options of the template)
--- under `source`. `o`: name and now of jinja.render. Returns what jinja.render does.
function conversation.render(source, variables, o)
  local given = {}
  for key, value in pairs(variables) do given[key] = value end
  for _, key in ipairs { "tools", "documents" } do if given[key] == nil then given[key] = values.None end end
  given.add_generation_prompt = given.add_generation_prompt or false
  local messages = jinja.read(given.messages)
  local list = {}
  for i = 1, messages.n do list[i] = with_reasoning(messages[i]) end
  given.messages = values.list(list, messages.n)
  return jinja.render(source, given, { name = o and o.name, now = o and o.now, messages = list })
end

return conversation
