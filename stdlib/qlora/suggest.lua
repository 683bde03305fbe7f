--- "Did you mean": the nearest known word to a misspelt one.
local suggest = {}

-- What other programs call things, for whoever comes from PEFT, transformers, TRL, bitsandbytes or axolotl.
suggest.elsewhere = {
  target_modules = "select", lora_target_modules = "select", r = "rank", lora_r = "rank", lora_alpha = "alpha",
  lora_dropout = "dropout", use_rslora = "rslora", init_lora_weights = "init",
  use_dora = "method", loraplus_lr_ratio = "lr_ratio", feedforward_modules = "feedforward",
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

-- What to write where the word alone would be filled with the wrong value; "nothing: why" is to be left out.
suggest.values = {
  load_in_4bit = 'quant = "nf4"', load_in_8bit = 'quant = "nf4"; 8 bits are not computed here',
  bnb_4bit_quant_type = 'quant = "nf4" or "fp4"', quant_type = 'quant = "nf4" or "fp4"',
  bnb_4bit_use_double_quant = "double_quant = true", compress_statistics = "double_quant = true",
  bnb_4bit_compute_dtype = 'compute = "bf16" or "f32"', torch_dtype = 'compute = "bf16" or "f32"',
  dtype = 'compute = "bf16" or "f32"',
  gradient_accumulation_steps = "batch = micro_batch x steps: the samples of a whole step, micro_batch those at once",
  gradient_checkpointing = "checkpointing = true", lr_scheduler_type = "schedule = qlora.schedule.cosine(steps)",
  lr_scheduler = "schedule = qlora.schedule.cosine(steps)",
  warmup_steps = "schedule = qlora.schedule.warmup(10, qlora.schedule.cosine(steps))",
  warmup_ratio = "schedule = qlora.schedule.warmup(steps // 30, qlora.schedule.cosine(steps))",
  optim = "optimizer = qlora.optim.adamw(model:trainable(), { lr = 2e-4 })",
  learning_rate = "lr = 2e-4 of the optimizer, qlora.optim.adamw(model:trainable(), { lr = 2e-4 })",
  target_modules = 'select = { "q_proj", "v_proj" } or "all-linear"',
  lora_target_modules = 'select = { "q_proj", "v_proj" } or "all-linear"',
  do_sample = "temperature = 0.7 to draw, temperature = 0 for the likeliest token",
  num_beams = "nothing: there is no beam search",
  use_dora = 'method = "dora"', loraplus_lr_ratio = "lr_ratio = 16",
  bias = 'bias = "all" or "lora_only" of model:add_lora',
  modules_to_save = 'modules_to_save = { "lm_head" } of model:add_lora',
  task_type = "nothing: every model here is a causal language model",
  fan_in_fan_out = "nothing: it changes nothing here",
  bf16 = 'compute = "bf16" of qlora.load', fp16 = 'compute = "bf16" of qlora.load',
  device_map = "nothing: it changes nothing here", report_to = "nothing: TensorBoard files are always written",
  packing = "nothing: samples are always packed end to end, with borders",
  adamw_torch = "qlora.optim.adamw(model:trainable(), { lr = 2e-4 })",
  adamw_hf = "qlora.optim.adamw(model:trainable(), { lr = 2e-4 })",
  adamw_8bit = "qlora.optim.adamw(model:trainable(), { lr = 2e-4, bits = 8 })",
  adamw_bnb_8bit = "qlora.optim.adamw(model:trainable(), { lr = 2e-4, bits = 8 })",
  paged_adamw_32bit = "qlora.optim.adamw(model:trainable(), { lr = 2e-4, paged = true })",
  paged_adamw_8bit = "qlora.optim.adamw(model:trainable(), { lr = 2e-4, bits = 8, paged = true })",
  max_seq_length = "max_length = 1024 of qlora.data.load", sequence_len = "max_length = 1024 of qlora.data.load",
  trust_remote_code = "nothing: no code of a model is ever run",
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
  local here, value = suggest.elsewhere[word], suggest.values[word]
  if here and contains(known, here) then
    return ('; here it is called "%s"%s'):format(here, value and ": write " .. value or "")
  end
  if value and not contains(known, word) then
    local reason = value:match "^nothing: (.*)$"
    return reason and "; leave it out: " .. reason or "; write " .. value
  end
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
