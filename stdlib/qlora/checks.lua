--- What a training run must not do in silence: leave tensors to no optimizer, train adapters nothing reaches, go on
--- with numbers that are none.
local native = require "qlora.native"
local strict = require "qlora.strict"

local checks = {}

-- The tensors each optimizer was made for; an optimizer that nobody holds is forgotten.
local tensors_of = setmetatable({}, { __mode = "k" })

--- Notes which tensors `optimizer` updates.
function checks.remember(optimizer, tensors) tensors_of[optimizer] = tensors end

local function holds(list, tensor, index)
  if list[index] == tensor then return true end -- the usual case: the same list in the same order
  for _, other in ipairs(list) do
    if other == tensor then return true end
  end
  return false
end

--- What the function `what` is given must be a model.
function checks.model(what, model)
  strict.argument(what, "model", model, "Model", "give what qlora.load returned")
end

--- What the function `what` is given must be a data set.
function checks.data(what, data)
  strict.argument(what, "data", data, "Dataset", "give what qlora.data.load returned")
end

--- The optimizer must hold every trained tensor of the model; adapters added after it was made would stay as they are.
function checks.optimizer(model, optimizer)
  local trained, held, missing = model:trainable(), tensors_of[optimizer], 0
  if #trained == 0 then
    strict.fail("train: the model has nothing to train; call model:add_lora { … } before qlora.train, or read an "
      .. "adapter with { trainable = true }")
  end
  if not held then return end
  for i, tensor in ipairs(trained) do
    if not holds(held, tensor, i) then missing = missing + 1 end
  end
  if missing > 0 then
    strict.fail("train: the optimizer does not hold %d of the model's %d trained tensors, so they would not move; make "
      .. "it after the last add_lora: qlora.optim.adamw(model:trainable(), …)", missing, #trained)
  end
end

--- The ids of the tokens whose rows are trained, by module; one pass, since experts are many thousand modules.
local function trained_tokens(model)
  local ids = {}
  for module in model:modules() do ids[module.name] = module.adapter and module.adapter.ids end
  return ids
end

--- Whether one of the tokens occurs in the data.
local function occurs(ids, data)
  local trained = {}
  for _, id in ipairs(ids) do trained[id] = true end
  for i = 1, #data do
    for _, id in ipairs(data[i].ids) do
      if trained[id] then return true end
    end
  end
  return false
end

--- Every trained tensor must get a gradient in the first step; one without is a mistake nobody would notice. Experts to
--- which no token of the step was sent wait for theirs, and so do rows of tokens.
function checks.gradients(model, data)
  local missing, names = {}, model:missing_gradients()
  local tokens = names[1] and trained_tokens(model)
  for _, name in ipairs(names) do
    local ids = tokens[name]
    if ids and not occurs(ids, data) then
      strict.fail("train: none of the %d trained tokens of %s occurs in the data, so their rows would stay as they "
        .. "are; are they in the texts, and does the tokenizer have them?", #ids, name)
    end
    if not ids and not name:find(".experts.", 1, true) then missing[#missing + 1] = name end
  end
  if #missing > 0 then
    strict.fail("train: %d adapters or parameters got no gradient in the first step, so they do not take part in the "
      .. "loss: %s%s; leave them out of the selection, or use them in forward where the adapter is in Lua", #missing,
      table.concat(missing, ", ", 1, math.min(3, #missing)), #missing > 3 and ", …" or "")
  end
end

--- What is wrong with a sample that is longer than the model reads; `place` names it, `more` tells of others.
function checks.too_long(place, tokens, limit, more)
  return ("%s has %d tokens, but the model reads at most %d%s; load the data with max_length = %d, which cuts longer "
    .. "samples, or with too_long = \"leave_out\" beside it, which leaves them out"):format(place, tokens, limit,
    more or "", limit)
end

--- Samples that the model cannot read, found before the first step: longer ones, and those with tokens that it lacks,
--- as a tokenizer to which some were added has. `what` is the function that was called.
function checks.lengths(model, data, what)
  local limit = model.positions
  local samples = type(data) == "table" and rawget(data, "samples")
  if not samples then return end
  local rows = model.config.vocab_size
  local outside, id = samples:outside(rows)
  if outside then
    strict.fail("%s: %s has the token %d, but the model has %d rows, 0 to %d: tokens were added to the tokenizer after "
      .. "the model was made; give the model rows for them (resize_token_embeddings in transformers), or load the data "
      .. "with the tokenizer that belongs to the model", what, data:where(outside), id, rows, rows - 1)
  end
  if not limit then return end
  local count, first, longest, lengths = 0, nil, 0, samples:lengths()
  for i, length in ipairs(lengths) do
    if length > limit then count, first, longest = count + 1, first or i, math.max(longest, length) end
  end
  if count == 0 then return end
  local more = count > 1 and ("; %d samples are longer, the longest has %d"):format(count, longest) or ""
  strict.fail("%s: %s", what, checks.too_long(data:where(first), lengths[first], limit, more))
end

--- Data that the model cannot read; and says when an adapter was trained on chats of another template, which training
--- on these replaces.
function checks.training_data(model, data, eval_data)
  checks.lengths(model, data, "train")
  if eval_data then checks.lengths(model, eval_data, "train: eval_data") end
  local given = type(data) == "table" and rawget(data, "chat_template")
  if not given or native.options.quiet then return end
  for _, set in ipairs(model:adapters()) do
    if set.in_use and set.trained and set.chat_template and set.chat_template ~= given then
      print(("train: adapter '%s' was trained on chats of another template than that of these data, which it keeps "
        .. "from now on; for its own, load them with template = qlora.chat.for_model(model)"):format(set.name))
    end
  end
end

local is_finite, named = strict.is_finite, strict.show

--- The answer of a schedule must be a factor: any other would train away from the minimum, or into NaN.
function checks.factor(value, step)
  if is_finite(value) and value >= 0 then return value end
  return strict.fail("train: the schedule's factor at step %d is %s, expected a finite number of at least 0", step,
    strict.show(value))
end

--- The first module, in the order of the forward pass, whose output on `batch` is not finite; nil when all are.
function checks.first_nonfinite(model, batch)
  local hooks, culprit = {}, nil
  for module in model:modules() do
    hooks[#hooks + 1] = model:hook(module.name, function(_, output)
      -- a NaN or an infinity times zero is NaN, and a NaN stays in the sum
      if not culprit and not is_finite((output * 0.0):sum():item()) then culprit = module.name end
    end)
  end
  pcall(model.loss, model, batch) -- an error here would hide the one that is being explained
  for _, hook in ipairs(hooks) do hook:remove() end
  return culprit
end

--- The loss of a micro-batch must be a number. `where` = { step =, micro_batch =, micro_batches =, samples = }.
function checks.loss(value, model, batch, where)
  if is_finite(value) then return end
  local culprit = checks.first_nonfinite(model, batch)
  strict.fail("train: the loss is %s at step %d, micro-batch %d of %d (samples %s); %s. The weights are those of the "
    .. "last complete step; a lower lr, max_grad_norm or a warm-up usually helps", named(value), where.step,
    where.micro_batch, where.micro_batches, table.concat(where.samples, ", "),
    culprit and "the first module whose output is not finite is " .. culprit
    or "every module's output is finite, so the loss itself overflowed")
end

--- The norm of all gradients must be a number, or the optimizer would spread it into every weight.
function checks.gradient_norm(norm, model, step)
  if is_finite(norm) then return end
  local names = model:nonfinite_gradients()
  strict.fail("train: the gradient norm is %s at step %d although the loss is finite; %d gradients are not, the first "
    .. "of %s. The weights are those of the last complete step", named(norm), step, #names, names[1] or "none")
end

return checks
