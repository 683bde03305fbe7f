--- A model that is talked to: its adapters by name, the prompt of a conversation, answers piece by piece. Under
--- `qlora-run chat` and `qlora-run serve`.
local native = require "qlora.native"
local chat = require "qlora.chat"
local chat_model = require "qlora.chat_model"
local json = require "qlora.json"

local Talk = {}
Talk.__index = Talk

local talk = {}

local function read_json(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return json.decode(text)
end

--- "NAME=DIR", or DIR with its last folder as the name.
local function adapter(text)
  local name, dir = text:match "^([^=/]+)=(.+)$"
  dir = dir or text
  return { name = name or dir:gsub("(.)/+$", "%1"):match "[^/]+$", dir = dir }
end

--- The folders in one that hold an adapter: PEFT writes several so, and a checkpoint has its own.
local function adapters_in(dir)
  local inside = {}
  for _, name in ipairs(native.exists(dir .. "/.") and native.list_dir(dir) or {}) do
    local folder = dir .. "/" .. name
    if native.exists(folder .. "/adapter_config.json") then inside[#inside + 1] = folder end
  end
  return inside
end

--- Adds an adapter without putting it on.
--- @param text string its folder, or NAME=FOLDER
--- @return string the name under which it is known
function Talk:add(text)
  local new = adapter(text)
  if not native.exists(new.dir .. "/adapter_config.json") then
    local inside = adapters_in(new.dir)
    error(("%s: not an adapter; expected a folder with adapter_config.json%s"):format(new.dir,
      inside[1] and "; there is one in " .. table.concat(inside, ", ") or ""), 0)
  end
  if self.dirs[new.name] or new.name == self.name then
    error(("two things are called '%s'; give the adapter a name of its own: NAME=%s"):format(new.name, new.dir), 0)
  end
  self.dirs[new.name] = new.dir
  self.names[#self.names + 1] = new.name
  return new.name
end

--- Puts an adapter on in place of the one before; the base alone without a name.
--- @param name? string the adapter's name
function Talk:use(name)
  if self.current == name then return end
  if name and not self.loaded[name] then
    self.model:add_adapter(self.dirs[name], { name = name })
    self.loaded[name] = true
  end
  self.model:use_adapters(name or {})
  self.current = name
end

--- The text of a content, which may be a list of texts.
local function text_of(content)
  if type(content) ~= "table" then return type(content) == "string" and content or nil end
  local texts = {}
  for i, part in ipairs(content) do
    texts[i] = type(part) == "table" and part.type == "text" and part.text or nil
    if type(texts[i]) ~= "string" then return nil end
  end
  return table.concat(texts)
end

--- The ids or the text that the model goes on from, for the messages of a conversation. A model without a chat template
--- goes on from the last message as it stands.
function Talk:prompt(messages)
  local tokenizer = self.model.tokenizer
  local template = chat.for_tokenizer(tokenizer)
  if not template then
    local last = messages[#messages]
    return type(last) == "table" and text_of(last.content) or error("a message needs its content as a text", 0)
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
  return self.model:generate(prompt, options)
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
---   … } besides those that the model's template names
function talk.open(path, options)
  local qlora = require "qlora"
  local adapters = { table.unpack(options.adapters or {}) }
  local config = not native.exists(path .. "/config.json") and read_json(path .. "/adapter_config.json")
  if config then
    table.insert(adapters, 1, path)
    path = config.base_model_name_or_path or error(path .. "/adapter_config.json names no base model", 0)
  end
  local place = talk.place(path)
  local model = qlora.load(place, { quant = options.quant, compute = options.compute, quiet = true })
  if not model.tokenizer then error(path .. ": the model has no tokenizer, so nobody can talk to it", 0) end
  local self = setmetatable({ model = model, cache = options.keeps and model:cache() or nil,
    dirs = {}, names = {}, loaded = {}, roles = options.roles,
    has_template = (chat.for_tokenizer(model.tokenizer)) ~= nil,
    name = path:gsub("(.)/+$", "%1"):gsub("%.gguf$", ""):match "([^/]+/?[^/]*)$" }, Talk)
  if native.exists(place) then self.name = self.name:match "[^/]+$" end
  for _, text in ipairs(adapters) do self:add(text) end
  return self
end

return talk
