--- "Did you mean": the nearest known word to a misspelt one.
local suggest = {}

-- What other programs call things, for whoever comes from PEFT, transformers, TRL, bitsandbytes or axolotl.
suggest.elsewhere = {
  target_modules = "select", lora_target_modules = "select", r = "rank", lora_r = "rank", lora_alpha = "alpha",
  lora_dropout = "dropout", use_rslora = "rslora", init_lora_weights = "init",
  load_in_4bit = "quant", bnb_4bit_quant_type = "quant", quant_type = "quant",
  bnb_4bit_use_double_quant = "double_quant",
  compress_statistics = "double_quant", bnb_4bit_compute_dtype = "compute", torch_dtype = "compute", dtype = "compute",
  blocksize = "block", llm_int8_skip_modules = "modules",
  learning_rate = "lr", num_train_epochs = "epochs", num_epochs = "epochs", max_steps = "steps",
  per_device_train_batch_size = "micro_batch", micro_batch_size = "micro_batch", batch_size = "batch",
  gradient_accumulation_steps = "batch", gradient_checkpointing = "checkpointing", lr_scheduler_type = "schedule",
  lr_scheduler = "schedule", warmup_steps = "schedule", warmup_ratio = "schedule", output_dir = "dir",
  save_steps = "save_every", save_total_limit = "keep", logging_steps = "log_every", eval_steps = "eval_every",
  train_dataset = "data", dataset = "data", eval_dataset = "eval_data", optim = "optimizer", callbacks = "on_step",
  max_seq_length = "max_length", sequence_len = "max_length", cutoff_len = "max_length", adam_epsilon = "eps",
  max_new_token = "max_new_tokens", max_tokens = "max_new_tokens", max_length = "max_new_tokens",
}

--- Edit distance with transpositions (optimal string alignment), letters compared without case.
function suggest.distance(a, b)
  a, b = a:lower(), b:lower()
  local before, above, row = {}, {}
  for j = 0, #b do above[j] = j end
  for i = 1, #a do
    row = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local best = math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        best = math.min(best, before[j - 2] + 1)
      end
      row[j] = best
    end
    before, above = above, row
  end
  return above[#b]
end

--- The up to `count` words of `known` nearest to `word`, nearest first; empty when none is near enough to be a slip.
function suggest.nearest(word, known, count)
  local found = {}
  for _, candidate in ipairs(known) do
    local distance = suggest.distance(word, candidate)
    -- A shared beginning ("learning_rate" / "learn_rate") counts as near even when the tails differ.
    if distance <= math.max(2, #word // 3) or candidate:find(word, 1, true) or word:find(candidate, 1, true) then
      found[#found + 1] = { candidate, distance }
    end
  end
  table.sort(found, function(a, b)
    if a[2] ~= b[2] then return a[2] < b[2] end
    return a[1] < b[1]
  end)
  local words = {}
  for i = 1, math.min(count or 1, #found) do words[i] = found[i][1] end
  return words
end

local function contains(list, word)
  for _, item in ipairs(list) do
    if item == word then return true end
  end
  return false
end

--- `; did you mean "rank"?`, or the list of valid words when nothing is near. `place` says where the word would be
--- right as it is (default "": nowhere).
function suggest.phrase(word, known, place)
  local here = suggest.elsewhere[word]
  if here and contains(known, here) then return ('; here it is called "%s"'):format(here) end
  if place and place ~= "" then return place .. suggest.valid(known) end
  local nearest = suggest.nearest(tostring(word), known, 1)[1]
  return nearest and ('; did you mean "%s"?'):format(nearest) or suggest.valid(known)
end

--- The list of valid words.
function suggest.valid(known)
  local sorted = { table.unpack(known) }
  table.sort(sorted)
  return "; valid: " .. table.concat(sorted, ", ")
end

return suggest
