--- Records that stand in for a data file that is not there under --smoke: every field that a format reads.
local smoke = {}

--- Eight made-up records with the fields of all formats.
function smoke.records()
  local list = {}
  for i = 1, 8 do
    local question, answer = ("What is %d plus %d?"):format(i, i), ("It is %d."):format(2 * i)
    list[i] = {
      instruction = question, input = "", output = answer,
      text = "### Human: " .. question .. "### Assistant: " .. answer,
      prompt = question, completion = answer, question = question, answer = answer, subject = "arithmetic",
      chosen = question .. " " .. answer, rejected = question,
      messages = { { role = "user", content = question }, { role = "assistant", content = answer } },
      conversations = { { from = "human", value = question }, { from = "gpt", value = answer } },
      instances = { { input = "", output = answer } },
    }
  end
  return list
end

return smoke
