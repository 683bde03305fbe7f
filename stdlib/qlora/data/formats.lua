--- Record formats: each turns one record into spans { text =, train = } (or nil when the record has nothing to learn
--- from). Source-and-target formats follow qlora.py: both parts are tokenized on their own. What each reads is declared
--- in qlora.data.fields.
local chat = require "qlora.chat"
local fields = require "qlora.data.fields"
local jinja = require "qlora.jinja"
local pairs_of = require "qlora.data.pairs"
local strict = require "qlora.strict"
local values = require "qlora.jinja.values"

local formats = {}

--- Spans of a prompt and its answer; `separate` makes the tokenizer start afresh at the target, as qlora.py does.
local function source_target(source, target)
  if source == nil or source == "" then return { { text = target, train = true } } end
  return { { text = source, train = false, source = true }, { text = target, train = true, separate = true } }
end

local alpaca_head = "Below is an instruction that describes a task"
local alpaca_tail = " Write a response that appropriately completes the request."

local function alpaca_system(input)
  return alpaca_head .. (input and input ~= "" and ", paired with an input that provides further context." or ".")
    .. alpaca_tail
end

local function alpaca_turn(instruction, input)
  if input and input ~= "" then instruction = instruction .. "\n\n### Input:\n" .. input end
  return "### Instruction:\n" .. instruction .. "\n\n### Response: "
end

--- The prompt of Stanford Alpaca with qlora.py's ending, "### Response: ".
--- @param instruction string what to do
--- @param input? string what to do it with
--- @return string the prompt
--- @example assert(qlora.data.alpaca_prompt("Say hello."):find "### Instruction:\nSay hello%.")
function formats.alpaca_prompt(instruction, input)
  return alpaca_system(input) .. "\n\n" .. alpaca_turn(instruction, input)
end

local by_name = {}
formats.by_name = by_name

