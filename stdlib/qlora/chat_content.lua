--- Renders a chat template so that what the messages say is told from what the template writes: special tokens that a
--- message spells can then stay text.

--- The template's spans, cut at the contents of the messages; the pieces that are content have literal = true. Each
--- content is rendered as a mark between two blanks that nobody writes, so that a trimmed one shows. Returns nil when
--- the template does not write each content once.
return function(template, messages, settings)
  local masked, list, seen = {}, {}, 0
  for i, message in ipairs(messages) do
    masked[i] = {}
    for key, value in pairs(message) do masked[i][key] = value end
    masked[i].content = ("\v\1%d\1\v"):format(i)
  end
  for _, span in ipairs(template(masked, settings)) do
    local at = 1
    local function put(text, literal)
      if text == "" then return end
      local piece = {}
      for key, value in pairs(span) do piece[key] = value end
      piece.text, piece.literal = text, literal
      if at > 1 then piece.separate = nil end
      list[#list + 1] = piece
    end
    for from, left, number, right, to in span.text:gmatch "()(\v?)\1(%d+)\1(\v?)()" do
      local content = messages[tonumber(number)].content
      if left == "" then content = content:gsub("^%s+", "") end
      if right == "" then content = content:gsub("%s+$", "") end
      put(span.text:sub(at, from - 1), nil)
      put(content, true)
      at, seen = to, seen + 1
    end
    put(span.text:sub(at), nil)
  end
  return seen == #messages and list or nil
end
