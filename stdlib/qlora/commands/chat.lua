--- a conversation with a model: history, adapters to switch between, text as it is written
---
--- MODEL is a folder, a .gguf file, a hub name, a folder with an adapter, or "tiny", the model that ships.
--- Each ADAPTER is a folder, or NAME=FOLDER; the first is on from the start. At the prompt /help lists what may be said
--- besides; Ctrl-C stops an answer, Ctrl-D leaves. Without a terminal each line of the input is a message.
local native = require "qlora.native"
local screen = require "qlora.screen"
local suggest = require "qlora.suggest"
local talk = require "qlora.talk"

local settings = { -- name, least, most, whether whole, what it is
  { "temperature", 0, 100, false, "0 takes the likeliest token" },
  { "top_p", 1e-6, 1, false, "keep the likeliest tokens of this probability" },
  { "top_k", 0, 1e6, true, "keep the k likeliest tokens; 0 keeps all" },
  { "max_tokens", 1, 1e6, true, "most tokens of an answer" },
  { "seed", -(1 << 53), 1 << 53, true, "seed of the draws; each answer has its own" },
}

local help = [[
/set NAME VALUE    temperature, top_p, top_k, max_tokens, seed; /set alone shows them
/system [TEXT]     the system text; none without TEXT. The conversation begins again
/adapter [NAME]    put an adapter on, also FOLDER or NAME=FOLDER; /adapter none takes it off
/reset             begin the conversation again
/undo              take back the last exchange
/retry             another answer to the last message
/show              the conversation so far
/help              this text
/exit              leave; Ctrl-D does, too
A line that ends in \ goes on in the next. Ctrl-C stops an answer.]]

local function say(format, ...) io.stderr:write(screen.wrapped(format:format(...)), "\n") end

local function warn_of_template(talker)
  if talker:template(talker.current) then return end
  say("(there is no chat template: the model goes on from each message as it stands, without the ones before; "
    .. "--template names one)")
end

local Conversation = {}
Conversation.__index = Conversation

--- Begins the conversation again.
function Conversation:reset()
  self.messages = self.system and { { role = "system", content = self.system } } or {}
end

--- The prompt of the messages; the oldest exchanges go where the model has no positions for all.
function Conversation:prompt()
  local room = self.sampling.max_tokens
  while true do
    local prompt = self.talk:prompt(self.messages, self.talk.current)
    local limit = self.talk.model.positions
    local first = self.system and 2 or 1
    if type(prompt) == "string" or #prompt + math.min(room, limit // 4) <= limit or #self.messages <= first then
      return prompt
    end
    table.remove(self.messages, first)
    if self.messages[first].role == "assistant" then table.remove(self.messages, first) end
    say "(the conversation is longer than the model reads; its oldest exchange is forgotten)"
  end
end

