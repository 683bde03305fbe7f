--- Conversations as text and spans, under a template by name (qlora.chat_templates), one of a recipe, or a model's own
--- (qlora.chat_model).
local render_literal = require "qlora.chat_content"
local chat_model = require "qlora.chat_model"
local messages_of = require "qlora.messages"
local strict = require "qlora.strict"
local source = require "qlora.chat_source"
local templates = require "qlora.chat_templates"

local chat = { templates = templates }

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
  local template = source.resolved(name, nil, "chat.spans")
  template = templates[template] or template
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
  if kept then return chat_model.from(model.tokenizer, kept, "of the adapter") end
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
  local template = found
  if o.template ~= nil then template = source.resolved(o.template, tokenizer, "apply_chat") end
  if not template then source.fail_without "apply_chat" end
  for _, key in ipairs { "add_generation_prompt", "default_system", "ignore", "tools", "documents",
    "template_options", "roles" } do settings[key] = o[key] end
  local text = chat_model.is(template) and chat_model.text(template, messages, settings)
    or chat.apply(template, messages, settings)
  if not o.tokenize then return text end
  if not chat_model.is(template) then text = source.bos(tokenizer, text) .. text end
  return tokenizer:encode(text, { special = false })
end

return chat
