--- File and module names for completion.
local native = require "qlora.native"

local files = {}

local function is_directory(path) return native.exists(path .. "/.") end

--- Paths that go on from `partial`; directories end in a slash. Hidden files only when asked for by a dot.
function files.paths(partial)
  local directory = partial:match("^(.*/)") or ""
  local start = partial:sub(#directory + 1)
  local found = {}
  for _, name in ipairs(native.list_dir(directory == "" and "." or directory)) do
    if name:sub(1, #start) == start and (name:sub(1, 1) ~= "." or start:sub(1, 1) == ".") then
      found[#found + 1] = directory .. name .. (is_directory(directory .. name) and "/" or "")
    end
  end
  return found
end

--- Modules that `require` finds: the loaded ones, and the files on package.path and package.cpath below what is typed.
function files.modules(partial)
  local found = {}
  for name in pairs(package.loaded) do
    if name ~= "_G" then found[#found + 1] = name end
  end
  local parent = partial:match("^(.*)%.[^.]*$")
  local folder = parent and parent:gsub("%.", "/") .. "/" or ""
  local prefix = parent and parent .. "." or ""
  for template in (package.path .. ";" .. package.cpath):gmatch("[^;]+") do
    local base, ending = template:match("^(.-)%?([^?/]*)$")
    if base then
      for _, name in ipairs(native.list_dir((base == "" and "." or base) .. "/" .. folder)) do
        local stem = name:sub(-#ending) == ending and name:sub(1, #name - #ending)
        if stem and stem:match("^[%w_-]+$") then found[#found + 1] = prefix .. stem end
        if native.exists(base .. folder .. name .. "/init.lua") then found[#found + 1] = prefix .. name end
      end
    end
  end
  return found
end

return files
