--- The template that a model brings along, rendered as its author wrote it, with what is trained cut out of the text.
local conversation = require "qlora.jinja.conversation"
local fields = require "qlora.data.fields"
local jinja = require "qlora.jinja"
local literal_ranges = require "qlora.chat_literal"
local messages_of = require "qlora.chat_messages"
local parts = require "qlora.chat_parts"
local roles = require "qlora.chat_roles"
local strict = require "qlora.strict"
local trained_ranges = require "qlora.chat_trained"
local typed = require "qlora.typed"
local values = require "qlora.jinja.values"

local chat_model = {}
local Template = { __name = "chat template" }
Template.__index = Template
local made, sourced = setmetatable({}, { __mode = "k" }), setmetatable({}, { __mode = "k" })

local function new(tokenizer, named, name)
  return setmetatable({ tokenizer = tokenizer, default = tokenizer.chat_template, named = named, name = name, ends = {},
    facts = {} }, Template)
end

--- What is kept for a tokenizer: each access to `model.tokenizer` is a key of its own, though it equals the others.
local function kept(by_tokenizer, tokenizer)
  for known, value in pairs(by_tokenizer) do
    if known == tokenizer then return value end
  end
end

--- The template of a tokenizer, the same one as long as somebody holds it; nil without one.
function chat_model.of(tokenizer)
  local named = tokenizer.named_chat_templates or {}
  if not tokenizer.chat_template and next(named) == nil then return nil end
  local template = kept(made, tokenizer) or new(tokenizer, named, "the tokenizer's chat template")
  made[template.tokenizer] = template
  return template
end

--- The template of a Jinja source for the texts of a tokenizer, which may have another: the same one as long as
--- somebody holds it. `origin`: the file that the source is of, or "of the adapter", for errors.
function chat_model.from(tokenizer, source, origin)
  local own = chat_model.of(tokenizer)
  if own and own.default == source then return own end
  local known = kept(sourced, tokenizer) or {}
  local template = known[source] or new(tokenizer, {}, "chat template")
  if origin then template.name = "chat template " .. origin end
  template.default, known[source], sourced[template.tokenizer] = source, template, known
  return template
end

--- The Jinja source of a template, and that for conversations with tools where it has one.
function chat_model.source(template) return template.default, template.named.tool_use end

--- Whether a value is a model's own template.
function chat_model.is(value) return getmetatable(value) == Template end

--- The source for a conversation: as in transformers, `tool_use` where there are tools, else the default one.
local function source_of(template, has_tools)
  local source = has_tools and template.named.tool_use or template.default
  if not source then
    strict.fail("chat: the tokenizer has no default chat template, only %s; name another: %s", table.concat(
      strict.sorted_keys(template.named), ", "), typed("template", "chatml"))
  end
  return source
end

--- The texts of a tokenizer's special tokens, as a template is given them.
function chat_model.special_texts(tokenizer)
  local variables = {}
  for key, text in pairs(tokenizer.special_tokens or {}) do variables[key] = text end
  variables.bos_token = variables.bos_token or tokenizer.bos_token
  variables.eos_token = variables.eos_token or tokenizer.eos_token
  return variables
end

--- What a template is given beside the messages.
local function variables_of(template, source, o)
  local variables = chat_model.special_texts(template.tokenizer)
  for key, value in pairs(o.template_options or {}) do
    if type(key) ~= "string" or not key:find "^[%a_][%w_]*$" or not source:find("%f[%w_]" .. key .. "%f[^%w_]") then
      strict.fail("chat: the model's template never reads the template option '%s'", tostring(key))
    end
    variables[key] = value
  end
  variables.tools, variables.documents = o.tools, o.documents
  return variables
end

--- An error for what the conversation says and the template did not read.
local function check_read(list, read, o)
  local ignored = fields.set(o.ignore)
  for i, message in ipairs(list) do
    for _, key in ipairs(message.value.keys) do
      local value = values.raw(message.value, key)
      local says = value ~= values.None and values.truth(value) and key ~= "role"
      if says and not ignored[key] and not conversation.was_read(message.value, key) then
        strict.fail("chat: message %d has '%s', which the model's template never reads there; %s", i, key,
          fields.remedy(key, o.is_request))
      end
    end
  end
  for _, key in ipairs { "tools", "documents" } do
    local given = o[key] ~= nil and o[key] ~= values.None and values.truth(jinja.read(o[key]))
    if given and not read[key] and not ignored[key] then
      strict.fail("chat: there are %s, which the model's template never reads; remove them, or say ignore = { \"%s\" }",
        key, key)
    end
  end
