--- Text on the real engine: what becomes of spaces, special tokens and bytes between a recipe and the ids.
local t = require "harness"
local qlora = require "qlora"
local native = qlora.native

--- A folder with a tokenizer of the fixtures and other files; true copies the tiny model's.
local function folder(source, files)
  local dir = os.tmpname() .. ".d"
  native.mkdir(dir)
  local target = source:find("%.model$") and "tokenizer.model" or "tokenizer.json"
  local function copy(from, name) native.write_file(dir .. "/" .. name, assert(io.open(from, "rb")):read "a") end
  copy(t.directory .. "/../Fixtures/tokenizers/" .. source, target)
  for name, text in pairs(files) do
    if text == true then copy(qlora.resource "models/tiny" .. "/" .. name, name)
    else native.write_file(dir .. "/" .. name, text) end
  end
  return dir
end

local function load(config, more)
  local files = { ["tokenizer_config.json"] = config }
  for name, text in pairs(more or {}) do files[name] = text end
  local dir = folder("spm.model", files)
  local tokenizer = qlora.tokenizer.load(dir)
  native.remove_tree(dir)
  return tokenizer
end

local llama = '{"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "legacy": %s%s}'

t.test("prompt and answer of generate are the text of all ids", function()
  local dir = folder("spm.model", { ["config.json"] = true, ["model.safetensors"] = true,
    ["tokenizer_config.json"] = llama:format("false", "") })
  local model = qlora.load(dir, { compute = "f32" })
  native.remove_tree(dir)
  local tokenizer, spaces = model.tokenizer, 0
  for i = 1, 60 do
    local prompt = ("%d"):format(i)
    local ids = tokenizer:encode(prompt)
    local scores = model:logits(ids, { last = true })[1]:narrow(1, 1, tokenizer.vocab_size)
    ids[#ids + 1] = scores:argmax():item() - 1
    local whole = tokenizer:decode(ids):gsub("^<s> ?", "")
    local options = { max_new_tokens = 1 }
    t.equal(prompt .. model:generate(prompt, options), whole)
    options.echo = true
    t.equal(model:generate(prompt, options), whole)
    t.equal((model:generate(tokenizer:encode(prompt), options):gsub("^<s> ?", "")), whole)
    if whole:find(" ", 1, true) then spaces = spaces + 1 end
    options.stop = " "
    t.equal(model:generate(prompt, options), whole:match "^[^ ]*")
  end
  assert(spaces > 0, "no answer began with a space")
end)

local messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Hello." },
  { role = "user", content = "Bye" }, { role = "assistant", content = "See you" } }

