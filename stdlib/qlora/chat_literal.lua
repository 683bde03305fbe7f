--- Which characters of a rendered chat the messages say, so that special tokens they spell stay text.
local strict = require "qlora.strict"
local values = require "qlora.jinja.values"

-- Private characters around what a message says, inside of its blanks, so that a template can trim it.
local open, close = "\u{F8F0}", "\u{F8F1}"
local said = { content = "text", reasoning_content = "text", reasoning = "text", thinking = "text" }

--- A copy of a value with marks around what is said. `mode`: "text" where texts are said and parts have them under
--- `text`, "all" where every text is, false elsewhere.
local function marked(value, mode)
  if type(value) == "string" then
    if not mode then return value end
    if value:find(open, 1, true) or value:find(close, 1, true) then
      strict.fail "chat: a message holds U+F8F0 or U+F8F1, which literal = true marks texts with"
    end
    local left, core, right = value:match "^(%s*)(.-)(%s*)$"
    return core == "" and value or left .. open .. core .. close .. right
  elseif values.is_dict(value) then
    local copy = values.dict()
    for _, key in ipairs(value.keys) do
      local inner = said[key] or false
      if mode == "all" or key == "arguments" then inner = "all" elseif key == "text" then inner = mode end
      values.put(copy, key, marked(values.raw(value, key), inner))
    end
    return copy
  elseif values.is_sequence(value) then
    local list = {}
    for i = 1, value.n do list[i] = marked(value[i], mode) end
    return values.list(list, value.n)
  end
  return value
end

--- The { first, last } byte of each text that a message says. `render` as in chat_model.
return function(text, count, render, o)
  local with_marks = render(count, o.add_generation_prompt, function(_, message) return marked(message, false) end)
  local ranges, parts, at, length = {}, {}, 1, 0
  while true do
    local from = with_marks:find(open, at, true)
    if not from then break end
    local to = with_marks:find(close, from, true)
    if not to then break end
    parts[#parts + 1] = with_marks:sub(at, from - 1)
    local core = with_marks:sub(from + #open, to - 1)
    length = length + #parts[#parts]
    ranges[#ranges + 1] = { length + 1, length + #core }
    parts[#parts + 1], length, at = core, length + #core, to + #close
  end
  parts[#parts + 1] = with_marks:sub(at)
  if table.concat(parts) ~= text then
    strict.fail "chat: the model's template takes contents apart, so that literal = true cannot find them"
  end
  return ranges
end
