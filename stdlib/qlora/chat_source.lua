--- Chat templates that are named: those by name as Jinja sources, which write the same text, and files with a source.
--- An adapter keeps the source that it was trained under, for `qlora-run chat`, transformers and vLLM.
local native = require "qlora.native"
local chat_model = require "qlora.chat_model"
local strict = require "qlora.strict"
local templates = require "qlora.chat_templates"
local typed = require "qlora.typed"

local chat_source = {}
-- BOS and EOS stand for variables of the tokenizer, or for texts where it has none.
local alternating = [[
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('user and assistant must take turns, and the user begins') }}{% endif %}]]

local split_system = [[
{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set messages = messages[1:] %}
{%- else %}{% set system = none %}{% endif %}]]

local by_name = {
  chatml = [[
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}]],
  llama2 = split_system .. [[
{%- for message in messages %}]] .. alternating .. [[
{%- if loop.first and system is not none %}{% set head = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' %}
{%- else %}{% set head = '' %}{% endif %}
{%- if message['role'] == 'user' %}{{ BOS + '[INST] ' + (head + message['content']) | trim + ' [/INST]' }}
{%- else %}{{ ' ' + message['content'] | trim + ' ' + EOS }}{% endif %}{% endfor %}]],
  llama3 = [[
{{- BOS }}{% for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}]],
  mistral = [[
{{- BOS }}{% for message in messages %}]] .. alternating .. [[
{%- if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}
{%- else %}{{ message['content'] + EOS }}{% endif %}{% endfor %}]],
  zephyr = [[
{%- for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + EOS + '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}]],
  alpaca = split_system .. [[
{%- if system is none %}{% set system = 'Below is an instruction that describes a task. Write a response that ]]
    .. [[appropriately completes the request.' %}{% endif %}
{{- system + '\n\n' }}{% for message in messages %}
{%- if message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n\n### Response:\n' }}
{%- else %}{{ message['content'] + EOS + '\n\n' }}{% endif %}{% endfor %}]],
}

local writes_bos = { llama2 = true, llama3 = true, mistral = true }

--- The Jinja source of a template by name for the texts of a tokenizer; nil for no such name. `o`: bos (samples begin
--- with the tokenizer's BOS).
function chat_source.named(name, tokenizer, o)
  local body = by_name[name]
  if not body then return nil end
  local function text(key, usual) return tokenizer[key] and key or "'" .. usual .. "'" end
  local values = { BOS = text("bos_token", name == "llama3" and "<|begin_of_text|>" or "<s>"),
    EOS = text("eos_token", "</s>") }
  body = body:gsub("%f[%w]%u+%f[%W]", values)
  return o.bos and not writes_bos[name] and "{{ bos_token }}" .. body or body
end

--- The BOS that a tokenizer puts in front of a text, as a text, so that the ids are those of one text as a server has
--- it; "" where it puts none or the text begins with it.
function chat_source.bos(tokenizer, text)
  local first, bos = tokenizer:encode("", { special = true })[1], tokenizer.bos_token
  return first and first == tokenizer.bos and text:sub(1, #bos) ~= bos and bos or ""
end

--- The model's own kind of template for a template by name, which begins with BOS where the tokenizer does.
function chat_source.of_name(name, tokenizer)
  local bos = chat_source.bos(tokenizer, "") ~= ""
  return chat_model.from(tokenizer, chat_source.named(name, tokenizer, { bos = bos }))
end

--- The name of the template by name that a model's own kind of template was made of; nil for another.
function chat_source.name_of(template, tokenizer)
  local source = chat_model.source(template)
  for name in pairs(by_name) do
    for _, bos in ipairs { false, true } do
      if source == chat_source.named(name, tokenizer, { bos = bos }) then return name end
    end
  end
end

local function read(path, what)
  if native.exists(path .. "/.") then
    strict.fail("%s: %s is a folder; name the file in it, such as %s/chat_template.jinja", what, path, path)
  end
  local file, problem = io.open(native.place_to_read(path), "rb")
  if not file then strict.fail("%s: there is no chat template: %s", what, problem) end
  local text = file:read "a"
  file:close()
  return text
end

--- Ends with an error: there are chats, and a tokenizer without a template.
function chat_source.fail_without(what)
  strict.fail("%s: the tokenizer has no chat template; name one: %s (%s, or a file with Jinja source)", what,
    typed("template", "chatml"), table.concat(strict.sorted_keys(templates), ", "))
end

local function is_callable(value)
  return type(value) == "function" or type(value) == "table" and (getmetatable(value) or {}).__call ~= nil
end

--- A template as functions of qlora.chat take it: a name that is known, a function, or a model's own kind, which a file
--- with Jinja source becomes.
--- @param template any what was given
--- @param tokenizer Tokenizer|nil whose texts a file's template writes; without one a file is no choice
--- @param what string who asks, for errors
function chat_source.resolved(template, tokenizer, what)
  if is_callable(template) or chat_model.is(template) then return template end
  if type(template) ~= "string" then
    strict.fail("%s: option 'template' is %s, expected a name, a file, a function, or what qlora.chat.for_tokenizer "
      .. "gives", what, type(template) == "table" and "a table" or strict.show(template))
  end
  if templates[template] then return template end
  if not tokenizer or not template:find "[./]" and not native.exists(template) then
    strict.one_of(what, "template", template, strict.sorted_keys(templates),
      tokenizer and "; a file with Jinja source will do, too")
  end
  return chat_model.from(tokenizer, read(template, what), template)
end

return chat_source
