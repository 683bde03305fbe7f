--- Bodies of requests as `qlora-run serve` reads them: the fields, the prompt, the options of sampling.
local root = ...
local native = require "qlora.native"
local openai = require "qlora.openai"

local tokenizer = native.tokenizer.load(root .. "/models/tiny")

return {
  read = function(folder)
    for _, name in ipairs(native.list_dir(folder)) do
      local file <close> = assert(io.open(folder .. "/" .. name, "rb"))
      local text = file:read "a"
      local is_chat = text:find('"messages"', 1, true) ~= nil
      local fields, required = openai.completion_fields, "prompt"
      if is_chat then fields, required = openai.chat_fields, "messages" end
      local ok, body = pcall(openai.read, text, fields, required)
      if not ok then
        local status, answer = openai.failure(body)
        if status >= 500 then
          io.stderr:write(answer, "\n")
          -- A server's own fault is no refusal: it ends the worker, and the body is kept.
          os.exit(86)
        end
        error(answer, 0)
      end
      openai.sampling(body, 16, 2048)
      if is_chat then
        tokenizer:apply_chat(body.messages, { template = "chatml", add_generation_prompt = true, tokenize = true })
      elseif type(body.prompt) == "string" then
        tokenizer:encode(body.prompt, { special = true })
      end
    end
  end,
}
