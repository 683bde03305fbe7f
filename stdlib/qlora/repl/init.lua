--- The prompt: runs statements and prints their results. `qlora-run` reads the lines, stops statements at Ctrl-C and
--- asks here for completions.
local native = require "qlora.native"
local colour = require "qlora.repl.colour"
local complete = require "qlora.repl.complete"
local format = require "qlora.format"
local help = require "qlora.repl.help"
local locals = require "qlora.repl.locals"
local python = require "qlora.python"
local screen = require "qlora.screen"
local show = require "qlora.repl.show"

local repl = {}

-- Results of this many statements stay in reach, as _1 (also _), _2, _3; more would keep big tensors alive.
local kept = 3
-- Statements that take longer have their time printed.
local long = 1.0

-- Tables that the running statement has printed: a report that a function prints and returns is not shown twice.
local printed = {}
local plain_print = print

local function noting_print(...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if type(value) == "table" then printed[value] = true end
  end
  plain_print(...)
end

--- Leaves the program with an exit code, 0 when none is given.
local function leave(code) native.exit(code or 0) end

--- The names a prompt adds to Lua's.
local function install()
  if print == plain_print then rawset(_G, "print", noting_print) end
  rawset(_G, "qlora", require "qlora")
  rawset(_G, "help", help.show)
  rawset(_G, "exit", leave)
  rawset(_G, "quit", leave)
end

--- An environment in which the names of `env` are seen before the globals; assigning to another name makes a global.
local function over_globals(env)
  return setmetatable({}, {
    __index = function(_, name)
      local value = env[name]
      if value == nil then value = _G[name] end
      return value
    end,
    __newindex = function(_, name, value)
      if env[name] ~= nil then env[name] = value else rawset(_G, name, value) end
    end,
  })
end

--- The function of a statement, or nil and the message. Expressions are tried first, so that they print; a leading `=`
--- is accepted, `? x` explains, and so does `x?`, as in IPython.
local function compile(text, session)
  local asked = text:match "^%s*%?(.*)$" or text:match "^%s*([%a_][%w_.:]*)%?%s*$"
  if asked then return function() help.asked(asked:match("^%s*(.-)[%s;]*$"), session.env) end end
  -- Words alone, as in other prompts.
  local word = text:match "^%s*(%l+)[%s;]*$"
  if word == "help" and session.env.help == help.show then return help.show end
  if (word == "exit" or word == "quit") and session.env[word] == leave then return leave end
  text = text:gsub("^%s*=", "", 1)
  local expression = load("return " .. text:gsub("[;%s]+$", ""), "=stdin", "t", session.env)
  if expression then return expression end
  return locals.compile(text, "=stdin", session.env, function(values) locals.offer(values) end)
end

local function remember(value)
  for i = kept, 2, -1 do rawset(_G, "_" .. i, rawget(_G, "_" .. (i - 1))) end
  rawset(_G, "_1", value)
  rawset(_G, "_", value)
end

local function complain(message)
  local text = tostring(message)
  io.stdout:flush()
  -- The terminal has just echoed ^C.
  if type(message) == "table" and message.exit_code == 130 and native.isatty(1) then io.stderr:write "\n" end
  io.stderr:write(colour.error(screen.wrapped(text)), "\n")
end

--- What `exit` raises carries `silent`; everything else is shown and the prompt goes on.
local function failed(failure)
  if type(failure) == "table" and failure.silent and failure.exit_code then return "exit", failure.exit_code end
  complain(failure)
  return "next"
end

--- Runs a complete statement and prints its results unless it ends in `;`.
local function run(statement, text, session)
  printed = {}
  local began = native.clock()
  local results = table.pack(xpcall(statement, function(failure)
    if session.traceback and type(failure) == "string" then return debug.traceback(failure, 3) end
    return failure
  end))
  local seconds = native.clock() - began
  if not results[1] then return failed(results[2]) end
  table.remove(results, 1)
  results.n = results.n - 1
  if results.n > 0 then
    remember(results[1])
    if not text:match(";%s*$") and not printed[results[1]] then
      local ok, shown = pcall(show.values, results)
      if not ok then return failed(shown) end
      print(shown)
    end
  end
  if seconds >= long and not native.options.quiet then
    print(colour.dim(seconds < 60 and ("%.2f s"):format(seconds) or format.seconds(seconds)))
  end
  return session.going_on and "continue" or "next"
end

--- Takes the text of a statement and says what comes next: "more" (it is incomplete), "next", "continue", or "exit" and
--- the code. `last`: no more text will come.
local function feed(session, text, last)
  if not text:find("%S") then return "next" end
  local statement, message = compile(text, session)
  if not statement then
    if not last and message:sub(-5) == "<eof>" then return "more" end
    complain(python(message, text))
    return "next"
  end
  if session.journal then session.journal(text) end
  return run(statement, text, session)
end

--- What a prompt inside a step offers: the names of the step, the recipe's locals, and `continue()`.
local function enter_step(session, given)
  local env = native.options.script and locals.running("@" .. native.options.script) or {}
  for name, value in pairs(given) do
    if name ~= "run" then env[name] = value end
  end
  --- Goes on with the step.
  env.continue = function() session.going_on = true end
  session.env, session.names = over_globals(env), env
  if given.run then
    session.journal = function(text) given.run:log { statement = text, at = given.step } end
  end
  print(("\ninside step %s: model, opt, step, history, data are in reach"):format(tostring(given.step)))
  local leaves = given.run and "saves a checkpoint and leaves" or "leaves"
  print(colour.dim("continue() or Ctrl-D goes on; Ctrl-C twice at the empty line " .. leaves))
end

--- A session: `feed(text, last)` and `complete(text, pending)`. Options: env (names of a running step), traceback (one
--- is printed with errors).
function repl.session(options)
  install()
  local session = { env = _G, traceback = options.traceback }
  if options.env then enter_step(session, options.env) end
  return {
    feed = function(text, last) return feed(session, text, last) end,
    complete = function(text, pending) return complete.at(text, pending, session.names) end,
  }
end

return repl
