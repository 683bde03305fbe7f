local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"

local tokenizer = native.byte_tokenizer()

local function load(records, options)
  options.tokenizer = tokenizer
  return qlora.data.load(records, options)
end

local function text(data, i) return tokenizer:decode(data[i or 1].ids) end

local function asked(extra)
  local record = { question = "Who?", answer = " Mia." }
  for key, value in pairs(extra or {}) do record[key] = value end
  return record
end

local renames = { prompt = "question", completion = "answer" }

t.test("map renames fields, and the format follows from the new names", function()
  local plain = load({ { prompt = "Who?", completion = " Mia." } }, {})
  local data = load({ asked() }, { map = renames })
  t.equal(data[1], plain[1])
  -- Two that change places, and one that gives way to another.
  t.equal(load({ { prompt = " Mia.", completion = "Who?" } },
    { map = { prompt = "completion", completion = "prompt" } })[1], plain[1])
  t.equal(load({ asked { completion = "" } }, { map = renames })[1], plain[1])
  -- What the records were stays with them.
  t.equal(asked(), asked())
end)

t.test("a function as map makes records, or leaves them out", function()
  local data = load({ asked { n = 1 }, asked { n = 2 }, asked { n = 3 } }, { map = function(r)
    if r.n == 2 then return nil end
    return { prompt = r.question, completion = r.n .. r.answer }
  end })
  t.equal(#data, 2)
  assert(text(data, 2):find("3 Mia.", 1, true), text(data, 2))
  assert(tostring(data):find("left out 1 of 3 records: 1 by map", 1, true), tostring(data))
  t.equal(data:where(2), "sample 2 (record 3)")
  t.equal(text(load({ asked() }, { format = function(r) return { { text = r.x, train = true } } end,
    map = function(r) return { x = r.answer } end })), "<s> Mia.</s>")
end)

t.test("what is wrong with map is named", function()
  local function wrong(map, options, ...)
    options = options or {}
    options.map = map
    local words = table.pack(...)
    t.raises(function() load({ asked() }, options) end, table.unpack(words, 1, words.n))
  end
  wrong({}, nil, "'map' is empty")
  wrong({ "question" }, nil, '1 = "question"')
  wrong({ prompt = 1 }, nil, "prompt = 1")
  wrong({ promt = "question" }, nil, "no field 'promt'", '"prompt"')
  wrong({ instruction = "question" }, { format = "input_output" }, "format input_output reads no field 'instruction'")
  wrong({ prompt = "qestion", completion = "answer" }, nil, "no record has 'qestion'", '"question"')
  wrong(function() return { { text = "a", train = true } } end, nil, "record 1", "a list of 1", "function as format")
  wrong(function() return "a" end, nil, 'map gave "a"')
  wrong(function(r) return r.no.field end, nil, "record 1", "test_mapping.lua", "stack traceback")
  wrong(function() end, nil, "map left out all 1 records")
  wrong(true, nil, "'map' must be a table or a function")
  t.raises(function() load({ asked { prompt = "x" } }, { map = renames }) end, "it has 'prompt'", "'question'")
  t.raises(function() load({ { query = "a", response = "b" } }, {}) end,
    'map = { prompt = "query", completion = "response" }')
  t.raises(function() load({ asked() }, { format = function() return { prompt = "a" } end }) end,
    "an option of its own, map")
  local data = load({ asked { n = 0 }, asked { n = 1 } }, { skip_invalid = true, map = function(r)
    return { prompt = r.n == 0 and r.no.field or "q", completion = "y" }
  end })
  t.equal(#data, 1)
  assert(tostring(data):find("1 wrong (the first: record 1", 1, true), tostring(data))
end)

t.test("made-up records of a smoke run have the fields that map takes", function()
  native.options.smoke = true
  local ok, why = pcall(function()
    local data = load("none.csv", { map = renames })
    t.equal(#data, 8)
    t.equal(load("none.csv", { format = "alpaca", map = { output = "reply" } })[1].ids,
      load("none.csv", { format = "alpaca" })[1].ids)
    t.equal(#load("none.csv", { map = function(r) return { prompt = r.question, completion = r.answer } end }), 8)
  end)
  native.options.smoke = nil
  assert(ok, why)
end)