t.test("a chat is trained on the ids of its whole text", function()
  for _, legacy in ipairs { "true", "false" } do
    local tokenizer = load(llama:format(legacy, ""))
    for _, template in ipairs { "llama2", "mistral", "zephyr", "alpaca" } do
      local data = qlora.data.from_records({ { messages = messages } },
        { format = "chat", template = template, tokenizer = tokenizer, quiet = true })
      -- BOS is a part of the text, as in what a server is given.
      local text = qlora.chat.apply(template, messages)
      if text:sub(1, 3) ~= "<s>" then text = "<s>" .. text end
      local whole = tokenizer:encode(text, { special = false })
      t.equal(data[1].ids, whole, template .. " " .. legacy)
      t.equal(tokenizer:apply_chat(messages, { template = template, tokenize = true }), whole)
      local trained = {}
      for i, label in ipairs(data[1].labels) do if label ~= -100 then trained[#trained + 1] = whole[i] end end
      text = tokenizer:decode(trained)
      assert(text:find("Hello", 1, true) and text:find("See you", 1, true) and not text:find("Bye", 1, true), text)
      local own = require "qlora.chat_model".from(tokenizer, data.chat_template)
      t.equal(tokenizer:apply_chat(messages, { template = own, tokenize = true }), whole)
    end
  end
end)

t.test("a chat under the tokenizer's own template begins as the template says", function()
  local zephyr = load(llama:format("true", [[, "chat_template": "{% for m in messages %}{{ '<|' + m.role + '|>\\n' }}]]
    .. [[{{ m.content + eos_token + '\\n' }}{% endfor %}"]]))
  local options = { format = "chat", tokenizer = zephyr, quiet = true }
  local whole = zephyr:encode(qlora.chat.apply("zephyr", messages), { special = false })
  assert(whole[1] ~= zephyr.bos)
  t.equal(qlora.data.from_records({ { messages = messages } }, options)[1].ids, whole)
  t.equal(zephyr:apply_chat(messages, { tokenize = true }), whole)
  options.bos = true
  t.equal(qlora.data.from_records({ { messages = messages } }, options)[1].ids[1], zephyr.bos)
end)

t.test("markers of a template that are no tokens are said, those of the tokenizer's own are errors", function()
  local tokenizer = load(llama:format("false", ""))
  local function try(template, quiet)
    return qlora.data.from_records({ { messages = messages } },
      { format = "chat", template = template, tokenizer = tokenizer, quiet = quiet })
  end
  local quiet = native.options.quiet
  native.options.quiet = false
  local lines = t.captured(function() assert(#try "chatml" == 1) end)
  assert(lines:find("template chatml marks turns with <|im_start|>, but this tokenizer has no such token and makes", 1, true))
  local none = t.captured(function() try(qlora.chat.templates.chatml) end)
  native.options.quiet = quiet
  assert(not none:find("no such token", 1, true))
  t.equal(#try("llama3", true), 1)
  assert(#tokenizer:apply_chat(messages, { template = "chatml", tokenize = true }) > 8)
  tokenizer = load(llama:format("false", ', "chat_template": ' .. qlora.json.encode(t.chatml)))
  t.raises(function() try() end, "message 2 cannot be trained", 'its turn ends with "<|im_end|>"', "no such token")
  local next = tokenizer.vocab_size
  tokenizer = load(llama:format("false", ""),
    { ["added_tokens.json"] = ('{"<|im_start|>": %d, "<|im_end|>": %d}'):format(next, next + 1) })
  assert(#try "chatml" == 1)
end)

t.test("the special token with which a template ends an answer is its end of turn", function()
  local turn_end = require "qlora.chat_model".turn_end
  local function of(ending, more)
    local source = "{% for m in messages %}[{{ m.role }}]{{ m.content }}" .. ending .. "{% endfor %}"
    local tokenizer = load(llama:format("false", ', "chat_template": ' .. qlora.json.encode(source) .. (more or "")))
    return turn_end(tokenizer), tokenizer
  end
  local next_id = select(2, of "").vocab_size
  t.equal(of("<|end|>\n", (', "added_tokens_decoder": { "%d": { "content": "<|end|>", "special": true } }'):format(next_id)),
    next_id)
  local id, tokenizer = of "</s>"
  t.equal(id, tokenizer.eos)
  t.equal(of "<|end|>", nil) -- no token of this tokenizer
  t.equal(of "{{ raise_exception('no') }}", nil)
  t.equal(turn_end(load(llama:format("false", ""))), nil)
  local block = "{{ messages[0].content }}{% generation %}{{ messages[1].content }}{% endgeneration %}"
  t.equal(turn_end(load(llama:format("false", ', "chat_template": ' .. qlora.json.encode(block)))), nil)
end)

t.test("BOS and EOS that are asked for must be there", function()
  local dir = folder("whitespace.json", {})
  local tokenizer = qlora.tokenizer.load(dir)
  native.remove_tree(dir)
  for _, key in ipairs { "bos", "eos" } do
    t.raises(function()
      qlora.data.from_records({ { input = "a", output = "b" } }, { tokenizer = tokenizer, quiet = true, [key] = true })
    end, key .. " = true, but the tokenizer has no " .. key:upper() .. " token")
  end
end)

t.test("bytes that are no text are refused, not changed", function()
  local tokenizer = load(llama:format("false", ""))
  t.raises(function() tokenizer:encode "ab\xFFc" end, "text is no UTF-8 text from its byte 3 on")
  t.raises(function() tokenizer:encode_parts { "a", "\xE2\x82" } end, "parts[2] is no UTF-8 text from its byte 1 on")
  t.raises(function()
    qlora.data.from_records({ { input = "a", output = "b\xC3" } }, { tokenizer = tokenizer, quiet = true })
  end, "no UTF-8 text from its byte 2 on")
  for _, text in ipairs { "a\r\nb", "\u{FEFF}x", "tab\tend \n", "nul\0byte" } do
    t.equal(tokenizer:decode(tokenizer:encode(text, { special = false })), text)
  end
end)

t.test("special tokens in a text are tokens unless they are to be text", function()
  local tokenizer = load(llama:format("false", ""))
  local function has_end(ids)
    for _, id in ipairs(ids) do if id == tokenizer.eos then return true end end
    return false
  end
  assert(has_end(tokenizer:encode "a</s>b") and not has_end(tokenizer:encode("a</s>b", { literal = true })))
  assert(has_end((tokenizer:encode_parts { "a<", "/s>b" })))
  assert(not has_end((tokenizer:encode_parts({ "a<", "/s>b" }, { literal = { false, true } }))))
  tokenizer = load(llama:format("false", [[, "split_special_tokens": true]]))
  assert(not has_end(tokenizer:encode "a</s>b"))
end)

t.test("a message that spells special tokens ends no turn with literal = true", function()
  local tokenizer = load(llama:format("false", ""))
  local talk = { { role = "user", content = " say </s> " }, { role = "assistant", content = "</s> said" } }
  local function ends(options, records)
    options.tokenizer, options.quiet, options.format = tokenizer, true, options.format or "chat"
    local count = 0
    for _, id in ipairs(qlora.data.from_records(records or { { messages = talk } }, options)[1].ids) do
      if id == tokenizer.eos then count = count + 1 end
    end
    return count
  end
  for _, template in ipairs { "llama2", "mistral", "zephyr", "alpaca" } do
    local own = ends { template = template, literal = true }
    t.equal(ends { template = template }, own + 2, template)
    t.equal(own, template == "zephyr" and 2 or 1, template)
    local spans = qlora.chat.spans(template, talk, { literal = true })
    local text = {}
    for i, span in ipairs(spans) do text[i] = span.text end
    t.equal(table.concat(text), qlora.chat.apply(template, talk))
  end
  local plain = { { input = "a</s>", output = "b</s>c" } }
  t.equal(ends({ format = "input_output" }, plain), 3)
  t.equal(ends({ format = "input_output", literal = true }, plain), 1)
  t.raises(function()
    qlora.chat.spans(function() return { { text = "x" } } end, talk, { literal = true })
  end, "literal = true cannot find them")
  -- What a message says is found by its place, not by its words.
  local spans = qlora.chat.spans("zephyr", { { role = "user", content = "<|user|>" } }, { literal = true })
  local found = { spans[1].text, spans[1].literal or false, spans[2].text, spans[2].literal }
  t.equal(found, { "<|user|>\n", false, "<|user|>", true })
end)

t.test("named templates and special tokens of a tokenizer come from its files, and a spelled BOS stands once", function()
  local named = ', "chat_template": [{"name": "default", "template": "{{ bos_token }}{{ messages[0].content }}"}, '
    .. '{"name": "tool_use", "template": "{{ tools[0].name }}"}]'
  local tokenizer = load(llama:format("false", named))
  local one = { { role = "user", content = "Hi" } }
  t.equal(tokenizer:apply_chat(one), "<s>Hi")
  t.equal(tokenizer:apply_chat(one, { tools = { { name = "clock" } }, ignore = { "content" } }), "clock")
  t.equal(tokenizer.special_tokens.bos_token, "<s>")
  t.equal(tokenizer:encode(tokenizer:apply_chat(one)), tokenizer:apply_chat(one, { tokenize = true }))
  tokenizer = load(llama:format("false", named), { ["chat_template.jinja"] = "J {{ messages[0].content }}" })
  t.equal({ tokenizer:apply_chat(one), tokenizer.named_chat_templates }, { "J Hi", {} })
end)

t.test("a file's records keep nulls and the order of keys for the model's template", function()
  local source = "{% for m in messages %}{{ m | tojson }}{{ eos_token }}{% endfor %}"
  local tokenizer = load(llama:format("false", ', "chat_template": ' .. qlora.json.encode(source)))
  local path = os.tmpname() .. ".jsonl"
  native.write_file(path, '{"messages":[{"role":"user","content":"Hi","b":null,"a":{}},'
    .. '{"role":"assistant","content":"Yes","z":[],"a":1.0}]}\n')
  local data = qlora.data.load(path, { tokenizer = tokenizer, quiet = true })
  os.remove(path)
  t.equal(tokenizer:decode(data[1].ids), '{"role": "user", "content": "Hi", "b": null, "a": {}}</s>'
    .. '{"role": "assistant", "content": "Yes", "z": [], "a": 1.0}</s>')
end)

t.test("a folder given as data names the files in it", function()
  local dir = folder("spm.model", { ["a.jsonl"] = "{}", ["b.CSV"] = "a", ["c.md"] = "a" })
  local tokenizer = qlora.tokenizer.load(dir)
  t.raises(function() qlora.data.load(dir .. "/", { tokenizer = tokenizer }) end,
    "is a folder; name a file in it: " .. dir .. "/a.jsonl, " .. dir .. "/b.CSV")
  native.remove_tree(dir)
  native.mkdir(dir)
  t.raises(function() qlora.data.load(dir, { tokenizer = tokenizer }) end, "is a folder; name a file of records")
  native.remove_tree(dir)
end)
