--- Which characters of a rendered chat are trained: those of the template's generation blocks, else of the assistant's
--- turns, found by rendering the conversation up to the turn and through it. Where a template writes earlier turns in
--- another way once more follow, a turn is found by rendering the whole with its content replaced.
local by_blocks = require "qlora.chat_generation"
local strict = require "qlora.strict"
local typed = require "qlora.typed"
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

local function refuse(i, why)
  strict.fail("chat: message %d cannot be trained under the model's template: %s; name another: %s", i, why,
    typed("template", "chatml"))
end

--- The first bytes that two texts share, without half of a tag such as `<|im_`.
local function common(a, b)
  local count = 0
  while count < #a and count < #b and a:byte(count + 1) == b:byte(count + 1) do count = count + 1 end
  if count == #a or count == #b then return count end
  local tag = a:sub(1, count):match "()<[^<>%s]*$" or a:sub(1, count):match "()%[[^%[%]%s]*$"
  return tag and tag - 1 or count
end

--- Whether a text holds a special token; `c.ends` keeps what was found.
local function holds_token(c, tail)
  local known = c.ends[tail]
  if known == nil then
    local as_text = c.tokenizer:encode(tail, { special = false, literal = true })
    local ids = c.tokenizer:encode(tail, { special = false })
    known = #ids ~= #as_text
    for k = 1, #ids do known = known or ids[k] ~= as_text[k] end
    if #tail < 100 then c.ends[tail] = known end
  end
  return known
end

--- What stands at the end of a turn must be a token, or the model never learns to end one. `last` is where the turn
--- ends; where the template writes the end only when the next turn begins, the tag that follows is taken.
local function checked_end(c, first, last, texts, i)
  local span, at = c.text:sub(first, last), 1
  for _, content in ipairs(texts) do
    local _, to = span:find(visible(content), at, true)
    if not to then refuse(i, "its turn does not hold the content as it is written") end
    at = math.max(at, to + 1)
  end
  local tail = span:sub(at)
  if trimmed(tail) == "" then
    local following = c.text:match("^%s*<[^<>%s]+>()", last + 1)
    if not following then refuse(i, "the template writes nothing behind it that ends the turn") end
    last = following - 1
    tail = c.text:sub(first + at - 1, last)
  end
  if not holds_token(c, tail) then
    refuse(i, ("its turn ends with %s, and this tokenizer has no such token"):format(strict.show(trimmed(tail))))
  end
  return last
end

local mark = "\u{E000}qlora\u{E001}"

--- The texts before and behind the content of message `k` in a rendering of the first `count` messages; nil when it is
--- not written once.
local function around(c, k, count, prompt)
  local content = values.raw(c.list[k].value, "content")
  if type(content) ~= "string" or trimmed(content) == "" then return nil end
  local keep = content:match "^.*</think>%s*" or ""
  local text = c.render(count, prompt, function(i, value)
    return i == k and replaced(value, keep .. mark) or value
  end)
  local from, to = text:find(mark, 1, true)
  if not from or text:find(mark, to + 1, true) then return nil end
  return text:sub(1, from - 1), text:sub(to + 1)
end

--- The byte where a turn begins that follows others: behind the longest part of its opening that the whole has, too.
local function beginning(c, i, opened)
  if starts(c.text, opened) then return #opened + 1 end
  local rest, prompt
  if i > 1 then
    rest = select(2, around(c, i - 1, #c.list, c.prompt))
    prompt = select(2, around(c, i - 1, i - 1, true))
  end
  if not rest or not prompt or c.text:sub(-#rest) ~= rest then refuse(i, "where its turn begins cannot be told") end
  local shared = common(rest, prompt)
  if trimmed(rest:sub(1, shared)) == "" then refuse(i, "where its turn begins cannot be told") end
  return #c.text - #rest + shared + 1
end

--- The byte where a turn ends whose rendering changes when others follow.
local function ending(c, i)
  local head, rest = around(c, i, #c.list, c.prompt)
  local _, tail = around(c, i, i, false)
  if not head or not tail then
    refuse(i, "later turns change how it is written, and it has no content to find it by")
  end
  if not starts(c.text, head) or rest ~= "" and c.text:sub(-#rest) ~= rest then
    refuse(i, "the text around it depends on what it says")
  end
  local shared = rest:sub(1, common(rest, tail)):match "^(.-)%s*$"
  return #c.text - #rest + #shared
end

--- The byte where the content of another's message begins: its opening is nobody's answer.
local function content_begins(c, i)
  local head = around(c, i, #c.list, c.prompt)
  if not head or not starts(c.text, head) then refuse(i, "its content is not written once") end
  return #head + 1
end

--- The bytes of one turn.
local function turn(c, i)
  local through, is_answer = c.render(i, false), c.list[i].role == "assistant"
  local opened = is_answer and c.render(i - 1, true)
  local first, last
  if not is_answer then
    first = content_begins(c, i)
    last = starts(c.text, through) and #through:match "^(.-)%s*$" or ending(c, i)
  elseif starts(c.text, through) and starts(through, opened) then first, last = #opened + 1, #through:match "^(.-)%s*$"
  else first, last = beginning(c, i, opened), ending(c, i) end
  return { first, checked_end(c, first, last, content_of(c.list[i].value), i) }
end

--- `c`: text, list (of { value =, train =, mark =, role = }), render(count, prompt, change), generated (blocks as in
--- jinja.render), uses_blocks, prompt (whether the text ends with the opening of an answer), tokenizer, ends (a table
--- for this tokenizer). Returns the { first, last } byte of what is trained, in order.
return function(c)
  if c.uses_blocks then return by_blocks(c, turn) end
  local ranges, last = {}, 0
  for i, message in ipairs(c.list) do
    if message.train then
      local range = turn(c, i)
      if range[1] <= last or range[2] > #c.text or range[2] < range[1] then
        refuse(i, "its turn overlaps another one")
      end
      ranges[#ranges + 1], last = range, range[2]
    end
  end
  return ranges
end
