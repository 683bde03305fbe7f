--- A model that is talked to: its adapters by name, the prompt of a conversation, answers piece by piece. Under
--- `qlora-run chat` and `qlora-run serve`.
local native = require "qlora.native"
local chat_model = require "qlora.chat_model"
local chat_source = require "qlora.chat_source"
local command_line = require "qlora.command_line"
local json_file = require "qlora.json_file"
local messages_of = require "qlora.messages"

local Talk = {}
Talk.__index = Talk

local talk = {}

-- The base model of an adapter: PEFT's name of it and mlx-lm's.
local kinds = { base_model_name_or_path = "string", model = "string" }

--- "NAME=DIR", or DIR with its last folder as the name.
local function adapter(text)
  local name, dir = text:match "^([^=/]+)=(.+)$"
  dir = dir or text
  return { name = name or dir:gsub("(.)/+$", "%1"):match "[^/]+$", dir = dir }
end

--- Reads an adapter; what is on stays on.
--- @param text string its folder, or NAME=FOLDER
--- @return string the name under which it is known
--- @throws as model:add_adapter does, and when the name is taken
function Talk:add(text)
  local new = adapter(text)
  if self.dirs[new.name] or new.name == self.name then
    error(("two things are called '%s'; give the adapter a name of its own: NAME=%s"):format(new.name, new.dir), 0)
  end
  self.model:add_adapter(new.dir, { name = new.name })
  self.model:use_adapters(self.current or {})
  self.dirs[new.name] = new.dir
  self.names[#self.names + 1] = new.name
  return new.name
end

--- The model's own chat template; nil without one.
function Talk:own_template() return chat_model.of(self.model.tokenizer) end

--- The chat template of an adapter, of the base without a name: the one that was asked for, else the adapter's own,
--- else the model's. nil where there is none.
--- @param name? string the adapter's name
--- @return table|nil as qlora.chat.for_tokenizer gives it
function Talk:template(name)
  local known = self.templates[name or ""]
  if known ~= nil then return known or nil end
  local tokenizer, found = self.model.tokenizer, self.asked
  for _, set in ipairs(name and not found and self.model:adapters() or {}) do
    if set.name == name and set.chat_template then
      found = chat_model.from(tokenizer, set.chat_template, "of the adapter")
    end
  end
  found = found or self:own_template()
  self.templates[name or ""] = found or false
  return found
end

--- The token or the text that ends an answer under a template.
local function ends(self, template)
  if not template then return nil, nil end
  self.ends[template] = self.ends[template] or table.pack(chat_model.answer_end(template))
  return self.ends[template][1], self.ends[template][2]
end

--- Puts an adapter on in place of the one before; the base alone without a name.
--- @param name? string the adapter's name
function Talk:use(name)
  if self.current == name and self.is_set then return end
  local template = self:template(name)
  self.model:use_adapters(name or {})
  self.current, self.is_set = name, true
  self.model.turn_end = ends(self, template)
end

--- The texts that end an answer: those of `more`, and where no token ends it, the one that the template writes there.
--- @param name? string the adapter's name
--- @param more? string|string[] texts besides
--- @return string[]|nil the texts; nil for none
function Talk:stops(name, more)
  local list = type(more) == "table" and { table.unpack(more) } or { more }
  list[#list + 1] = select(2, ends(self, self:template(name)))
  return list[1] and list
end

--- The ids or the text that the model goes on from, for the messages of a conversation. A model without a chat template
--- goes on from the last message as it stands.
--- @param messages table[] the messages
--- @param name? string the adapter that answers
--- @return string|integer[] text or token ids
function Talk:prompt(messages, name)
  local tokenizer, template = self.model.tokenizer, self:template(name)
  if not template then
    local last = messages[#messages]
    local text = type(last) == "table" and messages_of.content(last.content, "the message")
    return type(text) == "string" and text or error("a message needs its content as a text", 0)
  end
  local text = chat_model.text(template, messages, { add_generation_prompt = true, roles = self.roles,
    is_request = true })
  return tokenizer:encode(text, { special = false })
end

--- Writes on from a prompt.
--- @param prompt string|integer[] text or token ids
--- @param sampling table options of model:generate
--- @param on_text? function called with each piece; false ends the answer
--- @return string, string, integer, integer the text, why it ended ("stop", "length", "ended"), tokens read and written
function Talk:answer(prompt, sampling, on_text)
  local options = { cache = self.cache, on_text = on_text, counts = true }
  for key, value in pairs(sampling) do options[key] = value end
  local ids = type(prompt) == "table" and prompt or self.model.tokenizer:encode(prompt)
  options.max_new_tokens = math.max(1, math.min(options.max_new_tokens, self.model.positions - #ids))
  return self.model:generate(ids, options)
end

--- The template that `--template` means, for the texts of a tokenizer.
local function asked(text, tokenizer)
  local template = chat_source.resolved(text, tokenizer, "--template")
  return type(template) == "string" and chat_source.of_name(template, tokenizer) or template
end

--- The flags that name a model and adapters, for commands that take them as arguments too, and the one of the template.
talk.flags = {
  { "--model", "MODEL", "the model, where it is no argument" },
  { "--adapter", "NAME=DIR", "an adapter: a folder, or one under a name of its own (repeatable)", list = true },
  { "--template", "TEMPLATE", "chat template: chatml, llama3, … or a file with Jinja source; default the adapter's, "
    .. "else the model's own" },
  { "--quant", "TYPE", "load the weights in nf4, fp4 or int4, or keep those of a .gguf file" },
}

--- Flags of a command with those of all that talk behind them.
function talk.with_flags(own)
  return table.move(talk.flags, 1, #talk.flags, #own + 1, own)
end

--- The model and the adapters of a command, from its arguments and the flags.
function talk.given(name, o, arguments)
  local list = { o.model }
  table.move(arguments, 1, #arguments, #list + 1, list)
  if not list[1] then command_line.fail("%s: the model is missing; see qlora-run --help %s", name, name) end
  table.move(o.adapter, 1, #o.adapter, #list + 1, list)
  return list[1], table.pack(table.unpack(list, 2))
end

--- What qlora.load takes for a model named on the command line: "tiny" is the one that ships.
function talk.place(path)
  return path == "tiny" and not native.exists(path) and native.resource "models/tiny" or path
end

--- Loads a model to talk to.
--- @param path string what qlora.load takes, "tiny" for the model that ships, or a folder with an adapter, whose base
---   is loaded too
--- @param options table quant, compute; keeps = true keeps keys and values from answer to answer, which is faster and
---   rounds otherwise than a prompt that is computed as a whole; adapters = { "DIR", "NAME=DIR", … }; roles = { "NAME",
---   … } besides those that the model's template names; template = "chatml" or a file with Jinja source, in the place
---   of the adapters' and of the model's own
function talk.open(path, options)
  local qlora = require "qlora"
  local adapters = { table.unpack(options.adapters or {}) }
  local config = not native.exists(path .. "/config.json") and json_file.read(path .. "/adapter_config.json", kinds)
  if config then
    table.insert(adapters, 1, path)
    path = config.base_model_name_or_path or config.model
      or error(path .. "/adapter_config.json names no base model", 0)
  end
  local place = talk.place(path)
  local model = qlora.load(place, { quant = options.quant, compute = options.compute, quiet = true })
  if not model.tokenizer then error(path .. ": the model has no tokenizer, so nobody can talk to it", 0) end
  local self = setmetatable({ model = model, cache = options.keeps and model:cache() or nil,
    dirs = {}, names = {}, roles = options.roles, templates = {}, ends = {},
    asked = options.template and asked(options.template, model.tokenizer),
    name = path:gsub("(.)/+$", "%1"):gsub("%.gguf$", ""):match "([^/]+/?[^/]*)$" }, Talk)
  if native.exists(place) then self.name = self.name:match "[^/]+$" end
  for _, text in ipairs(adapters) do self:add(text) end
  return self
end

return talk
