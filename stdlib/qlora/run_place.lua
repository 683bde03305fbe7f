--- Where a run directory lies: the name of a new one, the one that --resume means, its checkpoints. A run that goes on
--- has its directory locked, so that no two programs write into one.
local format = require "qlora.format"
local json = require "qlora.json"
local native = require "qlora.native"

local place = {}

--- "runs/guanaco" for recipes/guanaco.lua.
function place.default()
  local script = native.options.source and "stdin" or native.options.script or "session"
  return "runs/" .. (script:match("([^/]+)%.lua$") or script:match("[^/]+$"))
end

--- The path of the checkpoint of a step.
function place.checkpoint(dir, step) return ("%s/checkpoint-%06d"):format(dir, step) end

--- The steps of the checkpoints in `dir`, ascending. A checkpoint directory is complete or absent.
function place.checkpoints(dir)
  local steps = {}
  for _, name in ipairs(native.list_dir(dir)) do
    local digits = name:match("^checkpoint%-(%d+)$")
    local step = digits and math.tointeger(tonumber(digits))
    if step and place.checkpoint(dir, step) == dir .. "/" .. name then steps[#steps + 1] = step end
  end
  table.sort(steps)
  return steps
end

--- Makes and locks the first of dir, dir-2, dir-3 … that is free. A run never writes over an earlier one, and of two
--- programs that start at once each gets its own.
function place.new(dir)
  local number, candidate = 1, dir
  while true do
    if not native.exists(candidate) then
      native.mkdir(candidate)
      if native.lock_directory(candidate) then
        if not native.exists(candidate .. "/params.json") then return candidate end
        native.unlock_directory(candidate)
      end
    end
    number = number + 1
    candidate = dir .. "-" .. number
  end
end

--- The last that exists of dir, dir-2, dir-3 …
local function latest(dir)
  local last, number, candidate = nil, 1, dir
  while native.exists(candidate) do
    last, number = candidate, number + 1
    candidate = dir .. "-" .. number
  end
  return last or error(("--resume: there is no run in %s"):format(dir), 0)
end

--- Locks the directory that `--resume` means: the one it names, also by one of its checkpoints, or the last that
--- exists of `dir`, dir-2 … Returns it and the step of a checkpoint that was named.
function place.resumed(dir, resume)
  local step
  if type(resume) == "string" then
    if not native.exists(resume) then error(("--resume %s: no such directory"):format(resume), 0) end
    dir = resume:gsub("(.)/+$", "%1")
    local parent, digits = dir:match("^(.-)/?checkpoint%-(%d+)$")
    if digits then
      if parent == "" then parent = dir:sub(1, 1) == "/" and "/" or "." end
      dir, step = parent, math.tointeger(tonumber(digits))
    end
  else
    dir = latest(dir)
  end
  if not native.exists(dir .. "/params.json") then
    error(("--resume: %s is no run directory: it has no params.json"):format(dir), 0)
  end
  local ok, owner = native.lock_directory(dir)
  if not ok then
    error(("--resume %s: %s is writing there; wait for its end, or start a run of its own without --resume"):format(dir,
      owner), 0)
  end
  return dir, step
end

--- What a run appends that goes on starts on a line of its own. What writers left that were killed goes, wherever they
--- ran: the directory is locked, so that there are none now.
function place.reopen(dir)
  for _, name in ipairs(native.list_dir(dir)) do
    local meant, is_old = native.half_written(name)
    if meant and (meant:find "^checkpoint%-%d+$" or meant:find "^%a+%.%a+$") then
      local place_now, wanted = dir .. "/" .. name, dir .. "/" .. meant
      -- An old checkpoint without its new one is all there is.
      if is_old and not native.exists(wanted) then os.rename(place_now, wanted) else native.remove_tree(place_now) end
    end
  end
  local path = dir .. "/journal.jsonl"
  local file = io.open(path, "r+b")
  if not file then return end
  local ok, message = true, nil
  if file:seek "end" > 0 then
    file:seek("end", -1)
    if file:read(1) ~= "\n" then
      file:seek "end"
      ok, message = file:write "\n"
    end
  end
  local closed, why = file:close()
  if not (ok and closed) then
    error(("--resume: cannot write %s: %s; free space and try again"):format(path, message or why), 0)
  end
end

--- What to do after a run failed to write; `before` stands in front where there are checkpoints. Ranks behind the first
--- need not see them.
function place.way_on(run, before)
  if run.rank == 0 and #place.checkpoints(run.dir) == 0 then return "start again: there is no checkpoint yet" end
  return (before or "") .. "go on with --resume " .. format.word(run.dir)
end

--- The steps of the checkpoints, and the index of the one that --resume means: `from`, else the last.
function place.chosen(dir, from)
  local steps = place.checkpoints(dir)
  local index = #steps
  while from and steps[index] and steps[index] ~= from do index = index - 1 end
  if index == 0 then
    local which = from and " of step " .. from or "; start again without --resume"
    error(("--resume: %s holds no complete checkpoint%s"):format(dir, which), 0)
  end
  return steps, index
end

--- The parts of a step in a checkpoint; nil where they cannot be read, which loading says better.
function place.parts(checkpoint)
  local file = io.open(checkpoint .. "/state.json", "rb")
  local text = file and file:read("a") or ""
  if file then file:close() end
  local ok, stored = pcall(json.decode, text)
  local identity = ok and type(stored) == "table" and stored.identity
  return type(identity) == "table" and math.tointeger(identity.parts or 1) or nil
end

--- Copies the recipe that runs into a run directory; returns the file to run again, nil where there is none.
function place.keep_recipe(dir)
  local script, source = native.options.script, native.options.source
  -- A recipe that was read from standard input is in no other file.
  local again = source and dir .. "/recipe.lua" or script
  local file = not source and script and io.open(script, "rb")
  if file then
    source = file:read "a"
    file:close()
  end
  if source then native.write_file(dir .. "/recipe.lua", source) end
  return again
end

return place
