--- Chat templates by name as Lua functions: messages -> spans { text =, train = }. What the model is to say is trained,
--- the rest is not, so no marker has to be searched for afterwards.
local strict = require "qlora.strict"

local templates = {}

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

return templates
