local t = require "harness"
local qlora = require "qlora"
local native = require "qlora.native"
local chat = qlora.chat

local golden = dofile(t.directory .. "/golden/chat.lua")

t.test("templates equal the models' Jinja output", function()
  assert(#golden > 30)
  for _, case in ipairs(golden) do
    local name = case.template:match("^(%w+)")
    local text = chat.apply(name, case.messages, {
      bos_token = "<s>", eos_token = "</s>", add_generation_prompt = case.generate,
      default_system = case.template == "chatml_default"
        and "You are a helpful AI assistant named SmolLM, trained by Hugging Face" or nil,
    })
    t.equal(text, case.text, case.template .. (case.generate and " with generation prompt" or ""))
  end
end)

local conversation = {
  { role = "user", content = "one" }, { role = "assistant", content = "two" },
  { from = "human", value = "three" }, { from = "gpt", value = "four" },
}

t.test("assistant text and its end marker are trained, nothing else", function()
  local spans = chat.spans("chatml", conversation)
  t.equal(#spans, 5)
  t.equal(spans[2], { text = "two<|im_end|>", train = true })
  t.equal(spans[3], { text = "\n<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n", train = false })
  for _, name in ipairs { "llama2", "llama3", "mistral", "zephyr", "alpaca" } do
    local trained = {}
    for _, span in ipairs(chat.spans(name, conversation)) do
      if span.train then trained[#trained + 1] = span.text:match("%a+") end
    end
    t.equal(trained, { "two", "four" }, name)
  end
  t.equal(#chat.spans("chatml", conversation, { train = "last" }), 3)
end)

t.test("tokenizer:apply_chat uses the model's template", function()
  local tokenizer = native.byte_tokenizer { chat_template = t.chatml }
  t.equal(tokenizer:apply_chat({ conversation[1] }, { add_generation_prompt = true }),
    "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n")
  t.raises(function() native.byte_tokenizer():apply_chat(conversation) end, "template =", "zephyr")
  t.raises(function() chat.apply("chatlm", conversation) end, '"chatml"')
  t.raises(function() chat.apply("llama2", { conversation[2] }) end, "message 1 must be from the user")
  t.raises(function() chat.apply("chatml", { { role = "user" } }) end, "message 1 needs a role and a content")
end)
