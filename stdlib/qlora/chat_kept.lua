--- The Jinja source that an adapter keeps of the template of its chats. It begins with what training gave besides, so
--- that everyone who renders it writes the text of training.
local chat_model = require "qlora.chat_model"
local chat_source = require "qlora.chat_source"
local jinja = require "qlora.jinja"
local repr = require "qlora.jinja.repr"
local strict = require "qlora.strict"

--- A value as a template writes it.
local function literal(what, value)
  local ok, text = pcall(function()
    local text = repr.repr(jinja.read(value))
    return jinja.render(("{{ value == %s }}"):format(text), { value = value }) == "True" and text
  end)
  return ok and text or strict.fail("data.load: %s is %s, which no template can write", what, strict.show(value))
end

--- Lines that set options: one stands where nobody gives another, a token's text in the place of the tokenizer's.
local function options_set(options, tokenizer)
  local lines, given = {}, chat_model.special_texts(tokenizer)
  for _, key in ipairs(strict.sorted_keys(options or {})) do
    local line = ("{%%- set %s = %s %%}"):format(key, literal(("template option '%s'"):format(key), options[key]))
    lines[#lines + 1] = given[key] and line or ("{%%- if %s is not defined %%}%s{%% endif %%}"):format(key, line)
  end
  return lines
end

-- The message that a chat without a system message begins with.
local system = "{%%- if messages[0]['role'] != 'system' %%}"
  .. "{%% set messages = [{'role': 'system', 'content': %s}] + messages %%}{%% endif %%}"

-- A template with another for conversations with tools.
local either = "{%%- if tools is defined and tools is not none %%}\n%s{%%+ else %%}\n%s{%%+ endif %%}"

local lacking = "{{ raise_exception('there is no chat template for conversations without tools') }}"

--- A source without the line break at its end, which Jinja leaves out.
local function body(source) return (source:gsub("\n$", "")) end

--- The source that writes the chats of training: of a template by name, or of a model's own kind; nil for a function,
--- and for a model's without a default one. `o`: default_system and template_options of qlora.data.load. `bos`: samples
--- begin with the tokenizer's BOS, which a template by name is to write.
return function(template, tokenizer, o, bos)
  local source, of_tools
  if chat_model.is(template) then source, of_tools = chat_model.source(template)
  else source = chat_source.named(template, tokenizer, { bos = bos }) end
  if not source and not of_tools then return nil end
  local lines = options_set(o.template_options, tokenizer)
  if o.default_system then lines[#lines + 1] = system:format(literal("default_system", o.default_system)) end
  if #lines == 0 then return source end
  if of_tools then source = either:format(body(of_tools), body(source or lacking)) end
  lines[#lines + 1] = source
  return table.concat(lines, "\n")
end
