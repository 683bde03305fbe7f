--- The tokens that chat templates mark turns with, and whether a tokenizer has them.

--- By template; "bos" and "eos" are what the tokenizer itself names so.
local markers = {
  chatml = { "<|im_start|>", "<|im_end|>" }, llama2 = { "bos", "eos" }, mistral = { "bos", "eos" }, zephyr = { "eos" },
  llama3 = { "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>" }, alpaca = { "eos" },
}

--- What is wrong when a marker of a template is not one token of the tokenizer: the model sees it as some pieces of
--- text, and nothing ends a turn. nil when all are, and for a template that is a function.
return function(name, tokenizer)
  for _, marker in ipairs(markers[name] or {}) do
    local role = (marker == "bos" or marker == "eos") and marker
    local ids = {}
    if not role then ids = tokenizer:encode(marker, { special = false })
    elseif tokenizer[role] then ids = { tokenizer[role] } end
    if #ids ~= 1 then
      return ("template %s marks turns with %s, but this tokenizer has no such token%s"):format(name,
        role and role:upper() or marker, #ids > 0 and (" and makes %d of it"):format(#ids) or "")
    end
  end
end