--- Stanford Alpaca: instruction, input and output, under its prompt. `system` takes the place of the prompt's first
--- sentences; the answers in `history` are trained too, as LLaMA-Factory does, unless `train` is "last".
--- @param record table the record
--- @param context? table { chat = options of qlora.chat.spans, eos_text = what ends an answer in history }
--- @return table[]|nil, string spans { text =, train = }; nil when there is no answer, and the field's name
--- @throws when a field is missing, of another type, or says what this format cannot
--- @example assert(qlora.data.formats.alpaca({ instruction = "Say hello.", output = "Hello." }))
function by_name.alpaca(record, context)
  local ok, spans, lacks = fields.check("alpaca", record, context)
  if not ok then return spans, lacks end
  local system = record.system
  if system == nil or system == "" then system = alpaca_system(record.input) end
  local train = not (context and context.chat and context.chat.train == "last")
  local eos = context and context.eos_text or ""
  spans = {}
  for i, turn in ipairs(record.history or {}) do
    spans[#spans + 1] = { text = (i == 1 and system or "") .. "\n\n" .. alpaca_turn(turn[1]), source = true }
    spans[#spans + 1] = { text = turn[2], train = train, separate = true }
    spans[#spans + 1] = { text = eos, train = train, literal = false }
  end
  local turn = "\n\n" .. alpaca_turn(record.instruction, record.input)
  spans[#spans + 1] = { text = (#spans == 0 and system or "") .. turn, source = true }
  spans[#spans + 1] = { text = record.output, train = true, separate = true }
  return spans
end

--- Spans of a conversation; a `system` beside it is its first message.
local function conversation(messages, record, context)
  if not fields.is_empty(record.system) then
    local first = messages[1]
    if type(first) == "table" and (first.role or first.from) == "system" then
      if (first.content or first.value) ~= record.system then
        strict.fail("'system' stands beside a conversation that begins with another system message")
      end
    else
      messages = table.move(messages, 1, #messages, 2, { { role = "system", content = record.system } })
    end
  end
  local settings = {}
  for key, value in pairs(context.chat) do settings[key] = value end
  local spans, bos = chat.spans(context.template, messages, settings), context.bos_text
  if bos and spans[1] and spans[1].text:sub(1, #bos) ~= bos then table.insert(spans, 1, { text = bos }) end
  return spans
end

--- Spans of a record under the model's own template, which gets its fields as they are in the file.
local function own_conversation(name, record, context)
  local whole = context.text and jinja.read_json(context.text) or jinja.read(record)
  local settings, options = {}, {}
  for key, value in pairs(context.chat) do settings[key] = value end
  for key, value in pairs(settings.template_options or {}) do options[key] = value end
  local kwargs = record.chat_template_kwargs
  if kwargs ~= nil and type(kwargs) ~= "table" then strict.fail "'chat_template_kwargs' is no table of options" end
  for key in pairs(kwargs or {}) do
    if not context.ignored.chat_template_kwargs then
      options[key], context.of_records[key] = values.raw(values.raw(whole, "chat_template_kwargs"), key), true
    end
  end
  if record.enable_thinking ~= nil and not context.ignored.enable_thinking then
    options.enable_thinking, context.of_records.enable_thinking = record.enable_thinking, true
  end
  settings.template_options = options
  for _, key in ipairs { "tools", "documents" } do
    local value = record[key] ~= nil and not context.ignored[key] and values.raw(whole, key) or nil
    if type(value) == "string" then
      local ok, decoded = pcall(jinja.read_json, value)
      if not ok then strict.fail("'%s' is a text that is no JSON", key) end
      value = decoded
    end
    if value ~= nil and values.truth(value) then settings[key] = value end
  end
  local messages = values.raw(whole, name)
  if name == "completion" then messages = pairs_of.joined_values(values.raw(whole, "prompt"), messages) end
  if not fields.is_empty(record.system) then
    local first = messages[1]
    local role = first and values.is_dict(first) and (values.raw(first, "role") or values.raw(first, "from"))
    if role == "system" then
      if (values.raw(first, "content") or values.raw(first, "value")) ~= record.system then
        strict.fail("'system' stands beside a conversation that begins with another system message")
      end
    else
      local list = table.move(messages, 1, messages.n, 2, { jinja.read { role = "system", content = record.system } })
      messages = values.list(list, messages.n + 1)
    end
  end
  return chat.spans(context.template, messages, settings)
end

--- A conversation: messages, under the model's chat template; `system` beside them is the first message. Lists of
--- messages as prompt and completion are one conversation, of which the completion is trained.
--- @param record table the record
--- @param context table { template = name or function, chat = options of qlora.chat.spans }
--- @return table[]|nil, string spans { text =, train = }; nil when there is no answer, and the field's name
--- @throws when a field is missing, of another type, or says what this format cannot
--- @example
--- local messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Hello" } }
--- assert(qlora.data.formats.chat({ messages = messages }, { template = "chatml", chat = {} }))
function by_name.chat(record, context)
  local ok, spans, lacks = fields.check("chat", record, context)
  if not ok then return spans, lacks end
  if context.is_own then return own_conversation(record.messages and "messages" or "completion", record, context) end
  return conversation(record.messages or pairs_of.joined(record.prompt, record.completion), record, context)
end

--- ShareGPT: conversations (or messages), under the model's chat template; `system` beside them is the first message.
--- @param record table the record
--- @param context table { template = name or function, chat = options of qlora.chat.spans }
--- @return table[]|nil, string spans { text =, train = }; nil when there is no answer, and the field's name
--- @throws when a field is missing, of another type, or says what this format cannot
--- @example
--- local messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Hello" } }
--- assert(qlora.data.formats.sharegpt({ conversations = messages }, { template = "chatml", chat = {} }))
function by_name.sharegpt(record, context)
  local ok, spans, lacks = fields.check("sharegpt", record, context)
  if not ok then return spans, lacks end
  if context.is_own then
    return own_conversation(record.conversations and "conversations" or "messages", record, context)
  end
  return conversation(record.conversations or record.messages, record, context)
end

--- OpenAssistant as qlora.py trains it: `text` is the whole conversation, prompts included.
--- @param record table the record
--- @param context? table read from it: `ignored`, a set of fields left unread
--- @return table[]|nil, string spans { text =, train = }; nil when there is no answer, and the field's name
--- @throws when a field is missing, of another type, or says what this format cannot
--- @example assert(qlora.data.formats.oasst1({ text = "### Human: Hi### Assistant: Hello" }))
function by_name.oasst1(record, context)
  local ok, spans, lacks = fields.check("oasst1", record, context)
  if not ok then return spans, lacks end
  return source_target(nil, record.text)
end

--- Raw text, one long stream cut into windows of max_length.
--- @param record table the record
--- @param context? table read from it: `ignored`, a set of fields left unread
--- @return table[]|nil, string spans { text =, train = }; nil when there is no answer, and the field's name
--- @throws when a field is missing, of another type, or says what this format cannot
--- @example assert(qlora.data.formats.text({ text = "The baker makes bread." }))
function by_name.text(record, context)
  local ok, spans, lacks = fields.check("text", record, context)
  if not ok then return spans, lacks end
  return source_target(nil, record.text)
end

--- prompt and completion, or a text to be continued (trained as a whole).
--- @param record table the record
--- @param context? table read from it: `ignored`, a set of fields left unread
--- @return table[]|nil, string spans { text =, train = }; nil when there is no answer, and the field's name
--- @throws when a field is missing, of another type, or says what this format cannot
--- @example assert(qlora.data.formats.completion({ prompt = "2 + 2 =", completion = " 4" }))
function by_name.completion(record, context)
  local ok, spans, lacks = fields.check("completion", record, context)
  if not ok then return spans, lacks end
  if record.completion ~= nil then return source_target(record.prompt, record.completion) end
  return source_target(nil, record.text)
end

--- Self-Instruct: prompt and completion, or the seed tasks' instruction with one of instances.
--- @param record table the record
--- @param context? table read from it: `ignored`, a set of fields left unread
--- @return table[]|nil, string spans { text =, train = }; nil when there is no answer, and the field's name
--- @throws when a field is missing, of another type, or says what this format cannot
--- @example assert(qlora.data.formats.self_instruct({ prompt = "Add 2 and 2.", completion = "4" }))
function by_name.self_instruct(record, context)
  local ok, spans, lacks = fields.check("self_instruct", record, context)
  if not ok then return spans, lacks end
  local instance = record.instances and record.instances[1]
  if not instance then return source_target(record.prompt, record.completion) end
  if fields.is_empty(instance.output) then return nil, "instances[1].output" end
  return source_target(formats.alpaca_prompt(record.instruction, instance.input), instance.output)
end

--- Anthropic HH: `chosen` is the whole conversation, all of it trained.
--- @param record table the record
--- @param context? table read from it: `ignored`, a set of fields left unread
--- @return table[]|nil, string spans { text =, train = }; nil when there is no answer, and the field's name
--- @throws when a field is missing, of another type, or says what this format cannot
--- @example assert(qlora.data.formats.hh_rlhf({ chosen = "Human: Hi Assistant: Hello" }))
function by_name.hh_rlhf(record, context)
  local ok, spans, lacks = fields.check("hh_rlhf", record, context)
  if not ok then return spans, lacks end
  return source_target(nil, record.chosen)
end

--- LongForm: input and output.
--- @param record table the record
--- @param context? table read from it: `ignored`, a set of fields left unread
--- @return table[]|nil, string spans { text =, train = }; nil when there is no answer, and the field's name
--- @throws when a field is missing, of another type, or says what this format cannot
--- @example assert(qlora.data.formats.longform({ input = "Tell a story.", output = "Once there was a baker." }))
function by_name.longform(record, context)
  local ok, spans, lacks = fields.check("longform", record, context)
  if not ok then return spans, lacks end
  return source_target(record.input, record.output)
end

--- input and output, nothing added.
--- @param record table the record
--- @param context? table read from it: `ignored`, a set of fields left unread
--- @return table[]|nil, string spans { text =, train = }; nil when there is no answer, and the field's name
--- @throws when a field is missing, of another type, or says what this format cannot
--- @example assert(qlora.data.formats.input_output({ input = "2 + 2 =", output = " 4" }))
function by_name.input_output(record, context)
  local ok, spans, lacks = fields.check("input_output", record, context)
  if not ok then return spans, lacks end
  return source_target(record.input, record.output)
end

--- LAION OIG chip2: one text with <human>: and <bot>: marks.
--- @param record table the record
--- @param context? table read from it: `ignored`, a set of fields left unread
--- @return table[]|nil, string spans { text =, train = }; nil when there is no answer, and the field's name
--- @throws when a field is missing, of another type, or says what this format cannot
--- @example assert(qlora.data.formats.chip2({ text = "<human>: Hi\n<bot>: Hello" }))
function by_name.chip2(record, context)
  local ok, spans, lacks = fields.check("chip2", record, context)
  if not ok then return spans, lacks end
  local source, target = record.text:match("^(.-)\n<bot>: (.*)$")
  if not source then strict.fail("'text' has no line that begins with \"<bot>: \"") end
  if target == "" then return nil, "text" end
  return source_target((source:gsub("<human>: ", "")), target)
end

-- Formats without an end-of-sequence rule of their own: the template writes the end of each turn itself.
formats.own_end = { chat = true, sharegpt = true }

return formats
