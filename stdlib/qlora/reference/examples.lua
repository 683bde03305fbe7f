--- Examples of native functions that need more than one line or a model, by the name of the declaration. One that
--- stands on a line of its own may lie in the declaration instead (`example:` in Sources/LuaBindings).
local examples = {
  -- Tensors
  load_tensors = [[
qlora.save("two.safetensors", { a = qlora.ones(2) })
assert(qlora.load("two.safetensors").a:numel() == 2)]],
  save_tensors = 'qlora.native.save_tensors("two.safetensors", { a = qlora.ones(2), b = qlora.zeros(3) })',
  seed = [[
qlora.seed(7)
local a = qlora.randn(3)
qlora.seed(7)
assert((a - qlora.randn(3)):abs():max():item() == 0)]],
  threads = "assert(qlora.threads(1) == 1)",
  memory = "assert(qlora.memory().live > 0)",
  cpu = 'local cpu = qlora.cpu()\nassert(cpu.threads >= 1 and cpu.sets[1] == "baseline")',

  -- Models, tokenizers and data
  load_model = 'assert(qlora.native.load_model(qlora.resource "models/tiny", { header_only = true }):is_header_only())',
  quantize_checkpoint = [[
qlora.native.quantize_checkpoint(qlora.resource "models/tiny", "tiny-nf4", { quant = "nf4" })
assert(qlora.load("tiny-nf4"):can_stream())]],
  synthetic_checkpoint = [[
local bytes = qlora.native.synthetic_checkpoint("random-nf4", { config = model.config })
assert(bytes > 0)]],
  new_model = "assert(#qlora.native.new_model { config = model.config }:trainable() > 0)",
  ["tokenizer.train"] = [[
local tokenizer = qlora.tokenizer.train({ "the baker", "the market" }, { vocab_size = 300 })
assert(tokenizer:decode(tokenizer:encode("the baker", { special = false })) == "the baker")]],
  ["tokenizer.load"] = 'assert(qlora.tokenizer.load(qlora.resource "models/tiny").vocab_size > 1000)',
  batch = "assert(qlora.native.batch({ { ids = { 5, 6, 7 } } }, { denominator = 2 }).trained == 2)",
  samples = "assert(#qlora.native.samples() == 0)",
  compare_logits = [[
local logits = model:logits "The baker"
local divergence, same, rows = qlora.native.compare_logits(logits, logits)
assert(divergence == 0 and same == rows)]],

  -- Optimizers
  ["optim.adamw"] = [[
local optimizer = qlora.optim.adamw(model:trainable(), { lr = 2e-4, betas = { 0.9, 0.999 }, bits = 8 })
assert(optimizer.lr == 2e-4 or math.abs(optimizer.lr - 2e-4) < 1e-9)]],
  ["optim.lion"] = "qlora.optim.lion(model:trainable(), { lr = 1e-4, betas = { 0.9, 0.99 } })",
  ["optim.sgd"] = "qlora.optim.sgd(model:trainable(), { lr = 0.1, momentum = 0.9 })",
  clip_grad_norm = [[
model:loss(qlora.data.batch { data[1] }):backward()
assert(qlora.clip_grad_norm(model:trainable(), 0.3) > 0)]],
  gradient_norm = [[
model:loss(data:batch { 1, 2 }):backward()
local norm, factor = qlora.native.gradient_norm(model:trainable(), 0.3)
assert(norm > 0 and factor <= 1)
optimizer:step { grad_scale = factor }]],

  -- Tensor: shape
  ["Tensor:size"] = "assert(qlora.zeros(2, 3):size(-1) == 3)",
  ["Tensor:numel"] = "assert(qlora.zeros(2, 3):numel() == 6)",
  ["Tensor:totable"] = "assert(qlora.tensor({ { 1, 2 } }):totable()[1][2] == 2)",
  ["Tensor:to"] = 'assert(qlora.ones(2):to("bf16").dtype == "bf16")',
  ["Tensor:t"] = "assert(qlora.zeros(2, 3):t():size(1) == 3)",
  ["Tensor:transpose"] = "assert(qlora.zeros(2, 3, 4):transpose(1, 3):size(1) == 4)",
  ["Tensor:contiguous"] = "local packed = qlora.zeros(2, 3):t():contiguous()",
  ["Tensor:clone"] = [[
local a = qlora.ones(2)
a:clone():fill_(5)
assert(a:sum():item() == 2)]],
  ["Tensor:detach"] = "assert(not model:trainable()[1]:detach().requires_grad)",
  ["Tensor:narrow"] = "assert(qlora.arange(6):narrow(1, 3, 2)[1]:item() == 2)",
  ["Tensor:matmul"] = "assert(qlora.ones(2, 3):matmul(qlora.ones(3, 4))[1][1]:item() == 3)",

  -- Tensor: reductions and gradients
  ["Tensor:sum"] = "assert(qlora.ones(2, 3):sum():item() == 6)",
  ["Tensor:mean"] = "assert(qlora.tensor({ { 1, 3 }, { 5, 7 } }):mean(1)[1]:item() == 3)",
  ["Tensor:max"] = "assert(qlora.tensor({ 1, 3, 2 }):max():item() == 3)",
  ["Tensor:min"] = "assert(qlora.tensor({ 1, 3, 2 }):min():item() == 1)",
  ["Tensor:argmax"] = "assert(qlora.tensor({ 1, 3, 2 }):argmax():item() == 2)",
  ["Tensor:softmax"] = "assert(math.abs(qlora.tensor({ 1, 2, 3 }):softmax():sum():item() - 1) < 1e-6)",
  ["Tensor:log_softmax"] = "assert(qlora.tensor({ 1, 2, 3 }):log_softmax():max():item() < 0)",
  ["Tensor:norm"] = [[
assert(qlora.tensor({ 3, 4 }):norm() == 5)
assert(qlora.tensor({ { 3, -4 }, { 0, 2 } }):norm(2, math.huge)[1]:item() == 4)]],
  ["Tensor:var"] = "assert(qlora.tensor({ 1, 2, 3 }):var():item() == 1)",
  ["Tensor:std"] = "assert(qlora.tensor({ { 1, 3 }, { 2, 2 } }):std(2, 0)[1]:item() == 1)",
  ["Tensor:gather"] = [[
local index = qlora.tensor({ { 3, 1 } }, { dtype = "i64" })
assert(qlora.tensor({ { 10, 20, 30 } }):gather(2, index)[1][1]:item() == 30)]],
  ["Tensor:scatter"] = [[
local index = qlora.tensor({ 3, 1 }, { dtype = "i64" })
assert(qlora.zeros(3):scatter(1, index, qlora.tensor { 7, 8 })[3]:item() == 7)]],
  ["Tensor:scatter_add"] = [[
local index = qlora.tensor({ 2, 2 }, { dtype = "i64" })
assert(qlora.ones(3):scatter_add(1, index, qlora.tensor { 7, 8 })[2]:item() == 16)]],
  ["Tensor:cumsum"] = "assert(qlora.tensor({ 1, 2, 3 }):cumsum(1)[3]:item() == 6)",
  ["Tensor:sort"] = [[
local values, positions = qlora.tensor({ 3, 1, 2 }):sort()
assert(values[1]:item() == 1 and positions[1]:item() == 2)]],
  ["Tensor:qr"] = [[
local q, r = qlora.tensor({ { 3, 1 }, { 4, 2 } }):qr()
assert(math.abs(q:matmul(r)[2][2]:item() - 2) < 1e-5)]],
  ["Tensor:svd"] = [[
local u, s, v = qlora.tensor({ { 3, 0 }, { 0, 4 } }):svd()
assert(s[1]:item() == 4 and (u * s):matmul(v:t())[1][1]:item() == 3)]],
  ["Tensor:backward"] = [[
local x = qlora.tensor { 3 }
x.requires_grad = true
(x * x):backward()
assert(x.grad:item() == 6)]],
  ["Tensor:fill_"] = "assert(qlora.zeros(2):fill_(3):sum():item() == 6)",
  ["Tensor:copy_"] = "assert(qlora.zeros(2):copy_(qlora.ones(2)):sum():item() == 2)",

  -- QuantizedTensor
  ["QuantizedTensor:dequantize"] = [[
local x = qlora.randn(64, 64)
local back = x:quantize({ type = "nf4" }):dequantize()
assert((x - back):norm() / x:norm() < 0.15)]],
  ["QuantizedTensor:codes"] = 'assert(qlora.randn(64, 64):quantize():codes():numel() == 2048) -- two codes a byte',
  ["QuantizedTensor:absmax"] = "assert(qlora.randn(64, 64):quantize({ block = 64 }):absmax():numel() == 64)",

  -- Model: the tree
  ["Model:modules"] = [[
for module in model:modules() do
  if module.adapter then print(module.name, module.adapter.kind) end
end]],
  ["Model:module"] = 'assert(model:module("model.layers.0.self_attn.q_proj").role == "q_proj")',
  ["Model:find"] = 'assert(#model:find "layers%.0%.mlp" == 3)',
  ["Model:tree"] = "print(model:tree(2))",
  ["Model:parameters"] = 'assert(model:parameters()["model.norm.weight"])',
  ["Model:trainable"] = "assert(#model:trainable() > 0)",
  ["Model:missing_gradients"] = "assert(#model:missing_gradients() > 0) -- no backward pass has run",
  ["Model:nonfinite_gradients"] = "assert(#model:nonfinite_gradients() == 0)",
  ["Model:is_header_only"] = "assert(not model:is_header_only())",
  ["Model:streaming"] = "assert(model:streaming() == nil) -- the model lies in memory",
  ["Model:can_stream"] = "assert(not model:can_stream()) -- its file is not in 4 bits",
  ["Model:set_streaming"] = [[
qlora.native.quantize_checkpoint(qlora.resource "models/tiny", "tiny-nf4")
local stored = qlora.load "tiny-nf4"
stored:set_streaming(true)
assert(stored:streaming().bytes > 0)]],
  ["Model:memory"] = "assert(model:memory().live > 0)",

  -- Model: computing
  ["Model:loss"] = [[
local loss = model:loss(qlora.data.batch { data[1], data[2] })
loss:backward()
assert(loss:item() > 0)]],
  ["Model:nll"] = [[
local sum, targets = model:nll(qlora.data.batch { data[1] })
print(("mean loss %.3f"):format(sum / targets))]],
  ["Model:logits"] = 'assert(model:logits("The baker", { last = true }):size(1) == 1)',
  ["Model:forward"] = "assert(model:forward({ 5, 6, 7 }):size(1) == 3)",
  ["Model:generate"] = 'print(model:generate("In the morning", { max_new_tokens = 8, temperature = 0.8, seed = 1 }))',
  ["Model:checkpointing"] = "model:checkpointing(2, { offload = \".\" })",
  ["Model:offloaded"] = "assert(model:offloaded() == nil) -- nothing is offloaded",
  ["Model:without_adapters"] = [[
local text = model:without_adapters(function() return model:generate("In the morning", { max_new_tokens = 4 }) end)
assert(type(text) == "string")]],

  -- Model: exploration and plan
  ["Model:hook"] = [[
local hook <close> = model:hook("model.layers.0.mlp.up_proj", function(module, output)
  print(module.name, output:abs():max():item())
end)
model:logits "The baker"]],
  ["Model:token_losses"] = 'assert(model:token_losses("The baker goes"):numel() > 0)',
  ["Model:attention"] = 'assert(#model:attention("The baker", 0):shape() == 3)',
  ["Model:quantization_error"] = [[
local rows = model:quantization_error { "model.layers.0.mlp.up_proj" }
assert(rows[1].relative < 0.2)]],
  ["Model:adapter_norms"] = "assert(next(model:adapter_norms()))",
  ["Model:adapter_spectrum"] = [[
local spectrum = model:adapter_spectrum "model.layers.0.self_attn.q_proj"
assert(spectrum.rank == 2)]],
  ["Model:plan_step"] = "assert(model:plan_step({ batch = 2, length = 32, time = false }).peak > 0)",

  -- The other classes
  ["Module:weight"] = 'assert(model:module("model.norm"):weight():numel() == model.config.hidden_size)',
  ["Optimizer:step"] = [[
model:loss(qlora.data.batch { data[1] }):backward()
optimizer:step { lr = 1e-4 }]],
  ["Optimizer:zero_grad"] = [[
optimizer:zero_grad()
assert(model:trainable()[1].grad == nil)]],
  ["Optimizer:state_bytes"] = "assert(optimizer:state_bytes() >= 0)",
  ["Optimizer:pages"] = "assert(optimizer:pages() == nil) -- its state is not paged",
  ["Optimizer:state"] = [[
model:loss(qlora.data.batch { data[1] }):backward()
optimizer:step()
assert(optimizer:state().step == 1)]],
  ["Optimizer:load_state"] = "optimizer:load_state(optimizer:state())",
  ["Tokenizer:encode_parts"] = [[
local ids, places = model.tokenizer:encode_parts { "The ba", "ker" }
assert(#ids == 2 and places[2][2] == 2)]],
  ["Tokenizer:encode"] = 'assert(#model.tokenizer:encode("The baker", { special = false }) == 2)',
  ["Tokenizer:decode"] = [[
local ids = model.tokenizer:encode("The baker", { special = false })
assert(model.tokenizer:decode(ids) == "The baker")]],
  ["Samples:append"] = [[
local samples = qlora.native.samples()
assert(samples:append({ 5, 6, 7 }, { { 2, 3 } }) == 2)]],
  ["Samples:row"] = [[
local ids, labels = data.samples:row(1)
assert(#ids == #labels)]],
  ["Model:cache"] = [[
local cache = model:cache()
local text = model:generate("In the morning", { max_new_tokens = 4, cache = cache })
assert(cache.length > 4)]],
  read_line = 'if not qlora.native.isatty(0) then print(qlora.native.read_line "> ") end',
  http_server = [[
local server <close> = qlora.native.http_server()
assert(server.port > 0)]],
  ["HTTPServer:next"] = [[
local server <close> = qlora.native.http_server()
local request = server:next(0)
if request then request:respond(200, "text/plain", "hello") end]],
  ["HTTPServer:stop"] = "qlora.native.http_server():stop()",
  ["Samples:trained"] = "assert(data.samples:trained(1) > 0)",
  ["Samples:length"] = "assert(data.samples:length(1) == data.samples:lengths()[1])",
  ["Samples:outside"] = "assert(data.samples:outside(model.config.vocab_size) == nil)",
  ["Samples:lengths"] = "assert(#data.samples:lengths() == #data)",
  ["Samples:stats"] = "assert(data.samples:stats().tokens > 0)",
  ["Samples:select"] = "assert(#data.samples:select({ 3, 1 }) == 2)",
  ["Samples:windows"] = "assert(#data.samples:windows(16) > 1)",
  ["Samples:batch"] = "assert(data.samples:batch({ 1, 2 }).rows == 2)",
  ["Samples:micro_batches"] = "assert(#data.samples:micro_batches({ 1, 2, 3 }, 2, 1) == 2)",
  ["Hook:remove"] = [[
local hook = model:hook("model.norm", print)
hook:remove()]],
  ["GradientSum:begin"] = [[
local sum = qlora.native.gradient_sum(model:trainable(), { parts = 2 })
local own = sum:begin(4)
assert(own[2][1] == 3 and own[2][2] == 4)]],
  ["GradientSum:add"] = [[
local sum = qlora.native.gradient_sum(model:trainable())
for _, part in ipairs(sum:begin(1)) do sum:add(part[2] + 0.5) end
assert(sum:finish() == 1.5)]],
  ["GradientSum:finish"] = [[
local sum = qlora.native.gradient_sum(model:trainable())
sum:begin(1)
sum:add(2.5)
local loss, stop = sum:finish(true)
assert(loss == 2.5 and stop)]],
  gradient_sum = "assert(qlora.native.gradient_sum(model:trainable(), { parts = 4 }).parts == 4)",
  run_identity = "assert(qlora.native.run_identity(model, optimizer).engine)",
  ["Database:query"] = [[
local database <close> = qlora.native.open_database("notes.sqlite", { create = true })
local rows = database:query("SELECT ? + 1 AS sum", { 2 })
assert(rows[1].sum == 3)]],
  ["Database:close"] = 'qlora.native.open_database("notes.sqlite", { create = true }):close()',
}

-- Operations element by element: what they make of 4, or of 4 and 2.
for name, result in pairs {
  neg = -4, abs = 4, sqrt = 2, rsqrt = 0.5, square = 16, reciprocal = 0.25, sign = 1, floor = 4, ceil = 4, round = 4,
  relu = 4,
} do
  examples["Tensor:" .. name] = ("assert(qlora.tensor({ 4 }):%s():item() == %s)"):format(name, result)
end
for _, name in ipairs { "exp", "log", "sin", "cos", "tanh" } do
  examples["Tensor:" .. name] = ("assert(math.abs(qlora.tensor({ 4 }):%s():item() - %s) < 1e-4)"):format(name,
    name == "tanh" and "0.99933" or ("math.%s(4)"):format(name))
end
for name, result in pairs { sigmoid = "0.98201", silu = "3.92805", erf = "1" } do
  examples["Tensor:" .. name] = ("assert(math.abs(qlora.tensor({ 4 }):%s():item() - %s) < 1e-3)"):format(name, result)
end
for name, result in pairs {
  add = 6, sub = 2, mul = 8, div = 2, pow = 16, maximum = 4, minimum = 2, eq = 0, ne = 1, lt = 0, le = 0, gt = 1,
  ge = 1, add_ = 6, sub_ = 2, mul_ = 8, div_ = 2,
} do
  examples["Tensor:" .. name] = ("assert(qlora.tensor({ 4 }):%s(2):item() == %d)"):format(name, result)
end
examples["Tensor:gelu"] = [[
assert(math.abs(qlora.tensor({ -3 }):gelu():item() + 0.003637) < 1e-6)
assert(math.abs(qlora.tensor({ -3 }):gelu("none"):item() + 0.004050) < 1e-6)]]

-- Every class has `free`.
for class, make in pairs {
  Tensor = "qlora.ones(2)", QuantizedTensor = "qlora.randn(64, 64):quantize()", Model = "model",
  Module = 'model:module "model.norm"', Optimizer = "optimizer", Tokenizer = "model.tokenizer",
  Batch = "data:batch { 1 }", Samples = "qlora.native.samples()", Hook = 'model:hook("model.norm", print)',
  GradientSum = "qlora.native.gradient_sum(model:trainable())",
  Database = 'qlora.native.open_database("notes.sqlite", { create = true })', Cache = "model:cache()",
  HTTPServer = "qlora.native.http_server()", Generator = "model:generator()", Sequence = 'model:generator():add "Mia"',
} do
  examples[class .. ":free"] = ("local object <close> = %s\nobject:free()"):format(make)
end

-- A request needs a client: these run where one came.
for name, call in pairs {
  header = 'header "Authorization"', respond = 'respond(404, "text/plain", "nothing here")',
  begin = 'begin(200, "text/event-stream")', write = 'write "data: 1\\n\\n"', finish = "finish()", free = "free()",
} do
  examples["HTTPRequest:" .. name] = ([[
local server <close> = qlora.native.http_server()
local request = server:next(0)
if request then request:%s end]]):format(call)
end

for _, part in ipairs { "files", "adapters" } do
  for name, text in pairs(require("qlora.reference.examples_" .. part)) do examples[name] = text end
end

return examples