end

--- Cuts `text` at the borders of ranges { first, last } into spans { text =, train =, literal = }.
local function cut(text, trained, literal)
  local spans, at, t, l = {}, 1, 1, 1
  while at <= #text do
    while trained[t] and trained[t][2] < at do t = t + 1 end
    while literal[l] and literal[l][2] < at do l = l + 1 end
    local to = #text
    local function inside(range)
      if not range then return false end
      if range[1] <= at then to = math.min(to, range[2]) return true end
      to = math.min(to, range[1] - 1)
      return false
    end
    local train, is_literal = inside(trained[t]), inside(literal[l])
    spans[#spans + 1] = { text = text:sub(at, to), train = train, literal = is_literal or nil }
    at = to + 1
  end
  return spans
end

--- What a source says of itself: the texts that it names, and whether it has generation blocks.
local function facts_of(template, source)
  if not template.facts[source] then
    local statements = jinja.parse(source, template.name)
    template.facts[source] = { named = roles.named(statements), has_blocks = statements.has_generation }
  end
  return template.facts[source]
end

--- An error for a default source that is no template.
function chat_model.check(template)
  if template.default then facts_of(template, template.default) end
end

--- Renders a conversation. Returns its text, generation blocks, messages, and a function that renders the first
--- `count` of them, whose fields `change(i, message)` may change.
local function rendered(template, messages, o)
  local list = messages_of(messages, o)
  local source = source_of(template, o.tools ~= nil and o.tools ~= values.None)
  local variables, now = variables_of(template, source, o), os.time()
  local function render(count, prompt, change)
    local shown = {}
    for i = 1, count do shown[i] = change and change(i, list[i].value) or list[i].value end
    variables.messages, variables.add_generation_prompt = values.list(shown, count), prompt or false
    return conversation.render(source, variables, { name = template.name, now = now })
  end
  local facts = facts_of(template, source)
  for i, message in ipairs(list) do roles.check(i, message.role, facts.named, o.roles, o.is_request) end
  parts.watch(list)
  local ok, text, generated, read = pcall(render, #list, o.add_generation_prompt)
  if parts.settle(list, not ok, facts.named, o) then
    text, generated, read = render(#list, o.add_generation_prompt)
  elseif not ok then error(text, 0) end
  check_read(list, read, o)
  return { text = text, generated = generated, list = list, render = render, uses_blocks = facts.has_blocks }
end

--- The text of a conversation.
function chat_model.text(template, messages, o) return rendered(template, messages, o).text end

--- Spans of a conversation. `messages` are Lua tables or values of a template; `o` as in qlora.chat.spans.
function chat_model.spans(template, messages, o)
  local c = rendered(template, messages, o)
  c.prompt, c.tokenizer, c.ends = o.add_generation_prompt, template.tokenizer, template.ends
  return cut(c.text, trained_ranges(c), o.literal and literal_ranges(c.text, #c.list, c.render, o) or {})
end

--- A question and an answer.
local function probe(answer) return { { role = "user", content = "a" }, { role = "assistant", content = answer } } end

--- How a template ends an answer: the id of a special token, else the text that it writes behind; nil for neither, and
--- where it refuses a plain question and answer.
function chat_model.answer_end(template)
  local tokenizer = template.tokenizer
  local ok, spans = pcall(chat_model.spans, template, probe "b", {})
  for _, span in ipairs(ok and spans or {}) do
    local ids = span.train and tokenizer:encode(span.text, { special = false }) or {}
    if #ids > 0 then
      local last = tokenizer:decode { ids[#ids] }
      local as_text = tokenizer:encode(last, { special = false, literal = true })
      if #as_text ~= 1 or as_text[1] ~= ids[#ids] then return ids[#ids] end
      break
    end
  end
  local is_text, text = pcall(chat_model.text, template, probe "\u{E000}", {})
  local tail = is_text and text:match "^.*\u{E000}%s*(.-)%s*$"
  return nil, tail ~= "" and tail or nil
end

--- The id of the special token with which a tokenizer's own template ends an answer; nil where there is none.
function chat_model.turn_end(tokenizer)
  local template = chat_model.of(tokenizer)
  return template and (chat_model.answer_end(template))
end

return chat_model
