local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"

-- What the prompt asks of the engine, in small.
local classes = { Model = { fields = { "config", "name", "tokenizer" }, methods = { "loss", "modules" } } }
function native.members(class) return classes[class] end
function native.classes() return { "Model" } end

local complete = require "qlora.repl.complete"
local docs = require "qlora.repl.docs"
local help = require "qlora.repl.help"
local locals = require "qlora.repl.locals"
local repl = require "qlora.repl"
local show = require "qlora.repl.show"
local topics = require "qlora.repl.topics"

local function candidates(text, pending, names)
  local start, list = complete.at(text, pending, names)
  return text:sub(start), table.concat(list, " ")
end

t.test("names, fields and methods complete from the live state", function()
  local names = { model_a = { size = 1, scale = 2, run = print, sub = { deep = 1 } }, text = "x" }
  t.equal({ candidates("model_", nil, names) }, { "model_", "model_a" })
  t.equal({ candidates("print(1 + model_a.s", nil, names) }, { "s", "scale size sub" })
  t.equal({ candidates("model_a:", nil, names) }, { "", "run" })
  t.equal({ candidates("x = model_a.sub.d", nil, names) }, { "d", "deep" })
  t.equal({ candidates("text:gs", nil, names) }, { "gs", "gsub" })
  t.equal({ candidates("whi") }, { "whi", "while" })
  t.equal({ candidates("a..mod", nil, names) }, { "mod", "model_a" })
  t.equal({ candidates("nothing.at.all.") }, { "", "" })
end)

t.test("options of the call at the cursor complete from their declarations", function()
  t.equal({ candidates("qlora.train { st") }, { "st", "steps" })
  t.equal({ candidates("qlora.train { steps = ste") }, { "ste", "" })
  t.equal({ candidates("qlora.load('x', { quant = 'nf4', dou") }, { "dou", "double_quant" })
  t.equal({ candidates("ra", "model:add_lora {") }, { "ra", "rank" })
  t.equal({ candidates("model:generate('a', { temp") }, { "temp", "temperature" })
end)

t.test("completing runs no code of the program", function()
  local calls = 0
  local names = { lazy = setmetatable({ here = 1 }, { __index = function() calls = calls + 1 end }) }
  t.equal({ candidates("lazy.he", nil, names) }, { "he", "here" })
  candidates("lazy.gone.more", nil, names)
  t.equal(calls, 0)
end)

t.test("strings complete to modules and files, comments to nothing", function()
  t.equal({ candidates('require "qlora.sched') }, { "qlora.sched", "qlora.schedule" })
  t.equal({ candidates("require('qlora.data.bat") }, { "qlora.data.bat", "qlora.data.batching" })
  local word, list = candidates(('f("%s/test_re'):format(t.directory))
  t.equal({ word, list:find("test_repl.lua", 1, true) ~= nil }, { t.directory .. "/test_re", true })
  t.equal({ candidates("x = 1 -- prin") }, { "", "" })
  t.equal({ candidates("prin", "x = 1 -- 'open") }, { "prin", "print" })
  t.equal({ candidates('"a" .. prin') }, { "prin", "print" })
end)

t.test("results are shown as Lua, cut short, without loops", function()
  t.equal(show.value "as it is", "as it is")
  t.equal(show.value { 1, "two\n", { x = true }, y = 1.5 }, '{ 1, "two\\n", { x = true }, y = 1.5 }')
  t.equal(show.value {}, "{}")
  local loop = {}
  loop.me = loop
  t.equal(show.value(loop), "{ me = { … itself } }")
  t.equal(show.value { { { { { 1 } } } } }, "{ { { { { … } } } } }")
  local many = {}
  for i = 1, 1000 do many[i] = i end
  local text = show.value(many)
  t.equal({ text:find("… 1000 entries", 1, true) ~= nil, text:find("41", 1, true) }, { true, nil })
  t.equal(show.value { setmetatable({}, { __tostring = function() return "object" end }) }, "{ object }")
  t.equal(show.values { 1, nil, "x", n = 3 }, "1\tnil\tx")
end)

--- Feeds lines to a session; returns what it printed and the last status.
local function feed(session, ...)
  local status
  local lines = table.pack(...)
  local text = t.captured(function()
    for _, line in ipairs(lines) do status = session.feed(line) end
  end)
  return text, status
end

t.test("a session prints expressions, keeps results and locals, and says what is incomplete", function()
  local session = repl.session {}
  t.equal({ feed(session, "1 + 1") }, { "2\n", "next" })
  t.equal({ feed(session, "=3 * 5", "_ + _2") }, { "15\n17\n", "next" })
  t.equal({ feed(session, "99;", "x9 = 1") }, { "", "next" })
  t.equal({ feed(session, "local a9, b9 = 4", "a9, b9") }, { "4\tnil\n", "next" })
  t.equal({ feed(session, "for i = 1, 2 do") }, { "", "more" })
  t.equal({ feed(session, "s9 = [[") }, { "", "more" })
  t.equal({ feed(session, "   ") }, { "", "next" })
  t.equal({ feed(session, "local string = 5", "('x'):rep(2) .. string.rep('y', 2)") }, { "xxyy\n", "next" })
  x9, a9, b9 = nil, nil, nil
end)

