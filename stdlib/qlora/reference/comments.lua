--- The `---` comment above a function: text, then tags.
---
---   @param NAME[?] TYPE SENTENCE    @return TYPE SENTENCE    @throws SENTENCE    @example LUA
---
--- A tag goes on until the next one; the lines of an example are kept.
local comments = {}

local function joined(lines) return (table.concat(lines, " "):gsub("%s+", " "):match("^%s*(.-)%s*$")) end

--- Lines without the blanks that all of them begin with.
local function dedented(lines)
  local least = math.huge
  for _, line in ipairs(lines) do
    if line:find "%S" then least = math.min(least, #line:match("^ *")) end
  end
  local out = {}
  for _, line in ipairs(lines) do
    if line:find "%S" then out[#out + 1] = line:sub(least + 1) end
  end
  return table.concat(out, "\n")
end

local take = {
  param = function(found, lines)
    local name, mark, kind, doc = joined(lines):match("^([%w_…]+)(%??)%s+(%S+)%s*(.*)$")
    if name then found.params[name] = { name = name, optional = mark == "?", kinds = kind, doc = doc } end
  end,
  ["return"] = function(found, lines)
    local text = joined(lines)
    -- "number, integer what it is": the types end at the first blank that follows no comma.
    local types, doc = text:match("^(.-[^,])%s+(.*)$")
    found.returns, found.returned = types or text, doc or ""
  end,
  throws = function(found, lines) found.errors = joined(lines) end,
  example = function(found, lines) found.example = dedented(lines) end,
}

--- { doc =, params = { name = { name =, kinds =, optional =, doc = } }, returns = types, returned = sentence, errors =,
--- example = } of a comment's text.
function comments.parse(text)
  local found, tag, lines = { params = {}, returns = "", returned = "", errors = "" }, nil, {}
  local function close()
    if tag then take[tag](found, lines) else found.doc = joined(lines) end
  end
  for line in (text .. "\n"):gmatch("(.-)\n") do
    local next_tag, rest = line:match("^@(%a+)%s*(.*)$")
    if next_tag and take[next_tag] then
      close()
      tag, lines = next_tag, { rest }
    else
      lines[#lines + 1] = line
    end
  end
  close()
  return found
end

return comments
