--- The text of functions of a recipe with all that they use, as a chunk that returns them: what a scripted adapter is
--- saved as, and known again by.
local strict = require "qlora.strict"
local upvalues = require "qlora.upvalues"

local source = {}

local getinfo, upvalue = debug.getinfo, upvalues.get

-- The texts of functions by function. A file may be edited while its recipe runs.
local texts = setmetatable({}, { __mode = "k" })

--- Lines `first` to `last` of what a function was compiled from; nil where that is not at hand.
local function lines_of(info)
  local text
  if info.source:sub(1, 1) == "@" then
    local file = io.open(info.source:sub(2), "rb")
    text = file and file:read "a"
    if file then file:close() end
  elseif info.source:sub(1, 1) ~= "=" then
    text = info.source
  end
  if not text then return nil end
  local lines, number = {}, 0
  for line in (text .. "\n"):gmatch "(.-)\r?\n" do
    number = number + 1
    if number >= info.linedefined and number <= info.lastlinedefined then lines[#lines + 1] = line end
  end
  return lines
end

--- Whether `text` compiles to what `f` is: as long a code, of as many variables from outside.
local function is_text_of(text, f, info)
  local names = {}
  for i = 1, info.nups do
    local name = upvalue(f, i)
    if name ~= "_ENV" then names[#names + 1] = name end
  end
  local head = ("\n"):rep(info.linedefined - 1) .. (names[1] and "local " .. table.concat(names, ", ") .. "; " or "")
  local chunk = load(head .. "return (" .. text .. "\n)", "=definition", "t")
  if not chunk then return false end
  local made = chunk()
  local its = getinfo(made, "u")
  return its.nparams == info.nparams and its.isvararg == info.isvararg and its.nups == info.nups
    and upvalues.have_alike_code(made, f)
end

--- "function(…) … end" from its lines: what begins on the first and ends on the last, and is no part of another such.
local function expression(lines, f, info)
  local text = table.concat(lines, "\n")
  local last = #text - #lines[#lines] + 1
  local found, ends = {}, {}
  for stop in text:gmatch "()%f[%w_]end%f[^%w_]" do
    if stop >= last then ends[#ends + 1] = stop + 2 end
  end
  for start, head, rest in text:gmatch "()(%f[%w_]function%f[^%w_]%s*[%w_.]*)%s*()%(" do
    if start > #lines[1] then break end
    if not (found[1] and start <= found[#found].stop) then
      for i = #ends, 1, -1 do
        local candidate = "function" .. text:sub(rest, ends[i])
        if head and is_text_of(candidate, f, info) then
          found[#found + 1] = { text = candidate, stop = ends[i] }
          break
        end
      end
    end
  end
  return #found == 1 and found[1].text or nil
end

--- A value of the library, such as qlora or math.sqrt, as an expression.
local function shared(value)
  local function key_in(module)
    for _, key in ipairs(strict.sorted_keys(module)) do
      if type(key) == "string" and rawget(module, key) == value then return key end
    end
  end
  local name = key_in(package.loaded)
  if name and name ~= "_G" then return ("require %q"):format(name) end
  for _, library in ipairs { "math", "string", "table", "qlora" } do
    local key = key_in(package.loaded[library])
    if key then return ("(require %q).%s"):format(library, key) end
  end
  return key_in(_G)
end

--- A table of plain values as text; nil for one that holds anything else.
local function plain(value, depth)
  if type(value) == "number" or type(value) == "string" or type(value) == "boolean" then
    return (("%q"):format(value):gsub("\\\n", "\\n"))
  end
  if type(value) ~= "table" or getmetatable(value) or depth > 8 then return nil end
  local parts = {}
  for _, key in ipairs(strict.sorted_keys(value)) do
    local name, field = plain(key, 9), plain(value[key], depth + 1)
    if not name or not field then return nil end
    parts[#parts + 1] = ("[%s] = %s"):format(name, field)
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

--- Adds the local variables that `f` uses to `out.lines`, each once and before its use, and returns the text of `f`.
local function text_of(f, what, out)
  local info = getinfo(f, "Su")
  local function fail(format, ...) strict.fail("%s: %s", out.caller, (what .. " " .. format):format(...)) end
  if info.what == "C" then fail "is a native function, whose text cannot be saved" end
  if out.open[f] then fail "calls itself through a local variable, which cannot be saved" end
  out.open[f] = true
  for i = 1, info.nups do
    local name, value = upvalue(f, i)
    if name ~= "_ENV" then
      local text = value == nil and "nil" or plain(value, 0) or shared(value)
      if not text and type(value) == "function" then
        text = text_of(value, ("%s uses %s, which"):format(what, name), out)
      end
      if not text then
        fail("uses the local variable %s, %s, which cannot be saved; make it inside, or in parameters", name,
          strict.show(value))
      end
      if not out.values[name] then
        out.values[name] = text
        out.lines[#out.lines + 1] = ("local %s = %s"):format(name, text)
      elseif out.values[name] ~= text then
        fail("uses a local variable %s, and there is another of that name with another value; rename one", name)
      end
    end
  end
  out.open[f] = nil
  local lines = not texts[f] and lines_of(info)
  local text = texts[f] or lines and lines[1] and expression(lines, f, info)
  texts[f] = text
  if not text then
    fail("has no text that can be saved: %s", lines and lines[1]
      and "write each function on lines of its own, without a colon in its name, use no <const> variable from outside, "
        .. "and leave the file as it was loaded"
      or "it was not read from a file or a string")
  end
  return text
end

--- The definition as a chunk of Lua that returns { parameters =, forward = }.
function source.of(caller, definition)
  local out = { caller = caller, lines = {}, values = {}, open = {} }
  local parameters = text_of(definition.parameters, "parameters", out)
  local forward = text_of(definition.forward, "forward", out)
  out.lines[#out.lines + 1] = ("return {\n  parameters = %s,\n  forward = %s,\n}\n"):format(parameters, forward)
  return table.concat(out.lines, "\n")
end

return source