t.test("a prompt inside a step sees its names, journals statements and goes on", function()
  local log = {}
  local run = { log = function(_, entry) log[#log + 1] = entry end }
  local session
  t.captured(function() session = repl.session { env = { model = "m", step = 7, run = run } } end)
  t.equal({ feed(session, "model, step") }, { "m\t7\n", "next" })
  t.equal({ feed(session, "model = 'other'", "model", "fresh9 = 1") }, { "other\n", "next" })
  t.equal({ rawget(_G, "model"), fresh9 }, { nil, 1 })
  t.equal({ feed(session, "continue()") }, { "", "continue" })
  t.equal(log[1], { statement = "model, step", at = 7 })
  t.equal(log[#log], { statement = "continue()", at = 7 })
  fresh9 = nil
end)

t.test("a recipe's locals are offered at its end, and at the point of an error", function()
  native.options.quiet = true
  locals.runner("local here9, _hidden = 1, ...\nlocal print = nil\ndo local inner9 = 2 end", "=r")("given")
  t.equal({ here9, _hidden, inner9, print ~= nil }, { 1, "given", nil, true })
  local failing = locals.runner("local n9 = 1\nlocal function f(n9) local deep9 = n9 * 2; error('stop') end\nf(5)", "@r.lua")
  t.raises(failing, "r.lua:2: stop")
  t.equal({ n9, deep9 }, { 5, 10 })
  t.equal({ locals.runner("x =", "=r") }, { nil, 'r:1: unexpected symbol near <eof>' })
  here9, _hidden, n9, deep9, f = nil, nil, nil, nil, nil
end)

t.test("help explains by name and by value", function()
  t.equal(help.of_name "zeros", "qlora.zeros(sizes) -> Tensor\n  All zeros.\n  sizes: integer|table — sizes of the tensor")
  t.equal(help.of_value(qlora.train), help.of_name "qlora.train")
  t.equal(help.of_name "schedule.cosine":match "^[^\n]*", "qlora.schedule.cosine(steps, [options]) -> fun(step:integer):number")
  t.equal(t.captured(function() help.show "qlora.trian" end),
    "nothing is known about 'qlora.trian' (did you mean \"qlora.train\", \"qlora.rand\", \"qlora.run\"?)\n")
  t.equal(t.captured(function() help.asked("q9", { q9 = 5 }) end), "a number: 5\n")
  t.equal(help.of_name "data:split", help.of_name "Dataset:split")
  assert(help.of_name "data:split":find "^Dataset:split")
  assert(t.captured(function() help.show "alpaca" end):find('did you mean "qlora.chat.templates.alpaca", "qlora.data.', 1, true))
  local asked = repl.session { env = { q9 = 5 } }
  t.equal(t.captured(function() asked.feed "q9?" end), "a number: 5\n")
end)

t.test("every public function of the library has a comment for help", function()
  local missing, count, declared = {}, 0, {}
  for _, f in pairs(topics.natives()) do declared[f] = true end
  for name, value in pairs(topics.library()) do
    if type(value) == "function" and not declared[value] and not name:find "^qlora%.optim%." then
      count = count + 1
      if not docs.of_function(value) then missing[#missing + 1] = name end
    end
  end
  table.sort(missing)
  t.equal(missing, {}, "functions without a --- comment")
  t.equal(count > 40, true, "functions found")
end)

t.test("every public method and function in the sources of the library has a comment", function()
  local missing, count = {}, 0
  local function scan(folder)
    for _, name in ipairs(native.list_dir(folder)) do
      local path = folder .. "/" .. name
      if name:find "%.lua$" then
        local above = ""
        local line_number = 0
        for line in io.lines(path) do
          line_number = line_number + 1
          local method = line:match "^function [%w_]+[.:]([%w_]+)"
          if method and not method:find "^__" then
            count = count + 1
            if not above:find "^%-%-%-" then missing[#missing + 1] = ("%s:%d: %s"):format(name, line_number, line) end
          end
          above = line
        end
      else
        scan(path)
      end
    end
  end
  scan(t.directory .. "/../../stdlib/qlora")
  t.equal(missing, {}, "definitions without a --- comment")
  t.equal(count > 60, true, "definitions found")
end)

t.test("words alone answer, and a function prints how it is called", function()
  local text = show.value(require("qlora").load)
  t.equal(text:match "^[^\n]*", "qlora.load(path, [options]) -> Model")
  local session = require("qlora.repl").session {}
  local real = native.exit
  function native.exit(code) error({ silent = true, exit_code = code }, 0) end
  for _, word in ipairs { "exit", "quit", " quit ;" } do t.equal(session.feed(word, false), "exit") end
  native.exit = real
  t.equal(session.feed("help", false), "next")
end)

t.test("after ^C on a terminal an interrupt begins a line of its own, and a text that says the same does not", function()
  local session = require("qlora.repl").session { env = setmetatable({
    stop = function() error(setmetatable({ exit_code = 130, message = "stdin:1: interrupted" }, { __tostring = function(e)
      return e.message
    end }), 0) end }, { __index = _G }) }
  local stderr, said = io.stderr, ""
  native.terminal = true
  rawset(io, "stderr", { write = function(_, ...) said = said .. table.concat { ... } end })
  local ok, message = pcall(function()
    t.equal(session.feed("stop()", false), "next")
    t.equal(session.feed("error('the download was interrupted', 0)", false), "next")
  end)
  rawset(io, "stderr", stderr)
  native.terminal = nil
  assert(ok, message)
  said = said:gsub("\27%[[%d;]*m", "")
  t.equal(said, "\nstdin:1: interrupted\nthe download was interrupted\n")
end)