--- Answers the last message.
function Conversation:answer()
  native.interrupted() -- from now on Ctrl-C asks here
  local stopped = false
  self.turn = self.turn + 1
  local s = self.sampling
  local sampling = { temperature = s.temperature, top_p = s.top_p, top_k = s.top_k, max_new_tokens = s.max_tokens,
    seed = s.seed + self.turn, stop = self.talk:stops(self.talk.current) }
  local text, reason = self.talk:answer(self:prompt(), sampling, function(piece)
    io.write(piece)
    io.flush()
    stopped = native.interrupted()
    return not stopped
  end)
  io.write "\n"
  io.flush()
  if stopped then
    say "(stopped)"
  elseif reason == "length" then
    say("(cut off after %d tokens: /set max_tokens N)", s.max_tokens)
  end
  self.messages[#self.messages + 1] = { role = "assistant", content = text }
end

--- Takes the answers at the end back; whether a message is left to answer.
function Conversation:take_back()
  local list = self.messages
  while list[#list] and list[#list].role == "assistant" do table.remove(list) end
  return list[#list] and list[#list].role == "user"
end

local commands = {}

--- What may be said.
function commands.help() say("%s", help) end

--- Changes a setting of the sampling, or shows all.
function commands.set(self, text)
  local name, value = text:match "^([%w_%-]+)[%s=]*(.-)%s*$"
  local names = {}
  for i, row in ipairs(settings) do
    names[i] = row[1]
    if name and row[1] == name:gsub("%-", "_") then
      local number = tonumber(value)
      if row[4] then number = number and math.tointeger(number) end
      if not number or number < row[2] or number > row[3] or number ~= number then
        return say("%s needs a %snumber from %g to %g: %s", row[1], row[4] and "whole " or "", row[2], row[3], row[5])
      end
      self.sampling[row[1]] = number
      return say("%s = %s", row[1], number)
    end
  end
  if name then
    return say("nothing is called '%s'%s", name, suggest.meant(suggest.nearest(name, names)) or "; /set lists what is")
  end
  for _, row in ipairs(settings) do say("%-12s %-8s %s", row[1], self.sampling[row[1]], row[5]) end
end

--- Sets the system text.
function commands.system(self, text)
  self.system = text ~= "" and text or nil
  self:reset()
  say("%s; the conversation begins again", self.system and "system text set" or "no system text")
end

--- Puts an adapter on or takes it off.
function commands.adapter(self, text)
  local talker = self.talk
  if text == "" then
    say("on: %s; known: %s", talker.current or "none", talker.names[1] and table.concat(talker.names, ", ") or "none")
    return
  end
  if text == "none" then
    talker:use(nil)
  else
    if not talker.dirs[text] then text = talker:add(text) end
    talker:use(text)
  end
  say("adapter: %s", talker.current or "none")
  warn_of_template(talker)
end

--- Begins the conversation again.
function commands.reset(self)
  self:reset()
  say "the conversation begins again"
end

--- Takes the last exchange back.
function commands.undo(self)
  if self:take_back() then table.remove(self.messages) end
  say("%d messages", #self.messages)
end

--- Answers the last message anew.
function commands.retry(self)
  if self:take_back() then
    self:answer()
  else
    say "there is no message to answer"
  end
end

--- Shows the conversation.
function commands.show(self)
  for _, message in ipairs(self.messages) do say("%s: %s", message.role, message.content) end
end

--- Runs a line that begins with "/"; true to leave.
local function command(self, line)
  local name, rest = line:match "^/(%a*)%s*(.-)%s*$"
  if name == "exit" or name == "quit" or name == "bye" then return true end
  if commands[name] then
    local ok, message = pcall(commands[name], self, rest)
    if not ok then say("%s", tostring(message)) end
    return
  end
  local names = { "exit" }
  for known in pairs(commands) do names[#names + 1] = known end
  local near = suggest.nearest(name, names)[1]
  say("there is no /%s%s", name, near and suggest.meant("/" .. near) or "; /help lists what there is")
end

--- A message of one line or more; nil at the end of the input, false after Ctrl-C.
local function read_message()
  local lines = {}
  while true do
    local line = native.read_line(lines[1] and ".. " or "> ")
    if not line then return line end
    lines[#lines + 1] = line:match "^(.*)\\$" or line
    if not line:find "\\$" then return table.concat(lines, "\n") end
  end
end

return {
  usage = "MODEL [ADAPTER …]",
  flags = talk.with_flags {
    { "--system", "TEXT", "the system text" },
    { "--temperature", "X", "divides the logits; 0 takes the likeliest token", kind = "number", at_least = 0,
      at_most = 100, default = 0.7 },
    { "--top-p", "X", "keep the likeliest tokens of this probability", kind = "number", at_least = 1e-6, at_most = 1,
      default = 0.95 },
    { "--top-k", "N", "keep the k likeliest tokens; 0 keeps all", kind = "count", at_least = 0, default = 0 },
    { "--max-tokens", "N", "most tokens of an answer", kind = "count", default = 512 },
  },
  run = function(o, arguments)
    local path, adapters = talk.given("chat", o, arguments)
    local talker = talk.open(path, { quant = o.quant, keeps = true, template = o.template, adapters = adapters })
    talker:use(talker.names[1])
    local self = setmetatable({ talk = talker, system = o.system, turn = 0, sampling = { temperature = o.temperature,
      top_p = o.top_p, top_k = o.top_k, max_tokens = o.max_tokens, seed = native.options.seed or 0 } }, Conversation)
    self:reset()
    local terminal = native.isatty(0) and native.isatty(1)
    if terminal then
      say("%s%s. /help explains, Ctrl-C stops an answer, Ctrl-D leaves.", talker.name,
        talker.current and " with " .. talker.current or "")
    end
    warn_of_template(talker)
    while true do
      local line = read_message()
      if line == nil then break end
      if line == false then
        say "(Ctrl-D or /exit leaves)"
      elseif line:sub(1, 1) == "/" then
        if command(self, line) then break end
      elseif line:find "%S" then
        self.messages[#self.messages + 1] = { role = "user", content = line }
        local ok, message = pcall(self.answer, self)
        if not ok then
          -- An interrupted answer is no end of the conversation.
          if type(message) == "table" and message.exit_code ~= 130 then error(message, 0) end
          say("%s", tostring(message))
          table.remove(self.messages)
        end
      end
    end
  end,
}
