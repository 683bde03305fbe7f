--- Plots in the room that a terminal has, and in ASCII where it asks for that.
local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"
local progress = require "qlora.progress"
local screen = require "qlora.screen"
local show = require "qlora.repl.show"

local plot = qlora.plot

--- Runs `body` as on a terminal of so many columns, in the locale or with the TERM of `environment`.
local function on_terminal(columns, environment, body)
  local width, has_colours, getenv = native.terminal_width, native.has_colours, os.getenv
  native.terminal, native.terminal_width = true, function() return columns end
  native.has_colours = function() return false end
  os.getenv = function(name) return environment[name] end
  local ok, message = pcall(body)
  native.terminal, native.terminal_width, native.has_colours, os.getenv = nil, width, has_colours, getenv
  if not ok then error(message, 0) end
end

local function widest(text)
  local most = 0
  for line in text:gmatch "[^\n]+" do most = math.max(most, utf8.len(line)) end
  return most
end

local falling = {}
for i = 1, 200 do falling[i] = 9.0 / i end
local curves = { { name = "a", points = { { 1, 3 }, { 50, 1 } } }, { name = "b", points = { { 1, 2 }, { 50, 2 } } } }

t.test("the locale and TERM ask for ASCII, the first that is set", function()
  for _, case in ipairs {
    { {}, false }, { { LANG = "de_DE.UTF-8" }, false }, { { LANG = "C.utf8" }, false }, { { LANG = "C" }, true },
    { { LANG = "en_US" }, true }, { { LC_ALL = "C", LANG = "de_DE.UTF-8" }, true },
    { { LC_ALL = "", LC_CTYPE = "POSIX", LANG = "de_DE.UTF-8" }, true },
    { { LC_ALL = "en_GB.UTF-8", LC_CTYPE = "C", LANG = "C" }, false }, { { LC_CTYPE = "C.UTF-8", LANG = "C" }, false },
    { { TERM = "xterm-256color" }, false }, { { TERM = "dumb" }, true }, { { TERM = "vt220" }, true },
    { { TERM = "linux" }, true }, { { TERM = "vte-256color" }, false },
  } do
    local environment, wanted = case[1], case[2]
    t.equal(screen.asks_for_ascii(function(name) return environment[name] end, true), wanted)
  end
  -- TERM says nothing of a file.
  t.equal(screen.asks_for_ascii(function(name) return name == "TERM" and "dumb" or nil end, false), false)
end)

t.test("plots are as wide as the terminal, and as ever where there is none", function()
  for _, columns in ipairs { 40, 72, 132 } do
    on_terminal(columns, {}, function()
      t.equal(widest(plot.lines(falling)), columns)
      t.equal(widest(plot.curves(curves)), columns)
      t.equal(widest(plot.lines(falling, { width = 20 })), 31)
    end)
  end
  t.equal({ widest(plot.lines(falling)), widest(plot.curves(curves)) }, { 71, 71 })
  on_terminal(3, {}, function() t.equal(widest(plot.lines(falling)), 21) end) -- too narrow to draw
end)

t.test("the line of a run stays one line", function()
  local options, write, drawn = native.options.quiet, io.write, {}
  native.options.quiet = false
  for _, columns in ipairs { 20, 40, 60, 100, 200 } do
    on_terminal(columns, {}, function()
      t.equal(utf8.len(screen.bar(1, 27, 40)), math.max(4, math.min(40, columns - 28)))
      local line = progress.new(100000, 1, 1)
      io.write = function(_, text) drawn[#drawn + 1] = text end
      line:update { step = 99999, loss = 1234.5678, tokens = 123456 }
      io.write = write
      assert(utf8.len(drawn[#drawn]) < columns, drawn[#drawn])
    end)
  end
  native.options.quiet = options
  assert(drawn[1]:find "^step 99999/100000" and drawn[2]:find "loss 1234" and drawn[4]:find "left", drawn[2])
  assert(drawn[5]:find "━" and drawn[5]:find "tok/s", drawn[5])
end)

t.test("plots in ASCII hold nothing else, and show the same", function()
  on_terminal(60, { LC_ALL = "C" }, function()
    for _, text in ipairs { plot.lines(falling), plot.curves(curves), plot.sparkline(falling),
      screen.bar(0.5, 10, 40) } do
      assert(not text:find "[\128-\255]", text)
    end
    local slope = plot.lines({ 4, 3, 2, 1 }, { width = 8, height = 2 })
    t.equal(slope, table.concat({
      "        4 |'--.    ", "        1 |    '--.", "          +--------", "           1      4" }, "\n"))
    t.equal(plot.sparkline { 1, 2, 3, 4, 5, 6, 7, 8 }, "_.-~=+*#")
  end)
  local fine = plot.lines({ 4, 3, 2, 1 }, { width = 8, height = 2 })
  assert(fine:find("┤", 1, true) and fine:find "⠉", fine)
end)

t.test("what 32 bits hold is shown in the digits that they hold", function()
  local list = {}
  for i, value in ipairs { 0.0010000000474974513, 0.1, 0.10000000149011612, 1 / 3, 2.0, 1e300, 1 / 0, 5 } do
    list[i] = show.value(value)
  end
  t.equal(list, { "0.001", "0.1", "0.1", "0.33333333333333", "2.0", "1e+300", "inf", "5" })
  t.equal({ qlora.format.rate(0.00019999999494757503), qlora.format.rate(0.25) }, { 0.0002, 0.25 })
  t.equal(show.value { lr = 0.0010000000474974513 }, "{ lr = 0.001 }")
end)

t.test("text is broken at blanks where a terminal is narrow, and nowhere else", function()
  local text = "qlora.schedule.cosine(steps, [options]) -> fun\n"
    .. "  A factor that falls over half a wave: äöü äöü äöü.\nend"
  t.equal(screen.wrapped(text), text)
  on_terminal(30, {}, function()
    t.equal(screen.wrapped(text), table.concat({ "qlora.schedule.cosine(steps,", "  [options]) -> fun",
      "  A factor that falls over", "    half a wave: äöü äöü äöü.", "end" }, "\n"))
    t.equal(screen.wrapped(("x"):rep(50)), ("x"):rep(50)) -- no blank to break at
  end)
  on_terminal(200, {}, function() t.equal(screen.wrapped(text), text) end)
end)

t.test("a steep curve has no gaps", function()
  for _, text in ipairs { plot.lines({ 9, 9, 1, 1 }, { width = 4, height = 6 }),
    plot.curves({ { name = "", points = { { 1, 9 }, { 2, 9 }, { 3, 1 }, { 4, 1 } } } }, { width = 4, height = 6 }) } do
    local rows = 0
    for line in text:gmatch "┤([^\n]*)" do
      rows = rows + 1
      assert(line:find "[^⠀ ]", "a row without a dot:\n" .. text)
    end
    t.equal(rows, 6)
  end
end)
