--- The `---` comments of Lua functions and files, read from their sources.
local docs = {}

local sources = {}

--- The lines of a file, or nil when it cannot be read.
local function lines_of(path)
  if sources[path] == nil then
    local file = io.open(path)
    sources[path] = file and {} or false
    for line in file and file:lines() or function() end do table.insert(sources[path], line) end
    if file then file:close() end
  end
  return sources[path] or nil
end

--- The text of a comment line; nil for any other line.
local function comment(line) return line and line:match("^%s*%-%-%-%s?(.*)$") end

--- The comment above a Lua function: nil when it has none, or is native.
function docs.of_function(f)
  local info = debug.getinfo(f, "S")
  local lines = info.source:sub(1, 1) == "@" and lines_of(info.source:sub(2))
  if not lines then return nil end
  local first, last = info.linedefined, info.linedefined - 1
  while comment(lines[first - 1]) do first = first - 1 end
  local text = {}
  for i = first, last do text[#text + 1] = comment(lines[i]) end
  return text[1] and table.concat(text, "\n") or nil
end

--- The comment at the top of a module of the library ("qlora.select"); nil when there is none.
function docs.of_module(name)
  local path = package.searchpath(name, package.path)
  local lines = path and lines_of(path)
  local text = {}
  while lines and comment(lines[#text + 1]) do text[#text + 1] = comment(lines[#text + 1]) end
  return text[1] and table.concat(text, "\n") or nil
end

--- "name(a, b, …)" of a Lua function; a method's first parameter is left out, as the call leaves it out.
function docs.signature(name, f)
  local info, names = debug.getinfo(f, "u"), {}
  for i = 1, info.nparams do names[i] = debug.getlocal(f, i) end
  if info.isvararg then names[#names + 1] = "…" end
  if name:find(":", 1, true) then table.remove(names, 1) end
  return ("%s(%s)"):format(name, table.concat(names, ", "))
end

--- The first sentence, or the first line, of a text.
function docs.summary(text)
  local flat = text:gsub("%s+", " ")
  return flat:match("^(.-%.)%s") or flat
end

return docs
