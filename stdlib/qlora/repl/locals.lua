--- Locals that outlive their chunk: a recipe's are offered to the prompt that follows it, and a `local` typed at the
--- prompt is there on the next line.
local native = require "qlora.native"
local colour = require "qlora.repl.colour"

local locals = {}

-- Lua's own names are never replaced: the library reads them too.
local own = {}
for name in pairs(_G) do own[name] = true end

--- The chunk's first local closes when the chunk ends, at the only moment when all its locals can be read.
local prefix = "local _locals <close> = "

local function is_name(name) return name:match("^[%a_][%w_]*$") and name ~= "_locals" end

--- Adds the locals of the function at `level` (counted from the caller) to `values`.
local function read(level, values)
  local index = 1
  while true do
    local name, value = debug.getlocal(level + 1, index)
    if not name then return end
    if is_name(name) and value ~= nil then values[name] = value end
    index = index + 1
  end
end

--- The locals of all running functions of a file, those of inner functions over those of outer ones.
function locals.running(source)
  local levels, level = {}, 2
  while true do
    local info = debug.getinfo(level, "S")
    if not info then break end
    if info.source == source then table.insert(levels, 1, level) end
    level = level + 1
  end
  local values = {}
  for _, found in ipairs(levels) do read(found, values) end
  return values
end

--- Compiles a statement so that its locals go to `keep(values)` when it has run: call the result without arguments.
--- nil and the message when it does not compile.
function locals.compile(text, name, env, keep)
  local chunk, message = load(prefix .. "...; " .. text, name, "t", env)
  if not chunk then return nil, message end
  local function close(_, failure)
    if failure ~= nil then return end
    local values = {}
    read(2, values)
    keep(values)
  end
  return function() return chunk(setmetatable({}, { __close = close })) end
end

--- Sets values as globals where Lua itself has no such name; returns the sorted names that were set.
function locals.offer(values, env)
  local names = {}
  for name, value in pairs(values) do
    if not own[name] then
      rawset(env or _G, name, value)
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

local function announce(source, values)
  local names = locals.offer(values)
  if #names == 0 or native.options.quiet then return end
  print(colour.dim(("from %s: %s"):format(source:sub(2), table.concat(names, ", "))))
end

--- A function that runs a recipe and offers its locals as globals: all of them at its end, those at the point of the
--- error when it fails. nil and the message when it does not compile.
function locals.runner(text, name)
  local keeper = setmetatable({}, { __close = function(_, failure)
    if failure ~= nil then return end
    local values = {}
    read(2, values)
    announce(name, values)
  end })
  locals.keeper = keeper
  local chunk, message = load(prefix .. "require('qlora.repl.locals').keeper; " .. text, name, "t")
  if not chunk then return nil, message end
  return function(...)
    local function fail(failure)
      announce(name, locals.running(name))
      return failure
    end
    local results = table.pack(xpcall(chunk, fail, ...))
    if not results[1] then error(results[2], 0) end
    return table.unpack(results, 2, results.n)
  end
end

return locals
