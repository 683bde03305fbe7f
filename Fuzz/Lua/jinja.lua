--- Damaged Jinja templates, rendered on a few conversations: a text or a worded error, in bounded time and memory.
local native = require "qlora.native"
local jinja = require "qlora.jinja"
local conversation = require "qlora.jinja.conversation"
local values = require "qlora.jinja.values"

values.limits.steps, values.limits.bytes, values.limits.text = 100000, 1 << 22, 1 << 20

local weather = { type = "function", ["function"] = { name = "weather", description = "Of a \"city\".",
  parameters = { type = "object", properties = { city = { type = "string" } }, required = { "city" } } } }
local chats = {
  { messages = { { role = "user", content = " Hi " } }, add_generation_prompt = true },
  { messages = { { role = "system", content = "Be kind." }, { role = "user", content = "Zürich 天気" },
    { role = "assistant", content = "<think>\nHm.\n</think>\n\nSunny.", reasoning_content = "Hm." } } },
  { messages = { { role = "user", content = { { type = "text", text = "One." } } }, { role = "assistant", content = "",
    tool_calls = { { id = "c1", type = "function", ["function"] = { name = "weather",
      arguments = { city = "Bern", days = 1.5 } } } } }, { role = "tool", name = "weather", content = "{}" } },
    tools = { weather }, documents = { { title = "A", text = "Alpha." } } },
}

return {
  read = function(folder, choice)
    for _, name in ipairs(native.list_dir(folder)) do
      local file <close> = assert(io.open(folder .. "/" .. name, "rb"))
      local source = file:read "a"
      local chat = chats[choice % #chats + 1]
      chat.bos_token, chat.eos_token, chat.enable_thinking = "<s>", "</s>", choice % 2 == 0
      local text = conversation.render(source, chat, { name = name, now = 0 })
      assert(type(text) == "string")
      assert(text == conversation.render(source, chat, { name = name, now = 0 }), "two renderings differ")
      assert(jinja.compile(source))
    end
  end,
}
