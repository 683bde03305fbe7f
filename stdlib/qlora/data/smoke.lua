--- Records that stand in for a data file that is not there under --smoke: with the fields of a format.
local fields = require "qlora.data.fields"
local smoke = {}

--- Eight made-up records: what the format `name` reads, or the fields of all formats for a function (nil). A table as
--- `map` finds its fields.
function smoke.records(name, map)
  local renames = type(map) == "table" and map or {}
  local list = {}
  for i = 1, 8 do
    local question, answer = ("What is %d plus %d?"):format(i, i), ("It is %d."):format(2 * i)
    local all = {
      instruction = question, input = "", output = answer,
      text = "### Human: " .. question .. "### Assistant: " .. answer,
      prompt = question, completion = answer, question = question, answer = answer, subject = "arithmetic",
      chosen = question .. " " .. answer, rejected = question,
      messages = { { role = "user", content = question }, { role = "assistant", content = answer } },
      conversations = { { from = "human", value = question }, { from = "gpt", value = answer } },
      instances = { { input = "", output = answer } },
    }
    list[i] = (name or next(renames)) and {} or all
    for _, field in ipairs(name and fields.formats[name][1] or {}) do
      if not renames[field[1]] then list[i][field[1]] = all[field[1]] end
    end
    for to, from in pairs(renames) do list[i][from] = all[to] end
  end
  return list
end

return smoke
