--- What the processes that a launcher started do together. With one process all of it is plain.
local native = require "qlora.native"

local together = {}

--- Whether `flag` is true on any rank.
function together.any(place, flag)
  for _, text in ipairs(native.gather(place, flag and "1" or "0")) do
    if text == "1" then return true end
  end
  return false
end

--- Whether `flag` is true on rank 0.
function together.first(place, flag) return together.of_first(place, flag and "1" or "0") == "1" end

--- The text of rank 0.
function together.of_first(place, text) return native.gather(place, text or "")[1] end

--- Raises on rank 0 where a fact, a text by name, is another on some rank: what differs and where.
function together.agree(place, facts)
  if native.ranks().size == 1 then return end
  local names, lines = {}, {}
  for name in pairs(facts) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do lines[i] = name .. " " .. native.checksum(facts[name]) end
  lines[#lines + 1] = "host " .. native.ranks().host
  local all = native.gather(place, table.concat(lines, "\n"))
  if native.ranks().rank > 0 then return end
  for other = 2, #all do
    local differing = {}
    for _, name in ipairs(names) do
      local function of(text) return ("\n" .. text):match("\n" .. name:gsub("%p", "%%%0") .. " (%S+)") end
      if of(all[other]) ~= of(all[1]) then differing[#differing + 1] = name end
    end
    if differing[1] then
      error(("%s: rank %d on %s has another %s than rank 0; all ranks need the same recipe, options, files and "
        .. "program"):format(place, other - 1,
          all[other]:match "\nhost (%S+)" or "?", table.concat(differing, ", ")), 0)
    end
  end
end

--- Numbers that `compute(i)` gives for 1…count, two for each, in order: each is computed by one rank, and all get all.
--- The ranks of a model in stages compute each together.
function together.share(place, count, model, compute)
  local here, own, rows = native.ranks(), {}, {}
  if model.stages > 1 then
    for i = 1, count do rows[i] = { compute(i) } end
    return rows
  end
  for i = 1 + here.rank, count, here.size do own[#own + 1] = string.pack("<dd", compute(i)) end
  local texts = native.gather(place, table.concat(own))
  for i = 1, count do
    rows[i] = { string.unpack("<dd", texts[(i - 1) % here.size + 1], 16 * ((i - 1) // here.size) + 1) }
  end
  return rows
end

return together
