--- Needs the engine: see run_engine.lua.
local t = require "harness"
local qlora = require "qlora"
local json = require "qlora.json"
local native = qlora.native
local compare = require "qlora.report_compare"
local runs = require "qlora.runs"

local root = os.tmpname()
os.remove(root)
native.mkdir(root)

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

--- A run directory as training leaves it.
local function make(parent, name, params, losses, finished)
  local dir = parent .. "/" .. name
  native.mkdir(dir)
  write(dir .. "/params.json",
    json.encode { params = params, settings = { batch = 4 }, started = "2026-01-0" .. #losses })
  local lines = {}
  for i, loss in ipairs(losses) do
    lines[i] = json.encode { step = i, loss = loss, tokens = 100, seconds = i * 0.5, memory = 1 << 20, norm = 1.5,
      lr = 0.1 }
  end
  lines[#lines + 1] = json.encode { step = #losses, eval_loss = losses[#losses] + 0.5, perplexity = 9 }
  write(dir .. "/journal.jsonl", table.concat(lines, "\n") .. "\n")
  if finished ~= false then write(dir .. "/summary.json", json.encode { peak_memory = 5 << 20 }) end
  return dir
end

local function fresh(name)
  local parent = root .. "/" .. name
  make(parent, "a", { rank = 8, note = "x" }, { 3, 2 })
  make(parent, "b", { rank = 32, note = "y" }, { 3, 2, 1 })
  make(parent, "c", { rank = 64, layers = { 1, 2 }, ["odd name"] = 1, deep = { x = 1 }, flag = true }, { 3 }, false)
  return parent
end

local function names(list)
  local out = {}
  for i, row in ipairs(list) do out[i] = row.name end
  return table.concat(out, " ")
end

t.test("where and order choose among the runs of a directory", function()
  local parent = fresh "query"
  t.equal(names(qlora.runs { dir = parent }), "c a b") -- as they were started
  t.equal(names(qlora.runs { dir = parent, where = "rank > 16", order = "eval_loss" }), "b c")
  t.equal(names(qlora.runs { dir = parent, order = "loss desc" }), "c a b")
  t.equal(names(qlora.runs { dir = parent, order = "loss", limit = 1 }), "b")
  t.equal(names(qlora.runs { dir = parent, where = "status = 'unfinished' or note = 'x'", order = "rank" }), "a c")
  t.equal(names(qlora.runs { dir = parent, order = "note" }), "a b c") -- a run without a note comes last
  local b = qlora.runs { dir = parent, where = "name = 'b'" }[1]
  t.equal({ b.rank, b.batch, b.loss, b.first_loss, b.eval_loss, b.tokens, b.seconds, b.step, b.peak_memory, b.dir },
    { 32, 4, 1, 3, 1.5, 300, 1.5, 3, 5 << 20, parent .. "/b" })
  local c = qlora.runs { dir = parent, where = "flag = 1" }[1]
  t.equal({ c.layers, json.decode(c.params)["odd name"] }, { "[1,2]", 1 })
  local text = tostring(qlora.runs { dir = parent })
  assert(text:find "^name +status +step" and text:find "5.00 MiB", text)
end)

t.test("mistakes in where and order name the option and the nearest column", function()
  local parent = fresh "mistakes"
  local function fails(options, ...)
    options.dir = parent
    t.raises(function() qlora.runs(options) end, "test_runs.lua:", ...)
  end
  fails({ where = "rnk > 4" }, "where", "no run has 'rnk'", 'did you mean "rank"')
  fails({ order = "eval_los" }, "order", 'did you mean "eval_loss"')
  fails({ where = "rank >" }, "where", "syntax error")
  fails({ where = "1; DROP TABLE runs" }, "syntax error")
  fails({ order = "rank; DROP TABLE runs" }, "one SQL statement expected")
  fails({ were = "1" }, "unknown option 'were'")
  fails({ where = 1 }, "must be a string")
  t.raises(function() qlora.runs { dir = root .. "/nowhere" } end, "there is no directory")
  t.equal(#qlora.runs { dir = parent }, 3)
end)

t.test("what a user writes cannot change the index", function()
  local parent = fresh "readonly"
  qlora.runs { dir = parent }
  local database <close> = native.open_database(parent .. "/runs.sqlite")
  t.raises(function() database:query "DELETE FROM runs" end, "cannot be written")
  t.raises(function() database:query("SELECT ?", {}) end, "1 placeholders and got 0")
  t.raises(function() database:query("SELECT ?", { {} }) end, "a number, a text or a boolean")
  t.equal(database:query("SELECT ? AS a, ? AS b, ? AS c", { 1, "'; --", true }), { { a = 1, b = "'; --", c = 1 } })
  database:close()
  t.raises(function() database:query "SELECT 1" end, "is closed")
  t.raises(function() native.open_database(parent .. "/nothing.sqlite") end, "cannot open")
  t.equal(native.exists(parent .. "/nothing.sqlite"), false)
end)

t.test("new, unfinished and vanished runs are found; a missing index is made again", function()
  local parent = fresh "refresh"
  t.equal(#qlora.runs { dir = parent }, 3)
  make(parent, "d", { rank = 4, fresh_parameter = 7 }, { 5, 4, 3, 2 })
  t.equal(names(qlora.runs { dir = parent, where = "fresh_parameter = 7" }), "d")
  make(parent, "c", { rank = 64 }, { 3, 2.5 }, true)
  t.equal(qlora.runs { dir = parent, where = "name = 'c'" }[1].loss, 2.5)
  native.remove_tree(parent .. "/a")
  t.equal(names(qlora.runs { dir = parent, order = "name" }), "b c d")
  native.remove_tree(parent .. "/runs.sqlite")
  t.equal(names(qlora.runs { dir = parent, order = "name" }), "b c d")
  native.mkdir(root .. "/empty")
  t.equal(tostring(qlora.runs { dir = root .. "/empty" }), "no runs")
end)

t.test("a damaged index is named, stops no run, and can be made again", function()
  local parent = fresh "damaged"
  qlora.runs { dir = parent }
  write(parent .. "/runs.sqlite", ("garbage"):rep(2000))
  t.raises(function() qlora.runs { dir = parent } end, "damaged", "the runs themselves are safe", "rebuild = true")
  local ok, message = runs.record(parent .. "/a")
  t.equal(ok, false)
  assert(message:find "damaged")
  t.equal(names(qlora.runs { dir = parent, rebuild = true, order = "name" }), "a b c")
  -- Damage behind an intact head shows at a query.
  local whole = read(parent .. "/runs.sqlite")
  write(parent .. "/runs.sqlite", whole:sub(1, 4096) .. ("\xff"):rep(#whole - 4096))
  t.raises(function() qlora.runs { dir = parent, order = "name" } end, "rebuild = true")
  t.equal(names(qlora.runs { dir = parent, rebuild = true, order = "name" }), "a b c")
end)

t.test("a locked index is named, and the run is in it afterwards", function()
  local parent = fresh "locked"
  make(parent, "e", { rank = 1 }, { 1 })
  native.remove_tree(parent .. "/e")
  qlora.runs { dir = parent }
  local holder = native.open_database(parent .. "/runs.sqlite", { write = true })
  holder:query "BEGIN EXCLUSIVE"
  make(parent, "e", { rank = 1 }, { 1 })
  local ok, message = runs.record(parent .. "/e")
  t.equal(ok, false)
  assert(message:find "locked", message)
  t.raises(function() qlora.runs { dir = parent } end, "locked")
  holder:query "COMMIT"
  holder:close()
  t.equal(names(qlora.runs { dir = parent, where = "rank = 1" }), "e")
end)

t.test("training writes the index when a run starts and when it ends", function()
  local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4", compute = "f32" })
  model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4 }
  qlora.params { rank = 2, colour = "blue" }
  local data = qlora.data.load({ { text = "At the market, Rosa lost a kite." } },
    { format = "completion", tokenizer = model.tokenizer })
  -- Read past qlora.runs, which would bring the index up to date itself.
  local function stored()
    local database <close> = native.open_database(root .. "/trained/runs.sqlite")
    return database:query("SELECT * FROM runs")[1]
  end
  local at_start
  local result = qlora.train {
    model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }), steps = 3, batch = 1,
    dir = root .. "/trained/one",
    on_step = function(s)
      if s.step == 1 then at_start = stored() end
    end,
  }
  qlora.params {}
  t.equal({ at_start.status, at_start.step, at_start.colour, at_start.rank, at_start.adapters },
    { "unfinished", 0, "blue", 2, 5 })
  local row = stored()
  t.equal({ row.status, row.step, row.tokens, row.lr }, { "finished", 3, result.tokens, 0.001 })
  t.close(row.loss, result.last_loss, 1e-12)
  assert(row.peak_memory > 1 << 20 and row.model:find "models/tiny")
  local opening = require("qlora.run_observe").opening
  local line = opening { model = model, batch = 2, data = { 1, 2 } }
  assert(line:find("^computing in f32 on %d+ threads?, kernels " .. qlora.cpu().set .. ", %g[^\n]*$"), line)
  line = opening { model = model, batch = 3, data = { 1, 2 } }
  assert(line:find("\nbatch = 3 is more than the 2 samples: every step takes some of them again", 1, true), line)
end)

t.test("several runs in one page and in the terminal", function()
  local parent = fresh "compared"
  make(root .. "/other", "a", { rank = 16 }, { 4, 2, 1 })
  local records = compare.read { parent .. "/a", parent .. "/b/", root .. "/other/a" }
  local text = compare.text(records, 80)
  for _, part in ipairs { parent .. "/a", root .. "/other/a", "rank", "a " .. parent .. "/a", "b b" } do
    assert(text:find(part, 1, true), part .. " in\n" .. text)
  end
  local html = compare.html(records)
  for _, word in ipairs { "<script", "<link", "http:", "https:", "url(" } do
    assert(not html:find(word, 1, true), word)
  end
  assert(html:find("3 runs", 1, true) and select(2, html:gsub('class="line s3"', "")) >= 4)
  t.raises(function() compare.read { root } end, "is no run directory")
  t.equal(compare.write(records, root .. "/c.html"), root .. "/c.html")
  t.equal(read(root .. "/c.html"), html)
end)

native.remove_tree(root)
