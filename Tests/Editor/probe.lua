-- What a language server must offer, from the reference: writes FOLDER/names.lua, where every public name is about to be
-- completed, and FOLDER/probes.json with the words for each place in it.
--
--   qlora-run Tests/Editor/probe.lua FOLDER
local json = require "qlora.json"
local native = require "qlora.native"
local reference = require "qlora.reference"

local folder = ...
local lines, probes = { 'local qlora = require "qlora"' }, {}

--- A line that ends in `text`, where the words are to be offered.
local function probe(name, before, text, after, words)
  lines[#lines + 1] = before .. text .. after
  probes[#probes + 1] = { name = name, line = #lines - 1, column = #before + #text, words = words }
end

--- Options of a function: each must be offered inside the table that holds them.
local function probe_options(entry, receiver)
  local called = receiver and "x:" .. entry.name:match ":([%w_]+)$" or entry.name
  local before = receiver and ("---@param x %s\nlocal function f%d(x) "):format(receiver, #lines) or "do "
  for i, parameter in ipairs(entry.parameters) do
    if parameter.fields and not parameter.is_list then
      local words = {}
      for k, field in ipairs(parameter.fields) do words[k] = field.name end
      if receiver then
        lines[#lines + 1] = before:match "^[^\n]*"
        before = before:match "\n(.*)$"
      end
      probe(entry.name .. " { }", before, ("%s(%s{ "):format(called, ("nil, "):rep(i - 1)), " }) end", words)
    end
  end
end

for _, part in ipairs(reference.tables()) do
  local words = {}
  for _, entry in ipairs(part.entries) do
    words[#words + 1] = entry.name ~= part.name and entry.name:match "([%w_]+)$" or nil
    probe_options(entry)
  end
  probe(part.name, "do local _ = ", part.name .. ".", " end", words)
end
for _, class in ipairs(reference.classes()) do
  local methods = {}
  for _, entry in ipairs(class.entries) do
    methods[#methods + 1] = entry.name:match ":([%w_]+)$"
    probe_options(entry, class.name)
  end
  if #methods > 0 then
    lines[#lines + 1] = "---@param x " .. class.name
    probe(class.name .. ":", ("local function f%d(x) "):format(#lines), "x:", " end", methods)
  end
end
native.write_file(folder .. "/names.lua", table.concat(lines, "\n") .. "\n")
native.write_file(folder .. "/probes.json", json.encode(probes) .. "\n")
