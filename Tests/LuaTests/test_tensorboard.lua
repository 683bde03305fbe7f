--- What a run tells TensorBoard beside its curves, read back from the event file without TensorBoard.
local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"
local records = require "event_file"

local root = os.tmpname()
os.remove(root)
native.mkdir(root)

--- The fields of a message: number -> list of values (a varint, a double, a float or bytes).
local function fields(bytes)
  local found, at = {}, 1
  local function varint()
    local value, shift = 0, 0
    repeat
      local byte = bytes:byte(at)
      value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
    until byte < 128
    return value
  end
  while at <= #bytes do
    local key = varint()
    local value
    if key & 7 == 0 then value = varint()
    elseif key & 7 == 1 then value, at = string.unpack("<d", bytes, at)
    elseif key & 7 == 5 then value, at = string.unpack("<f", bytes, at)
    else
      local length = varint()
      value, at = bytes:sub(at, at + length - 1), at + length
    end
    found[key >> 3] = found[key >> 3] or {}
    table.insert(found[key >> 3], value)
  end
  return found
end

--- All values of the event file in `dir`: { step =, tag =, value = fields of Summary.Value }.
local function values_of(dir)
  local list = {}
  for _, name in ipairs(native.list_dir(dir)) do
    if name:find "^events" then
      local file <close> = assert(io.open(dir .. "/" .. name, "rb"))
      for _, record in ipairs((records(file:read "a"))) do
        local event = fields(record)
        for _, value in ipairs(event[5] and fields(event[5][1])[1] or {}) do
          local parts = fields(value)
          list[#list + 1] = { step = event[2][1], tag = parts[1][1], value = parts }
        end
      end
    end
  end
  return list
end

local function tagged(list, tag)
  local found = {}
  for _, entry in ipairs(list) do
    if entry.tag == tag then found[#found + 1] = entry end
  end
  return found
end

--- The name of the plugin that shows a value, and its content as fields.
local function plugin(entry)
  local parts = fields(fields(entry.value[9][1])[1][1])
  return parts[1][1], fields(parts[2][1])
end

local function train(options)
  local model, list = native.mock_model(), {}
  for i = 1, 13 do list[i] = { text = ("abcdefghijklm"):sub(1, i) } end
  local data = qlora.data.load(list, { format = "completion", tokenizer = model.tokenizer })
  local all = { model = model, data = data, optimizer = qlora.optim.sgd(model:trainable(), { lr = 0.5 }), batch = 8,
    steps = 4, seed = 1 }
  for key, value in pairs(options) do all[key] = value end
  return qlora.train(all)
end

t.test("samples of a run are texts of TensorBoard, whatever they hold", function()
  local dir = root .. "/samples"
  train { dir = dir, samples = { "# a\n```b", "Grüße", every = 2 } }
  local list = values_of(dir)
  local first, second = tagged(list, "samples/1"), tagged(list, "samples/2")
  t.equal({ #first, #second, first[1].step, first[2].step }, { 2, 2, 2, 4 })
  local name, content = plugin(first[1])
  t.equal({ name, next(content) }, { "text" })
  local tensor = fields(first[1].value[8][1])
  t.equal(tensor[1], { 7 }) -- DT_STRING
  t.equal(tensor[8], { "prompt:\n\n    # a\n    ```b\n\nanswer:\n\n    (8 bytes)\n" })
  assert(fields(second[1].value[8][1])[8][1]:find("Grüße", 1, true))
end)

t.test("the settings of a run stand in TensorBoard's table of hyperparameters", function()
  local dir = root .. "/table"
  qlora.params { rank = 4, note = "x", wide = true, list = { 1, 2 }, odd = 1 / 0 }
  train { dir = dir }
  qlora.params {}
  local list = values_of(dir)
  local name, start = plugin(tagged(list, "_hparams_/session_start_info")[1])
  local session, settings = fields(start[3][1]), {}
  for _, entry in ipairs(session[1]) do
    local pair = fields(entry)
    settings[pair[1][1]] = fields(pair[2][1])
  end
  t.equal({ name, session[4][1] }, { "hparams", "table" })
  t.equal({ settings.rank[2][1], settings.note[3][1], settings.wide[4][1], settings.list[3][1], settings.odd[3][1] },
    { 4.0, "x", 1, "[1,2]", "inf" })
  t.equal({ settings.batch[2][1], settings.kernels[3][1], settings.lr[2][1] }, { 8.0, "mock", 0.5 })
  local _, experiment = plugin(tagged(list, "_hparams_/experiment")[1])
  local kinds, metrics = {}, {}
  for _, info in ipairs(fields(experiment[2][1])[4]) do
    local parts = fields(info)
    kinds[parts[1][1]] = parts[4][1]
  end
  for i, info in ipairs(fields(experiment[2][1])[5]) do metrics[i] = fields(fields(info)[1][1])[2][1] end
  t.equal({ kinds.rank, kinds.note, kinds.wide, kinds.odd }, { 3, 1, 2, 1 })
  t.equal(metrics, { "train/loss", "eval/loss" })
  local _, finish = plugin(tagged(list, "_hparams_/session_end_info")[1])
  t.equal(fields(finish[4][1])[1], { 1 }) -- success
end)

t.test("a run that is going on has no end in TensorBoard", function()
  local dir = root .. "/going"
  local run = qlora.run { dir = dir }
  run:log { step = 1, loss = 3.5 }
  local list = values_of(dir)
  t.equal({ #tagged(list, "train/loss"), #tagged(list, "_hparams_/session_start_info"),
    #tagged(list, "_hparams_/session_end_info") }, { 1, 1, 0 })
end)

--- Runs `body` with `open` in the place of io.open; returns what it wrote to standard error.
local function with_open(open, body)
  local stderr, io_open, said = io.stderr, io.open, ""
  rawset(io, "stderr", { write = function(_, text) said = said .. text end })
  rawset(io, "open", function(path, mode) return open(io_open, path, mode) end)
  local ok, message = pcall(body)
  rawset(io, "stderr", stderr)
  rawset(io, "open", io_open)
  assert(ok, message)
  return said
end

t.test("a run whose events cannot be written goes on, and tells it once", function()
  -- A full disk, and one on which no file can be made.
  local full = function(open, path, mode)
    return open(path:find "/events" and mode == "ab" and "/dev/full" or path, mode)
  end
  local none = function(open, path, mode)
    if path:find "/events" and mode == "ab" then return nil, path .. ": No space left on device" end
    return open(path, mode)
  end
  for name, open in pairs { full = full, none = none } do
    local dir = root .. "/" .. name
    local said = with_open(open, function() train { dir = dir } end)
    local _, count = said:gsub("TensorBoard gets no more of this run: cannot write [^\n]*/events[^\n]*: No space", "")
    t.equal(count, 1, said)
    assert(native.exists(dir .. "/summary.json"))
  end
  local dir = root .. "/later"
  local run = qlora.run { dir = dir }
  run:log { step = 1, loss = 3.5 }
  run.events.file:close()
  run.events.file = assert(io.open("/dev/full", "ab"))
  local said = with_open(function(open, ...) return open(...) end, function()
    for step = 2, 4 do run:log { step = step, loss = 3.5 } end
  end)
  local _, count = said:gsub("cannot write", "")
  t.equal({ count, #tagged(values_of(dir), "train/loss") }, { 1, 1 })
end)

t.test("a journal that cannot be ended with a line is told", function()
  local place = require "qlora.run_place"
  local dir = root .. "/unended"
  native.mkdir(dir)
  native.write_file(dir .. "/journal.jsonl", '{"step":1')
  local full = function(open, path, mode)
    if not path:find "journal" then return open(path, mode) end
    local file = open("/dev/full", mode)
    file:setvbuf "no"
    return { seek = function() return 9 end, read = function() return "1" end, close = function() return file:close() end,
      write = function(_, text) return file:write(text) end }
  end
  with_open(full, function()
    t.raises(function() place.reopen(dir) end, "--resume: cannot write " .. dir .. "/journal.jsonl: No space left")
  end)
  place.reopen(dir)
  local file <close> = assert(io.open(dir .. "/journal.jsonl"))
  t.equal(file:read "a", '{"step":1\n')
end)

native.remove_tree(root)
