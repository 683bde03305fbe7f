--- Chat templates as Lua functions: messages -> spans { text =, train = }. What the model is to say is trained, the
--- rest is not, so no marker has to be searched for afterwards. These are for those who name them; a model's own
--- template is rendered by qlora.chat_model.
local render_literal = require "qlora.chat_content"
local chat_model = require "qlora.chat_model"
local messages_of = require "qlora.messages"
local strict = require "qlora.strict"
local source = require "qlora.chat_source"

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

--- ChatML (Qwen, SmolLM2, …).
--- @param messages table[] { role =, content =, train = } of each message
--- @param o table add_generation_prompt, bos_token, eos_token
--- @return table[] spans { text =, train = }
--- @example assert(qlora.chat.apply("chatml", { { role = "user", content = "Hi" } }):find "Hi")
function templates.chatml(messages, o)
  local put, spans = writer()
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
--- @param o table add_generation_prompt, bos_token, eos_token
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
--- @param o table add_generation_prompt, bos_token, eos_token
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
--- @param o table add_generation_prompt, bos_token, eos_token
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
--- @param o table add_generation_prompt, bos_token, eos_token
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
--- @param o table add_generation_prompt, bos_token, eos_token
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

local schema = strict.declare("qlora.chat.spans", {
  add_generation_prompt = { "boolean", "end with the opening of an assistant message", default = false },
  bos_token = { "string", "text of the token that opens a text; default the template's usual one" },
  eos_token = { "string", "text of the token that ends a text", default = "</s>" },
  default_system = { "string", "system message when the messages have none; default none" },
  train = { "string", "which assistant messages are trained", default = "all", choices = { "all", "last" } },
  ignore = { "table", "names of message fields that are left unread on purpose" },
  literal = { "boolean", "special tokens that a message spells stay text", default = false },
  tools = { "table", "descriptions of functions, for the model's own template" },
  documents = { "table", "texts to answer from, for the model's own template" },
  template_options = { "table", "what the model's own template is given besides, such as { enable_thinking = false }" },
  roles = { "table", "names of roles that the model's own template does not name and gets all the same" },
})
strict.declare("qlora.chat.apply", schema)

--- Spans of a conversation under a template.
--- @param name string|function|table a template's name, a function messages, settings -> spans, or the model's own
---   template, from qlora.chat.for_tokenizer
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
  if chat_model.is(name) then return chat_model.spans(name, messages, o) end
  for _, key in ipairs { "tools", "documents", "template_options", "roles" } do
    if o[key] ~= nil then
      strict.fail("chat.spans: %s are for a model's own template; those by name cannot say them", key)
    end
  end
  o.bos_token = o.bos_token or name == "llama3" and "<|begin_of_text|>" or "<s>"
  local template = type(name) == "function" and name or templates[name]
  if not template then strict.one_of("chat", "template", name, strict.sorted_keys(templates)) end
  local is_own = true
  for _, known in pairs(templates) do is_own = is_own and known ~= template end
  local list = messages_of.normalized(messages, o.train, o.ignore, is_own)
  if o.default_system and not is_own and list[1].role ~= "system" then
    table.insert(list, 1, { role = "system", content = o.default_system, train = false })
  end
  if not o.literal then return template(list, o) end
  local spans = render_literal(template, list, o)
  if not spans then
    strict.fail("chat.spans: the template does not write each message once, so that literal = true cannot find them")
  end
  return spans
end

--- The text of a conversation under a template.
--- @param name string|function|table a template's name, a function messages, settings -> spans, or the model's own
---   template, from qlora.chat.for_tokenizer
--- @param messages table[] { role =, content = } of each message
--- @return string the text
--- @throws when the list is empty, a message lacks its role or content, or the template is unknown
--- @example assert(qlora.chat.apply("zephyr", { { role = "user", content = "Hi" } }) == "<|user|>\nHi</s>\n")
function chat.apply(name, messages, options)
  local parts = {}
  for i, span in ipairs(chat.spans(name, messages, options)) do parts[i] = span.text end
  return table.concat(parts)
end

--- The template that a tokenizer brings along.
--- @param tokenizer Tokenizer the tokenizer
--- @return table|nil, table the template for qlora.chat.spans, nil without one; and bos_token and eos_token
--- @example
--- local _, settings = qlora.chat.for_tokenizer(model.tokenizer)
--- assert(settings.eos_token == "</s>")
function chat.for_tokenizer(tokenizer)
  return chat_model.of(tokenizer), { bos_token = tokenizer.bos_token, eos_token = tokenizer.eos_token }
end

--- The template that a model answers under: that which the adapters in use keep, else the one that its tokenizer brings
--- along.
--- @param model Model the model
--- @return table|nil the template for qlora.chat.spans and apply_chat; nil without one
--- @example assert(qlora.chat.for_model(model) == qlora.chat.for_tokenizer(model.tokenizer))
function chat.for_model(model)
  local kept, count = nil, 0
  for _, set in ipairs(model:adapters()) do
    if set.in_use then
      if count > 0 and set.chat_template ~= kept then return chat_model.of(model.tokenizer) end
      kept, count = set.chat_template, count + 1
    end
  end
  if kept then return chat_model.from(model.tokenizer, kept) end
  return chat_model.of(model.tokenizer)
end

local apply_schema = strict.declare("tokenizer:apply_chat", {
  template = { "string|callable|table", "template by name, a file with Jinja source, a function, or what "
    .. "qlora.chat.for_tokenizer gives; default the tokenizer's own" },
  add_generation_prompt = { "boolean", "end with the opening of an assistant message", default = false },
  tokenize = { "boolean", "return the ids that data.load trains on; those of the model's own template begin as it says",
    default = false },
  default_system = { "string", "system message when the messages have none; default the template's" },
  ignore = { "table", "names of message fields that are left unread on purpose" },
  tools = { "table", "descriptions of functions, for the model's own template" },
  documents = { "table", "texts to answer from, for the model's own template" },
  template_options = { "table", "what the model's own template is given besides, such as { enable_thinking = false }" },
  roles = { "table", "names of roles that the model's own template does not name and gets all the same" },
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
  local template = source.resolved(o.template or found, tokenizer, templates, "apply_chat")
  if not template then
    strict.fail("apply_chat: the tokenizer has no chat template; name one with `template =` (%s)",
      table.concat(strict.sorted_keys(templates), ", "))
  end
  for _, key in ipairs { "add_generation_prompt", "default_system", "ignore", "tools", "documents",
    "template_options", "roles" } do settings[key] = o[key] end
  local text = chat_model.is(template) and chat_model.text(template, messages, settings)
    or chat.apply(template, messages, settings)
  if not o.tokenize then return text end
  if not chat_model.is(template) then text = source.bos(tokenizer, text) .. text end
  return tokenizer:encode(text, { special = false })
end

return chat
