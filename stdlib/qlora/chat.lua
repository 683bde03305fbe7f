--- Chat templates as Lua functions: messages -> spans { text =, train = }. What the model is to say is trained, the
--- rest is not, so no marker has to be searched for afterwards. Texts equal those of the Jinja templates the models
--- ship with.
local render_literal = require "qlora.chat_content"
local missing_marker = require "qlora.chat_markers"
local messages_of = require "qlora.messages"
local strict = require "qlora.strict"

local chat = { templates = {} }
local templates = chat.templates

local function trim(text) return (text:gsub("^%s+", ""):gsub("%s+$", "")) end

--- A list of spans that joins neighbours of equal training.
local function writer()
  local spans = {}
  local function put(text, train)
    train = train or false
    local last = spans[#spans]
    if last and last.train == train then last.text = last.text .. text
    elseif text ~= "" then spans[#spans + 1] = { text = text, train = train } end
  end
  return put, spans
end

-- Llama 2 and Mistral only know user and assistant turns that alternate.
local function check_alternation(name, messages)
  for i, message in ipairs(messages) do
    local expected = i % 2 == 1 and "user" or "assistant"
    if message.role ~= expected then
      strict.fail("chat template %s: message %d must be from the %s, got %s", name, i, expected, message.role)
    end
  end
end

local function split_system(messages)
  if messages[1] and messages[1].role == "system" then
    return messages[1].content, table.move(messages, 2, #messages, 1, {})
  end
  return nil, messages
end

--- ChatML (Qwen, SmolLM2, …). `default_system` is what the model's own template puts in when the messages have none.
--- @param messages table[] { role =, content =, train = } of each message
--- @param o table add_generation_prompt, bos_token, eos_token, default_system
--- @return table[] spans { text =, train = }
--- @example assert(qlora.chat.apply("chatml", { { role = "user", content = "Hi" } }):find "Hi")
function templates.chatml(messages, o)
  local put, spans = writer()
  if o.default_system and not (messages[1] and messages[1].role == "system") then
    put("<|im_start|>system\n" .. o.default_system .. "<|im_end|>\n")
  end
  for _, message in ipairs(messages) do
    put("<|im_start|>" .. message.role .. "\n")
    put(message.content .. "<|im_end|>", message.train)
    put "\n"
  end
  if o.add_generation_prompt then put "<|im_start|>assistant\n" end
  return spans
end

--- Llama 2: [INST] … [/INST]; the system message goes into the first turn.
--- @param messages table[] { role =, content =, train = } of each message
--- @param o table add_generation_prompt, bos_token, eos_token, default_system
--- @return table[] spans { text =, train = }
--- @throws when user and assistant do not alternate
--- @example assert(qlora.chat.apply("llama2", { { role = "user", content = "Hi" } }):find "Hi")
function templates.llama2(messages, o)
  local put, spans = writer()
  local system, turns = split_system(messages)
  check_alternation("llama2", turns)
  for i, message in ipairs(turns) do
    local content = message.content
    if i == 1 and system then content = "<<SYS>>\n" .. system .. "\n<</SYS>>\n\n" .. content end
    if message.role == "user" then put(o.bos_token .. "[INST] " .. trim(content) .. " [/INST]")
    else put(" " .. trim(content) .. " " .. o.eos_token, message.train) end
  end
  return spans
end

--- Llama 3: a header with the role, then the text and <|eot_id|>.
--- @param messages table[] { role =, content =, train = } of each message
--- @param o table add_generation_prompt, bos_token, eos_token, default_system
--- @return table[] spans { text =, train = }
--- @example assert(qlora.chat.apply("llama3", { { role = "user", content = "Hi" } }):find "Hi")
function templates.llama3(messages, o)
  local put, spans = writer()
  put(o.bos_token)
  for _, message in ipairs(messages) do
    put("<|start_header_id|>" .. message.role .. "<|end_header_id|>\n\n")
    put(trim(message.content) .. "<|eot_id|>", message.train)
  end
  if o.add_generation_prompt then put "<|start_header_id|>assistant<|end_header_id|>\n\n" end
  return spans
end

--- Mistral: [INST] … [/INST] without a system message.
--- @param messages table[] { role =, content =, train = } of each message
--- @param o table add_generation_prompt, bos_token, eos_token, default_system
--- @return table[] spans { text =, train = }
--- @throws when user and assistant do not alternate
--- @example assert(qlora.chat.apply("mistral", { { role = "user", content = "Hi" } }):find "Hi")
function templates.mistral(messages, o)
  local put, spans = writer()
  check_alternation("mistral", messages)
  put(o.bos_token)
  for _, message in ipairs(messages) do
    if message.role == "user" then put("[INST] " .. message.content .. " [/INST]")
    else put(message.content .. o.eos_token, message.train) end
  end
  return spans
end

--- Zephyr: a line <|role|>, then the text and EOS.
--- @param messages table[] { role =, content =, train = } of each message
--- @param o table add_generation_prompt, bos_token, eos_token, default_system
--- @return table[] spans { text =, train = }
--- @example assert(qlora.chat.apply("zephyr", { { role = "user", content = "Hi" } }):find "Hi")
function templates.zephyr(messages, o)
  local put, spans = writer()
  for _, message in ipairs(messages) do
    put("<|" .. message.role .. "|>\n")
    put(message.content .. o.eos_token, message.train)
    put "\n"
  end
  if o.add_generation_prompt then put "<|assistant|>\n" end
  return spans
end

--- Stanford Alpaca's prompt for one or more turns; it has no template of its own in any tokenizer.
--- @param messages table[] { role =, content =, train = } of each message
--- @param o table add_generation_prompt, bos_token, eos_token, default_system
--- @return table[] spans { text =, train = }
--- @example assert(qlora.chat.apply("alpaca", { { role = "user", content = "Hi" } }):find "Hi")
function templates.alpaca(messages, o)
  local put, spans = writer()
  local system, turns = split_system(messages)
  put((system or "Below is an instruction that describes a task. "
    .. "Write a response that appropriately completes the request.") .. "\n\n")
  for _, message in ipairs(turns) do
    if message.role == "user" then put("### Instruction:\n" .. message.content .. "\n\n### Response:\n")
    else
      put(message.content .. o.eos_token, message.train)
      put "\n\n"
    end
  end
  return spans
end

--- The template's name told from its Jinja source.
--- @param jinja string|nil the source, tokenizer.chat_template
--- @return string|nil, string|nil the name and the system text the template fills in by itself; nil when unknown
--- @example assert(qlora.chat.detect("{{ '<|im_start|>' }}") == "chatml")
function chat.detect(jinja)
  if not jinja then return nil end
  if jinja:find("<|im_start|>", 1, true) then
    local default = jinja:match("<|im_start|>system\\n(.-)<|im_end|>")
    if default and default:find("[{}]") or default and default:find("'", 1, true) then default = nil end
    return "chatml", default
  end
  if jinja:find("<|start_header_id|>", 1, true) then return "llama3" end
  if jinja:find("<<SYS>>", 1, true) then return "llama2" end
  if jinja:find("[INST]", 1, true) then return "mistral" end
  if jinja:find("<|user|>", 1, true) then return "zephyr" end
  return nil
end

local schema = strict.declare("qlora.chat.spans", {
  add_generation_prompt = { "boolean", "end with the opening of an assistant message", default = false },
  bos_token = { "string", "text of the token that opens a text; default the template's usual one" },
  eos_token = { "string", "text of the token that ends a text", default = "</s>" },
  default_system = { "string", "system message when the messages have none; default none" },
  train = { "string", "which assistant messages are trained", default = "all", choices = { "all", "last" } },
  ignore = { "table", "names of message fields that are left unread on purpose" },
  literal = { "boolean", "special tokens that a message spells stay text", default = false },
})
strict.declare("qlora.chat.apply", schema)

--- Spans of a conversation under a template.
--- @param name string|function a template's name, or a function messages, settings -> spans
--- @param messages table[] { role =, content =, train = } of each message; train decides against `train` of the
---   options
--- @return table[] spans { text =, train = }
--- @throws when the list is empty, a message lacks its role or content or has a field that the template cannot say, or
---   the template is unknown
--- @example
--- local spans = qlora.chat.spans("chatml", {
---   { role = "user", content = "Hi" }, { role = "assistant", content = "Hello" } }, { train = "last" })
--- assert(spans[2].train)
function chat.spans(name, messages, options)
  local o = strict.options("chat.spans", options, schema)
  o.bos_token = o.bos_token or name == "llama3" and "<|begin_of_text|>" or "<s>"
  local template = type(name) == "function" and name or templates[name]
  if not template then strict.one_of("chat", "template", name, strict.sorted_keys(templates)) end
  local is_own = true
  for _, known in pairs(templates) do is_own = is_own and known ~= template end
  local list = messages_of.normalized(messages, o.train, o.ignore, is_own)
  if not o.literal then return template(list, o) end
  local spans = render_literal(template, list, o)
  if not spans then
    strict.fail("chat.spans: the template does not write each message once, so that literal = true cannot find them")
  end
  return spans
end

--- The text of a conversation under a template: equal to the output of the Jinja template.
--- @param name string|function a template's name, or a function messages, settings -> spans
--- @param messages table[] { role =, content = } of each message
--- @return string the text
--- @throws when the list is empty, a message lacks its role or content, or the template is unknown
--- @example assert(qlora.chat.apply("zephyr", { { role = "user", content = "Hi" } }) == "<|user|>\nHi</s>\n")
function chat.apply(name, messages, options)
  local parts = {}
  for i, span in ipairs(chat.spans(name, messages, options)) do parts[i] = span.text end
  return table.concat(parts)
end

--- What a tokenizer says of its template.
--- @param tokenizer Tokenizer the tokenizer
--- @return string|nil, table name of the template, and bos_token, eos_token and default_system for qlora.chat.spans
--- @example
--- local _, settings = qlora.chat.for_tokenizer(model.tokenizer)
--- assert(settings.eos_token == "</s>")
function chat.for_tokenizer(tokenizer)
  local name, default = chat.detect(tokenizer.chat_template)
  return name, { bos_token = tokenizer.bos_token, eos_token = tokenizer.eos_token, default_system = default }
end

local apply_schema = strict.declare("tokenizer:apply_chat", {
  template = { "string|callable", "template by name, or a function; default the tokenizer's own" },
  add_generation_prompt = { "boolean", "end with the opening of an assistant message", default = false },
  tokenize = { "boolean", "return the ids that data.load trains on; those of the model's own template begin as it says",
    default = false },
  default_system = { "string", "system message when the messages have none; default the template's" },
})
strict.declare("qlora.chat.apply_chat", apply_schema)

--- The text of a conversation under the tokenizer's own template, or its ids.
--- @param tokenizer Tokenizer the tokenizer; model.tokenizer:apply_chat(…) is the usual call
--- @param messages table[] { role =, content = } of each message
--- @return string|integer[] the text, or the ids with `tokenize`
--- @throws when the template is not known here
--- @example
--- local text = model.tokenizer:apply_chat({ { role = "user", content = "Hi" } }, { template = "chatml" })
--- assert(text == "<|im_start|>user\nHi<|im_end|>\n")
function chat.apply_chat(tokenizer, messages, options)
  local o = strict.options("apply_chat", options, apply_schema)
  local found, settings = chat.for_tokenizer(tokenizer)
  local name = o.template or found
  local own = name == found
  if not name then
    strict.fail("apply_chat: the model's chat template is not one of %s; name one with `template =`",
      table.concat(strict.sorted_keys(templates), ", "))
  end
  settings.add_generation_prompt = o.add_generation_prompt
  settings.default_system = o.default_system or settings.default_system
  local text = chat.apply(name, messages, settings)
  if not o.tokenize then return text end
  local missing = own and missing_marker(name, tokenizer)
  if missing then strict.fail("apply_chat: the tokenizer's own %s; name another with template =", missing) end
  local ids = tokenizer:encode(text, { special = false })
  local bos = not own and tokenizer:encode("", { special = true })[1]
  if bos and bos == tokenizer.bos and ids[1] ~= bos then table.insert(ids, 1, bos) end
  return ids
end

return chat
