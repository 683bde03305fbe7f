--- Which bytes of a rendered chat are trained where the template has generation blocks: those that transformers marks
--- (`return_assistant_tokens_mask`), but for the blocks of messages that are marked otherwise.
local strict = require "qlora.strict"
local typed = require "qlora.typed"

local function refuse(text, ...)
  strict.fail("chat: %s; name another template: %s", text:format(...), typed("template", "chatml"))
end

--- The answer from message `i` on that comes first, in steps of `step`; nil without one.
local function answer_from(list, i, step)
  while list[i] and list[i].role ~= "assistant" do i = i + step end
  return list[i] and i
end

--- The number of the message that a block belongs to: the one that it was written for; behind all loops, and for one
--- that is neither an answer nor marked, the answer before it. nil where that is not known.
local function owner(list, block)
  local i = block.message or #list
  if i == 0 then
    i = answer_from(list, 1, 1)
    return i and not answer_from(list, i + 1, 1) and i
  end
  return list[i].mark ~= nil and i or answer_from(list, i, -1) or answer_from(list, i, 1)
end

--- Whether every answer is trained, and no other message is marked, so that all blocks are.
local function takes_all(list)
  for _, message in ipairs(list) do
    if message.role == "assistant" and not message.train then return false end
    if message.role ~= "assistant" and message.mark ~= nil then return false end
  end
  return true
end

--- Ranges in order, those that touch as one.
local function joined(ranges)
  table.sort(ranges, function(a, b) return a[1] < b[1] end)
  local list = {}
  for _, range in ipairs(ranges) do
    local last = list[#list]
    if last and range[1] <= last[2] + 1 then last[2] = math.max(last[2], range[2])
    else list[#list + 1] = { range[1], range[2] } end
  end
  return list
end

--- `c` as in qlora.chat_trained; `turn(c, i)` gives the bytes of a message that has no block.
--- @return table[] the { first, last } byte of what is trained, in order
--- @throws where the template writes a block at another place than transformers marks, or a mark cannot be followed
return function(c, turn)
  local ranges, has_block, all, all_known = {}, {}, takes_all(c.list), true
  for _, block in ipairs(c.generated) do
    if block[2] >= block[1] then
      if c.text:sub(block[1], block[2]) ~= block.text then
        refuse("the generation block in line %d of the template stands in a macro or captured text behind other text, "
          .. "so that transformers marks other words than its own", block.line)
      end
      local i = owner(c.list, block)
      if not i and not all then
        refuse("the generation block in line %d of the template stands in no loop over the messages, so that it is not "
          .. "known which message it belongs to", block.line)
      end
      if i then has_block[i] = true else all_known = false end
      if all or c.list[i].train then ranges[#ranges + 1] = block end
    end
  end
  for i, message in ipairs(c.list) do
    if message.mark and not has_block[i] and all_known then
      if message.role == "assistant" then
        refuse("message %d is marked as trained, and the template writes no generation block for it", i)
      end
      ranges[#ranges + 1] = turn(c, i)
    end
  end
  return joined(ranges)
end
