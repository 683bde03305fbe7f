--- "Did you mean": the nearest known word to a misspelt one.
local native = require "qlora.native"
local foreign = require "qlora.foreign_words"

local suggest = {}

--- The up to `count` words of `known` nearest to `word`, nearest first; empty when none is near enough to be a slip.
function suggest.nearest(word, known, count) return native.nearest_names(word, known, count) end

--- What an error says of a name that may be meant, or of several, behind the wrong one; nil without one.
function suggest.meant(names)
  if type(names) ~= "table" then names = { names } end
  return names[1] and (' (did you mean "%s"?)'):format(table.concat(names, '", "'))
end

local function contains(list, word)
  for _, item in ipairs(list) do
    if item == word then return true end
  end
  return false
end

--- What to write where `word` is one of another program: `; write lr = 2e-4`. nil for a word that is in no table, or
--- that is known here. `known` are the names that are possible, none for a field of an object; `given` is the value
--- that stands with it, as text, which a word with the same meaning keeps.
function suggest.foreign(word, known, given)
  if contains(known, word) then return nil end
  local here, value = foreign.names[word], foreign.anywhere[word]
  local option = foreign.values[word]
  if type(option) == "table" then
    value = option[#known == 0 and 2 or 1]
  elseif #known > 0 then
    value = option or value
  end
  if given == "false" and value and not value:find "^nothing" then
    local switch = value:match "^([%w_]+) = true"
    if not switch and foreign.switches[word] then return "; leave it out: that is so without it" end
    if switch then return "; write " .. switch .. " = false" end
  end
  if here and contains(known, here) then
    -- What is told of another place gives way to the value that stands here.
    local other = value and (value:find(" of the optimizer", 1, true) or value:find " of qlora%.")
    if given and other and value:find("^" .. here .. " = ") then value = nil end
    value = value or given and ("%s = %s"):format(here, given)
    return ('; here it is called "%s"%s'):format(here, value and ": write " .. value or "")
  end
  if not value then return nil end
  local reason = value:match "^nothing: (.*)$"
  return reason and "; leave it out: " .. reason or "; write " .. value
end

--- What to write where `word` is a value of another program and `known` are the possible ones; nil for a word that is
--- in no table.
function suggest.choice(word, known)
  if contains(known, word) then return nil end
  local value = foreign.choices[word]
  return value and "; write " .. value or suggest.foreign(word, known)
end

--- What to write for a word, ` (did you mean "rank"?)`, or nil where only the list of valid words helps. `place` says
--- where the word would be right as it is; `given` as for suggest.foreign.
function suggest.remedy(word, known, place, given)
  local other = suggest.foreign(word, known, given)
  if other or place and place ~= "" then return other end
  return suggest.meant(suggest.nearest(tostring(word), known))
end

--- What to write for a word, or the list of valid words when nothing is near.
function suggest.phrase(word, known) return suggest.remedy(word, known) or suggest.valid(known) end

--- The list of valid words.
function suggest.valid(known)
  local sorted = {}
  for _, word in ipairs(known) do -- what Lua calls by itself is no name to write
    if type(word) ~= "string" or not word:find "^__" then sorted[#sorted + 1] = word end
  end
  table.sort(sorted)
  return "; valid: " .. table.concat(sorted, ", ")
end

return suggest
