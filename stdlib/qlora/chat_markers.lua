--- The tokens that chat templates mark turns with, and the check that a tokenizer has them.
local strict = require "qlora.strict"

--- By template; "bos" and "eos" are what the tokenizer itself names so.
local markers = {
  chatml = { "<|im_start|>", "<|im_end|>" }, llama2 = { "bos", "eos" }, mistral = { "bos", "eos" }, zephyr = { "eos" },
  llama3 = { "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>" }, alpaca = { "eos" },
}

--- Checks that each marker of a template is one token of the tokenizer; else the model would see it as some pieces of
--- text, and nothing would end a turn. `caller` names the function in the message; a template that is a function is not
--- checked.
return function(caller, name, tokenizer)
  for _, marker in ipairs(markers[name] or {}) do
    local role = (marker == "bos" or marker == "eos") and marker
    local ids = {}
    if not role then ids = tokenizer:encode(marker, { special = false })
    elseif tokenizer[role] then ids = { tokenizer[role] } end
    if #ids ~= 1 then
      strict.fail("%s: template %s marks turns with %s, but this tokenizer has no such token%s; name another template, "
        .. "or pass qlora.chat.templates.%s itself to train on its pieces", caller, name,
        role and role:upper() or marker, #ids > 0 and (" and makes %d of it"):format(#ids) or "", name)
    end
  end
end
