--- Which characters of a rendered chat are trained: those of the template's generation blocks, else of the assistant's
--- turns, found by rendering the conversation up to the turn and through it. Where a template writes earlier turns in
--- another way once more follow, a turn is found by rendering the whole with its content replaced.
local strict = require "qlora.strict"
local values = require "qlora.jinja.values"

local function starts(text, part) return text:sub(1, #part) == part end
local function trimmed(text) return text:match "^%s*(.-)%s*$" end

--- The text of a content: itself, or its parts.
local function content_of(message)
  local content = values.raw(message, "content")
  if type(content) == "string" then return { trimmed(content) } end
  local texts = {}
  if values.is_sequence(content or 0) then
    for i = 1, content.n do
      local text = values.is_dict(content[i]) and values.raw(content[i], "text")
      if type(text) == "string" then texts[#texts + 1] = trimmed(text) end
    end
  end
  return texts
end

--- The texts of an answer as the template may write them: what stands behind its reasoning is enough.
local function visible(text) return trimmed(text:match ".*</think>(.*)$" or text) end

local function replaced(message, text)
  local copy = values.dict()
  for _, key in ipairs(message.keys) do values.put(copy, key, values.raw(message, key)) end
  values.put(copy, "content", text)
  return copy
end

local function refuse(i, why) strict.fail("chat: message %d cannot be trained under the model's template: %s", i, why) end

--- What stands at the end of a turn must be a token, or the model never learns to end one.
local function check_end(text, first, last, texts, i, tokenizer)
  local span, at = text:sub(first, last), 1
  for _, content in ipairs(texts) do
    local wanted = visible(content)
    local from, to = span:find(wanted, at, true)
    if not from then refuse(i, "its turn does not hold the content as it is written") end
    at = math.max(at, to + 1)
  end
  local tail = span:sub(at)
  if #trimmed(tail) == 0 then refuse(i, "the template writes nothing behind it that ends the turn") end
  local as_text = tokenizer:encode(tail, { special = false, literal = true })
  local ids = tokenizer:encode(tail, { special = false })
  local same = #ids == #as_text
  for k = 1, #ids do same = same and ids[k] == as_text[k] end
  if same then
    refuse(i, ("the turn ends with %s, and this tokenizer has no such token"):format(strict.show(trimmed(tail))))
  end
end

local mark = "\u{E000}qlora\u{E001}"

--- The bytes of a turn of a template that writes history in another way: { first, last }.
local function by_content(c, i, before, opened)
  local message = c.list[i].value
  local texts = content_of(message)
  if #texts ~= 1 or texts[1] == "" then refuse(i, "later turns change how it is written, and it has no content to find it by") end
  local content = values.raw(message, "content")
  local keep = type(content) == "string" and content:match "^.*</think>%s*" or ""
  local function marked(k, value)
    if k == i then return replaced(value, keep .. mark) end
    return value
  end
  local whole, short = c.render(#c.list, c.prompt, marked), c.render(i, false, marked)
  local from, to = whole:find(mark, 1, true)
  local short_from, short_to = short:find(mark, 1, true)
  if not from or not short_from or whole:find(mark, to + 1, true) then refuse(i, "its content is not written once") end
  local head, rest = whole:sub(1, from - 1), whole:sub(to + 1)
  local tail = short:sub(short_to + 1):match "^(.-)%s*$"
  if not starts(c.text, head) or c.text:sub(-#rest) ~= rest and rest ~= "" or not starts(rest, tail) then
    refuse(i, "the text around it depends on what it says")
  end
  local first
  local prompt = starts(opened, before) and opened:sub(#before + 1) or ""
  -- The longest beginning of the prompt that opens this turn, such as without "<think>".
  for size = #prompt, 1, -1 do
    local opening, found, at = prompt:sub(1, size), nil, 1
    while true do
      local place = head:find(opening, at, true)
      if not place then break end
      found, at = place, place + 1
    end
    if found then first = found + size break end
  end
  if not first then
    local common = 0
    while common < #opened and opened:byte(common + 1) == head:byte(common + 1) do common = common + 1 end
    if common < #opened then refuse(i, "where its turn begins cannot be told") end
    first = common + 1
  end
  return { first, #c.text - #rest + #tail }
end

--- The bytes of one turn.
local function turn(c, i)
  local opened = c.render(i - 1, true)
  local through = c.render(i, false)
  if starts(c.text, through) and starts(through, opened) then
    return { #opened + 1, #through:match "^(.-)%s*$" }
  end
  return by_content(c, i, c.render(i - 1, false), opened)
end

--- The generation blocks as the turns of the messages they belong to.
local function by_blocks(c)
  local ranges, block = {}, 0
  for i, message in ipairs(c.list) do
    if message.role == "assistant" then
      block = block + 1
      local range = c.generated[block]
      if not range then refuse(i, "the template has fewer generation blocks than there are answers") end
      if message.train then
        for _, text in ipairs(content_of(message.value)) do
          if not c.text:sub(range[1], range[2]):find(visible(text), 1, true) then
            refuse(i, "its generation block does not hold its content")
          end
        end
        ranges[#ranges + 1] = range
      end
    elseif message.train then return nil end
  end
  if block ~= #c.generated then strict.fail "chat: the template has more generation blocks than there are answers" end
  return ranges
end

--- `c`: text, list (of { value =, train =, role = }), render(count, prompt, change), generated, uses_blocks, prompt (whether
--- the text ends with the opening of an answer), tokenizer.
--- Returns the { first, last } byte of what is trained, in order.
return function(c)
  if c.uses_blocks then
    if not c.generated then strict.fail "chat: the template has generation blocks inside of macros; name another template" end
    local ranges = by_blocks(c)
    if ranges then return ranges end
  end
  local ranges, last = {}, 0
  for i, message in ipairs(c.list) do
    if message.train then
      local range = turn(c, i)
      if range[1] <= last or range[2] > #c.text or range[2] < range[1] then refuse(i, "its turn overlaps another one") end
      check_end(c.text, range[1], range[2], content_of(message.value), i, c.tokenizer)
      ranges[#ranges + 1], last = range, range[2]
    end
  end
  return ranges
end
