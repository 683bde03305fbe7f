-- What the engine computes of the models that families.py draws: reads jobs.json, writes answers.
local qlora = require "qlora"
local p = qlora.params { root = "" }
local answers = {}
local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

-- What must be the same without a peer to say so; `found.wrong` has what is not.
local function alone(job, model, found, tensors)
  found.wrong = {}
  local function check(what, got, wanted, tolerance)
    if not (math.abs(got - wanted) <= tolerance * (1 + math.abs(wanted))) then
      table.insert(found.wrong, ("%s: %s, wanted %s"):format(what, got, wanted))
    end
  end
  local optimizer = qlora.optim.sgd(model:trainable(), { lr = 1 })
  local batch = qlora.data.batch { { ids = job.long } }
  local function norm(layers)
    optimizer:zero_grad()
    model:checkpointing(layers)
    model:loss(batch):backward()
    return qlora.clip_grad_norm(model:trainable(), 1e30)
  end
  local wanted = norm(false)
  for _, layers in ipairs { 1, 2 } do
    local ok, got = pcall(norm, layers)
    -- One layer is not two.
    if ok or layers == 1 then check("checkpointing of " .. layers, got, wanted, 1e-6) end
  end
  model:checkpointing(false)
  local parts = { job.long, table.move(job.long, 1, #job.long // 2, 1, {}), { job.long[1], job.long[2] } }
  local rows, sum = {}, 0
  for i, ids in ipairs(parts) do
    rows[i] = { ids = ids }
    sum = sum + model:nll(qlora.data.batch { rows[i] })
  end
  check("a packed batch", (model:nll(qlora.data.batch(rows))), sum, 1e-5)
  local quantized <close> = qlora.load(job.folder, { quant = "nf4", quiet = true })
  quantized:add_adapter(job.folder .. "/adapter", { trainable = true })
  local loss = quantized:loss(batch)
  loss:backward()
  check("the loss of NF4", loss:item() < 100 and 0 or loss:item(), 0, 0)
  check("gradients of NF4", #quantized:nonfinite_gradients(), 0, 0)
  model:remove_adapters()
  local path = job.folder .. "/model.gguf"
  local ok, why = pcall(model.save_gguf, model, path, { type = "f32" })
  -- What it says is different there: llama.cpp has no windows in this family.
  if ok and table.concat(why):find "sliding window" then return end
  if ok then
    local again <close> = qlora.load(path, { compute = "f32", quiet = true })
    for _, name in ipairs { "short", "long" } do
      local far = (again:logits(job[name]) - tensors[name]):abs():max():item()
      check("the GGUF file, " .. name, far / math.max(tensors[name]:std():item(), 1e-9), 0, 1e-4)
    end
  else
    found.gguf = tostring(why)
  end
end

local function answer(job, found)
  -- What transformers does not compute has no weights.
  if not job.computed then return qlora.load(job.folder, { header_only = true }):free() end
  local tensors = {}
  local model <close> = qlora.load(job.folder, { compute = "f32", stream = false, quiet = true })
  tensors.short, tensors.long = model:logits(job.short), model:logits(job.long)
  local prompt = table.move(job.long, 1, #job.long - job.generated, 1, {})
  found.text = model:generate(prompt, { max_new_tokens = job.generated, special = false })
  local ok, why = pcall(function()
    model:save(job.folder .. "/saved")
    local saved <close> = qlora.load(job.folder .. "/saved", { compute = "f32", stream = false, quiet = true })
    tensors.saved_short, tensors.saved_long = saved:logits(job.short), saved:logits(job.long)
  end)
  found.save_error = not ok and tostring(why) or nil
  model:add_adapter(job.folder .. "/adapter", { trainable = true })
  tensors.adapted = model:logits(job.long)
  local loss = model:loss(qlora.data.batch { { ids = job.long } })
  loss:backward()
  tensors.loss = qlora.tensor { loss:item() }
  for name, tensor in pairs(model:parameters()) do
    if tensor.grad then tensors["grad." .. name] = tensor.grad:detach() end
  end
  qlora.save(job.folder .. "/answers.safetensors", tensors)
  alone(job, model, found, tensors)
end

for _, job in ipairs(qlora.json.decode(read(p.root .. "/jobs.json"))) do
  local found = { name = job.name }
  local ok, why = pcall(answer, job, found)
  found.error = not ok and tostring(why) or nil
  answers[job.name] = found
end
local file <close> = assert(io.open(p.root .. "/answers.json", "w"))
file:write(qlora.json.encode(answers))
