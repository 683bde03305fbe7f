--- Records of prompts and completions that are lists of messages, and of pairs (chosen, rejected).
local strict = require "qlora.strict"
local values = require "qlora.jinja.values"

local pairs_of = {}

local marks = { "weight", "train", "training" }
local asked = { "prompt", "question", "instruction", "query", "input" }

--- Whether a value is a list of messages.
function pairs_of.is_messages(value)
  local first = type(value) == "table" and value[1]
  return type(first) == "table" and (first.role or first.from) ~= nil
end

--- What to write so that the answer of a record is trained behind its question; nil where nothing fits.
function pairs_of.remedy(record)
  local answer = record.chosen ~= nil and "chosen" or "completion"
  local question
  for i = #asked, 1, -1 do
    if type(record[asked[i]]) == "string" and record[asked[i]] ~= "" then question = asked[i] end
  end
  local given = record[answer]
  if pairs_of.is_messages(given) then
    if pairs_of.is_messages(record.prompt) then
      return answer == "chosen" and 'format = "chat", map = { completion = "chosen" }' or 'format = "chat"'
    end
    local role = given[1].role or given[1].from
    if question and (role == "assistant" or role == "gpt") then
      return ('map = function(r) return { messages = { { role = "user", content = r.%s }, table.unpack(r.%s) } } end')
        :format(question, answer)
    end
    return ('format = "chat", map = { messages = "%s" }'):format(answer)
  elseif answer == "chosen" and type(given) == "string" then
    if question then
      return ('format = "completion", map = { %scompletion = "chosen" }'):format(
        question ~= "prompt" and ('prompt = "%s", '):format(question) or "")
    end
    return record.prompt == nil and 'format = "hh_rlhf"' or nil
  end
end

--- The messages of a prompt and those of its completion as one conversation; answers in the prompt are not trained,
--- unless a mark says so.
function pairs_of.joined(prompt, completion)
  local list = {}
  for i, message in ipairs(prompt) do
    list[i] = message
    local is_marked = type(message) ~= "table"
    for _, mark in ipairs(marks) do is_marked = is_marked or message[mark] ~= nil end
    if not is_marked then
      list[i] = { train = false }
      for key, value in pairs(message) do list[i][key] = value end
    end
  end
  return table.move(completion, 1, #completion, #list + 1, list)
end

--- The same for lists of a template.
function pairs_of.joined_values(prompt, completion)
  local list = {}
  for i = 1, prompt.n do
    local message = prompt[i]
    list[i] = message
    local is_marked = not values.is_dict(message)
    for _, mark in ipairs(marks) do is_marked = is_marked or values.raw(message, mark) ~= nil end
    if not is_marked then
      list[i] = values.dict()
      for _, key in ipairs(message.keys) do values.put(list[i], key, values.raw(message, key)) end
      values.put(list[i], "train", false)
    end
  end
  table.move(completion, 1, completion.n, prompt.n + 1, list)
  return values.list(list, prompt.n + completion.n)
end

--- An error for KTO's judgement of an answer: trained as it is, a bad answer would be learnt. Labels that are neither
--- true nor false are classes of a data set. `is_cell`: it is one of a table, where it is a text.
function pairs_of.refuse_label(label, is_cell)
  if type(label) ~= "boolean" then return end
  strict.fail("'label' is %s, which is not read: there is no training on single judgements (recipe dpo.lua takes "
    .. "pairs), and a bad answer would be trained; keep the good ones with map = function(r) if r.label%s then "
    .. "return r end end, ignore = { \"label\" }", label, is_cell and ':lower() == "true"' or "")
end

return pairs_of
