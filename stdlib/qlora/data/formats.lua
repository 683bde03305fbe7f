--- Record formats: each turns one record into spans { text =, train = } (or nil when the record has nothing to learn
--- from). Source-and-target formats follow qlora.py: both parts are tokenized on their own.
local chat = require "qlora.chat"

local formats = {}

--- Spans of a prompt and its answer; `separate` makes the tokenizer start afresh at the target, as qlora.py does.
local function source_target(source, target)
  if type(target) ~= "string" or target == "" then return nil end
  if source == nil or source == "" then return { { text = target, train = true } } end
  return { { text = source, train = false, source = true }, { text = target, train = true, separate = true } }
end

local alpaca_head = "Below is an instruction that describes a task"
local alpaca_tail = " Write a response that appropriately completes the request.\n\n### Instruction:\n"

--- The prompt of Stanford Alpaca with qlora.py's ending, "### Response: ".
--- @param instruction string what to do
--- @param input? string what to do it with
--- @return string the prompt
--- @example assert(qlora.data.alpaca_prompt("Say hello."):find "### Instruction:\nSay hello%.")
function formats.alpaca_prompt(instruction, input)
  if input and input ~= "" then
    return alpaca_head .. ", paired with an input that provides further context." .. alpaca_tail .. instruction
      .. "\n\n### Input:\n" .. input .. "\n\n### Response: "
  end
  return alpaca_head .. "." .. alpaca_tail .. instruction .. "\n\n### Response: "
end

local by_name = {}
formats.by_name = by_name

--- Stanford Alpaca: instruction, input and output, under its prompt.
--- @param record table the record
--- @return table[]|nil, string spans { text =, train = }, nil when a field is missing, and the field's name
--- @example assert(qlora.data.formats.alpaca({ instruction = "Say hello.", output = "Hello." }))
function by_name.alpaca(record)
  if type(record.instruction) ~= "string" then return nil, "instruction" end
  return source_target(formats.alpaca_prompt(record.instruction, record.input), record.output), "output"
end

local function conversation(messages, context)
  if type(messages) ~= "table" then return nil end
  local settings = {}
  for key, value in pairs(context.chat) do settings[key] = value end
  return chat.spans(context.template, messages, settings)
end

--- A conversation: messages, under the model's chat template.
--- @param record table the record
--- @param context table { template = name or function, chat = options of qlora.chat.spans }
--- @return table[]|nil, string spans { text =, train = }, nil when a field is missing, and the field's name
--- @example
--- local messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Hello" } }
--- assert(qlora.data.formats.chat({ messages = messages }, { template = "chatml", chat = {} }))
function by_name.chat(record, context) return conversation(record.messages, context), "messages" end

--- ShareGPT: conversations (or messages), under the model's chat template.
--- @param record table the record
--- @param context table { template = name or function, chat = options of qlora.chat.spans }
--- @return table[]|nil, string spans { text =, train = }, nil when a field is missing, and the field's name
--- @example
--- local messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Hello" } }
--- assert(qlora.data.formats.sharegpt({ conversations = messages }, { template = "chatml", chat = {} }))
function by_name.sharegpt(record, context)
  return conversation(record.conversations or record.messages, context), "conversations"
end

--- OpenAssistant as qlora.py trains it: `text` is the whole conversation, prompts included.
--- @param record table the record
--- @return table[]|nil, string spans { text =, train = }, nil when a field is missing, and the field's name
--- @example assert(qlora.data.formats.oasst1({ text = "### Human: Hi### Assistant: Hello" }))
function by_name.oasst1(record) return source_target(nil, record.text), "text" end

--- Raw text, one long stream cut into windows of max_length.
--- @param record table the record
--- @return table[]|nil, string spans { text =, train = }, nil when a field is missing, and the field's name
--- @example assert(qlora.data.formats.text({ text = "The baker makes bread." }))
function by_name.text(record)
  if type(record.text) ~= "string" or record.text == "" then return nil, "text" end
  return { { text = record.text, train = true } }, "text"
end

--- prompt and completion, or a text to be continued (trained as a whole).
--- @param record table the record
--- @return table[]|nil, string spans { text =, train = }, nil when a field is missing, and the field's name
--- @example assert(qlora.data.formats.completion({ prompt = "2 + 2 =", completion = " 4" }))
function by_name.completion(record)
  if record.completion ~= nil then return source_target(record.prompt, record.completion), "completion" end
  return source_target(nil, record.text), "text"
end

--- Self-Instruct: prompt and completion, or the seed tasks' instruction with instances.
--- @param record table the record
--- @return table[]|nil, string spans { text =, train = }, nil when a field is missing, and the field's name
--- @example assert(qlora.data.formats.self_instruct({ prompt = "Add 2 and 2.", completion = "4" }))
function by_name.self_instruct(record)
  local instance = record.instances and record.instances[1]
  if instance then
    return source_target(formats.alpaca_prompt(record.instruction or "", instance.input), instance.output), "instances"
  end
  return source_target(record.prompt, record.completion), "completion"
end

--- Anthropic HH: `chosen` is the whole conversation, all of it trained.
--- @param record table the record
--- @return table[]|nil, string spans { text =, train = }, nil when a field is missing, and the field's name
--- @example assert(qlora.data.formats.hh_rlhf({ chosen = "Human: Hi Assistant: Hello" }))
function by_name.hh_rlhf(record) return source_target(nil, record.chosen), "chosen" end

--- LongForm: input and output.
--- @param record table the record
--- @return table[]|nil, string spans { text =, train = }, nil when a field is missing, and the field's name
--- @example assert(qlora.data.formats.longform({ input = "Tell a story.", output = "Once there was a baker." }))
function by_name.longform(record) return source_target(record.input, record.output), "output" end

--- input and output, nothing added.
--- @param record table the record
--- @return table[]|nil, string spans { text =, train = }, nil when a field is missing, and the field's name
--- @example assert(qlora.data.formats.input_output({ input = "2 + 2 =", output = " 4" }))
function by_name.input_output(record) return source_target(record.input, record.output), "output" end

--- LAION OIG chip2: one text with <human>: and <bot>: marks.
--- @param record table the record
--- @return table[]|nil, string spans { text =, train = }, nil when a field is missing, and the field's name
--- @example assert(qlora.data.formats.chip2({ text = "<human>: Hi\n<bot>: Hello" }))
function by_name.chip2(record)
  if type(record.text) ~= "string" then return nil, "text" end
  local source, target = record.text:match("^(.-)\n<bot>: (.*)$")
  if not source then return nil, "text" end
  return source_target((source:gsub("<human>: ", "")), target), "text"
end

-- Formats without an end-of-sequence rule of their own: the template writes the end of each turn itself.
formats.own_end = { chat = true, sharegpt = true }

return formats
