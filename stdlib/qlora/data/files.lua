--- Files of records: which there are, and what is wrong with one that cannot be read, beyond what the reader sees.
local native = require "qlora.native"
local strict = require "qlora.strict"
local suggest = require "qlora.suggest"

local files = {}

local endings = native.record_endings()

local function ending_of(path) return path:lower():match "%.([^./]*)$" end

--- Whether the records of a file are rows of cells, which are all texts.
function files.has_cells(path)
  local ending = ending_of(path)
  return ending == "csv" or ending == "tsv"
end

local function listed() return "." .. table.concat(endings, ", .", 1, #endings - 1) .. " or ." .. endings[#endings] end

--- The files in a folder that could be meant.
local function fail_folder(path)
  local found = {}
  for _, name in ipairs(native.list_dir(path)) do
    local ending = ending_of(name)
    for _, known in ipairs(endings) do
      if ending == known then found[#found + 1] = path:gsub("/+$", "") .. "/" .. name end
    end
  end
  strict.fail("data.load: %s is a folder; name a file%s", path, found[1] and " in it: " .. table.concat(found, ", ", 1,
    math.min(#found, 3)) .. (found[4] and ", …" or "") or (" of records (%s)"):format(listed()))
end

local function fail_missing(path)
  local folder, name = path:match("^(.*)/([^/]*)$")
  folder, name = folder or ".", name or path
  local near = native.exists(folder) and suggest.nearest(name, native.list_dir(folder), 1)[1]
  strict.fail("data.load: there is no file %s%s; a path starts at the folder where qlora-run was started", path,
    near and suggest.meant(folder == "." and near or folder .. "/" .. near) or "")
end

--- Ends with an error for a path that is no file of records.
function files.check(path)
  if not native.exists(path) then fail_missing(path) end
  if native.exists(path .. "/.") then fail_folder(path) end
  if not ending_of(path) then
    strict.fail("data.load: %s has a name without an ending, which says what it holds; rename it to end in %s", path,
      listed())
  end
end

--- The beginning of a file, where a glance tells what it is; "" where it cannot be read.
local function beginning(path)
  local file <close> = io.open(native.place_to_read(path), "rb")
  return file and file:read(1 << 16) or ""
end

--- What else a file of JSON lines may be that cannot be read as such; nil where nothing tells.
local function other_json(path)
  local ending = ending_of(path)
  if ending ~= "jsonl" and ending ~= "ndjson" then return nil end
  local text = beginning(path):gsub("^\xEF\xBB\xBF", "")
  local first = text:match "^%s*([^\r\n]*)"
  if first:find "^%[" then return "it looks like a JSON array, which belongs in a file that ends in .json" end
  if first:find "^{" and not first:find "}%s*$" and text:find '^%s*{[^\n]*\n[ \t"}%]]' then
    return ("it looks like JSON over several lines, and .%s has an object a line; put the objects into an array, in a "
      .. "file that ends in .json"):format(ending)
  end
end

--- The records of a file, the line of each, and with `o.texts` its text. `o` as in native.read_records.
--- @throws with the line, and what the file looks like where its ending says another thing
function files.read(path, o)
  local ok, records, lines, texts = pcall(native.read_records, path, o)
  if not ok then
    local hint = type(records) == "string" and other_json(path)
    error(hint and records .. "; " .. hint or records, 0)
  end
  local names = table.concat(strict.sorted_keys(records[1] or {}), " ")
  if files.has_cells(path) and (names:find "\r" or not records[1] and beginning(path):find "\r[^\n]") then
    strict.fail("data.load: %s: its lines end in CR alone; save it with LF or CRLF between the rows", path)
  end
  return records, lines, texts
end

return files
