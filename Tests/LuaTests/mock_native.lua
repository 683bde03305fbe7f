--- Stands in for the engine: a unigram language model in plain Lua with true gradients, so that the loop, accumulation
--- and resuming are tested on numbers that would come out wrong if the Lua were wrong.
local native = { version = "0.0.0-mock", options = { quiet = true }, tokenizer = {}, optim = {}, classes = {},
  untrained = -100 }

local function scalar(value, backward)
  return { item = function() return value end, backward = backward }
end

for _, name in ipairs { "tensor", "zeros", "ones", "full", "arange", "rand", "randn", "eye", "cat", "stack" } do
  native[name] = function() return scalar(0.0, function() end) end
end
function native.seed() end
function native.threads(n) return n or 2 end
function native.cpu() return { set = "mock", threads = 1, processor = "a mock of a processor" } end
function native.memory() return { live = 1 << 20, peak = 2 << 20, rss = 3 << 20, peak_rss = 4 << 20 } end
function native.resource(name) return name end
function native.fetch(path) return path end
function native.place_to_save(path) return path end
function native.place_to_read(path) return path end
function native.may_change() return true end
function native.extend(class, functions)
  native.classes[class] = native.classes[class] or {}
  for name, f in pairs(functions) do native.classes[class][name] = f end
end

--- Byte tokenizer: id = byte + 3; 0 pad, 1 BOS, 2 EOS. `markers` are texts that are tokens, written as bytes 3 and up.
function native.byte_tokenizer(fields)
  local t = { vocab_size = 259, bos = 1, eos = 2, pad = 0, bos_token = "<s>", eos_token = "</s>", adds_bos = true }
  for key, value in pairs(fields or {}) do t[key] = value end
  function t:encode(text, o)
    local ids = o and o.special and self.adds_bos and { self.bos } or {}
    local is_literal = o and o.literal
    if not is_literal then text = text:gsub("</s>", "\1"):gsub("<s>", "\2") end
    for i, marker in ipairs(not is_literal and self.markers or {}) do text = text:gsub(marker:gsub("%p", "%%%0"), string.char(2 + i)) end
    for i = 1, #text do
      local byte = text:byte(i)
      ids[#ids + 1] = byte == 1 and 2 or byte == 2 and 1 or byte + 3
    end
    return ids
  end
  function t:encode_parts(parts)
    local ids, ranges = {}, {}
    for i, part in ipairs(parts) do
      local piece = self:encode(part)
      ranges[i] = { #ids + 1, #ids + #piece }
      table.move(piece, 1, #piece, #ids + 1, ids)
    end
    return ids, ranges
  end
  function t:decode(ids)
    local parts = {}
    for i, id in ipairs(ids) do parts[i] = id == 1 and "<s>" or id == 2 and "</s>"
      or self.markers and self.markers[id - 5] or string.char(id - 3) end
    return table.concat(parts)
  end
  return setmetatable(t, { __index = function(_, key) return (native.classes.Tokenizer or {})[key] end })
end
function native.tokenizer.train() return native.byte_tokenizer() end

function native.batch(rows, o)
  local b = { rows = #rows, length = 0, tokens = 0, trained = 0, list = rows, options = o or {} }
  for _, row in ipairs(rows) do
    b.length, b.tokens = math.max(b.length, #row.ids), b.tokens + #row.ids
    for i = 2, #row.ids do
      if (row.labels or row.ids)[i] ~= native.untrained then b.trained = b.trained + 1 end
    end
  end
  return b
end

--- Packed samples as the engine has them, in plain tables.
local Samples = { __len = function(self) return #self.list end }
Samples.__index = Samples
function native.samples() return setmetatable({ list = {} }, Samples) end
function Samples:row(i)
  local sample, labels = self.list[i], {}
  for k = 1, #sample.ids do labels[k] = native.untrained end
  for _, range in ipairs(sample.trained) do
    for k = range[1], math.min(range[2], #sample.ids) do labels[k] = sample.ids[k] end
  end
  return sample.ids, labels
end
function Samples:batch(numbers, _, options)
  local rows = {}
  for i, number in ipairs(numbers) do
    local ids, labels = self:row(number)
    rows[i] = { ids = ids, labels = labels }
  end
  return native.batch(rows, options)
end
function Samples:trained(i) return self:batch({ i }).trained end
function Samples:length(i) return #self.list[i].ids end
function Samples:append(ids, trained, dropped)
  self.list[#self.list + 1] = { ids = ids, trained = trained, dropped = dropped or 0 }
  local targets = self:trained(#self.list)
  if targets == 0 then self.list[#self.list] = nil end
  return targets
end
function Samples:lengths()
  local lengths = {}
  for i, sample in ipairs(self.list) do lengths[i] = #sample.ids end
  return lengths
end
function Samples:outside(size)
  for i, sample in ipairs(self.list) do
    for _, id in ipairs(sample.ids) do
      if id >= size then return i, id end
    end
  end
end
function Samples:stats()
  local s = { tokens = 0, trained = 0, longest = 0, truncated = 0 }
  for i, sample in ipairs(self.list) do
    s.tokens, s.trained = s.tokens + #sample.ids, s.trained + self:trained(i)
    s.longest, s.truncated = math.max(s.longest, #sample.ids), s.truncated + (sample.dropped > 0 and 1 or 0)
  end
  return s
end
function Samples:select(numbers)
  local chosen = native.samples()
  for i, number in ipairs(numbers) do chosen.list[i] = self.list[number] end
  return chosen
end
function Samples:windows(length, stride)
  local cut, ids, context = native.samples(), {}, 0
  for _, sample in ipairs(self.list) do
    for _, id in ipairs(sample.ids) do
      ids[#ids + 1] = id
      if #ids == length then
        cut:append(ids, { { context + 1, length } })
        context = length - (stride or length)
        ids = table.move(ids, length - context + 1, length, 1, {})
      end
    end
  end
  if #ids > context then cut:append(ids, { { context + 1, #ids } }) end
  return cut
end
function Samples:micro_batches(numbers, size, step)
  local denominator, parts = self:batch(numbers).trained, {}
  for from = 1, #numbers, size do
    parts[#parts + 1] = self:batch(table.move(numbers, from, math.min(from + size - 1, #numbers), 1, {}), nil,
      { denominator = denominator, step = step, micro = #parts + 1 })
  end
  return parts
end

--- A matrix that knows its norm, and whose rounding errs by a tenth of it.
local function matrix(norm)
  local self = { norm = function() return norm end }
  function self:quantize() return { dequantize = function() return matrix(0.9 * norm) end } end
  return setmetatable(self, { __sub = function(a, b) return matrix(a:norm() - b:norm()) end })
end

local function module_list(layers)
  local list = {}
  local function add(name, kind, layer)
    list[#list + 1] = { name = name, kind = kind, layer = layer, role = name:match("([^.]+)$"), in_features = 8,
      out_features = 8, params = 64, bytes = 36, weight = function() return matrix(1.0) end }
  end
  add("model.embed_tokens", "embedding")
  for layer = 0, layers - 1 do
    for _, role in ipairs { "q_proj", "k_proj", "v_proj", "o_proj" } do
      add(("model.layers.%d.self_attn.%s"):format(layer, role), "linear", layer)
    end
    for _, role in ipairs { "gate_proj", "up_proj", "down_proj" } do
      add(("model.layers.%d.mlp.%s"):format(layer, role), "linear", layer)
    end
    add(("model.layers.%d.input_layernorm"):format(layer), "norm", layer)
  end
  add("model.norm", "norm")
  add("lm_head", "linear")
  return list
end

local Model = {}
Model.__index = function(_, key) return Model[key] or (native.classes.Model or {})[key] end

function native.mock_model(o)
  o = o or {}
  local weights, gradient = {}, {}
  for id = 0, 258 do weights[id], gradient[id] = 0.0, 0.0 end
  return setmetatable({ list = module_list(o.layers or 4), name = "mock", compute = "f32", stages = 1,
    tokenizer = native.byte_tokenizer(o.tokenizer), calls = {},
    config = { vocab_size = 259, num_hidden_layers = o.layers or 4 },
    numel = function() return 259 end, -- it is its own trained tensor
    weights = weights, gradient = gradient, attached = {}, poison = o.poison,
    missing = o.missing, sick = o.sick, overflowing = o.overflowing,
  }, Model)
end
function native.load_model(path, o)
  local model = native.mock_model()
  model.path, model.options = path, o
  return model
end
function native.new_model(o)
  local model = native.mock_model()
  model.config = o.config
  return model
end

function Model:modules()
  local i = 0
  return function() i = i + 1; return self.list[i] end
end
function Model:attach_lora(list)
  self.attached = list
  for _, entry in ipairs(list) do
    for _, module in ipairs(self.list) do
      if module.name == entry.name then
        module.adapter = { rank = entry.rank, alpha = entry.alpha, dropout = entry.dropout, kind = "lora",
          b = { grad = matrix(#module.name) } }
      end
    end
  end
  return 16 * #list
end
function Model:trainable() return { self } end
function Model:note_training() end
function Model:adapter_norms() return { ["model.layers.0.self_attn.q_proj"] = 0.5 } end
--- The index of runs is tested with the real engine (RunsTests); here it takes everything and holds nothing.
function native.open_database()
  return { query = function() return {} end, close = function() end }
end
function Model:parameters() return { self } end
function Model:missing_gradients() return self.missing or {} end
function Model:nonfinite_gradients() return self.overflowing or {} end
function Model:remove_adapters()
  local count = #self.attached
  self.attached = {}
  for _, module in ipairs(self.list) do module.adapter = nil end
  return count
end
--- Every hook sees the number 0, but that of the module called `sick` sees a NaN, when `loss` runs.
function Model:hook(name, fn)
  self.hooks = self.hooks or {}
  self.hooks[name] = fn
  return { remove = function() self.hooks[name] = nil end }
end
function Model:can_stream() return false end
function Model:streaming() return nil end
function Model:is_header_only() return native.options.plan or false end
function Model:checkpointing(on, o) self.calls[#self.calls + 1] = { "checkpointing", on, o and o.offload } end
function Model:offloaded() return nil end
function Model:generate(text) return "(" .. #text .. " bytes)" end
function Model:save_gguf(path) self.calls[#self.calls + 1] = { "save_gguf", path } return {} end
function Model:merged_weights(target)
  return setmetatable({ target = target, model = self, codes = 0, changed_codes = 0, run = function(_, f) return f() end,
    save = function() end }, { __metatable = "MergedWeights" })
end
function Model:save_adapter(dir) self.calls[#self.calls + 1] = { "save_adapter", dir } end
Model.save = Model.save_adapter
function Model:without_adapters(f) return f() end
function Model:with_adapters(_, f) return f() end
function Model:use_adapters() end
function Model:combine_adapters() return 1 end
function Model:adapters() return { { name = "default", in_use = true } } end
--- A plan whose peak is 1 GiB for each sequence in memory at once, and half of it with 8-bit state.
function Model:plan_step(o)
  self.planned = self.planned or o
  local micro_batch = o.micro_batch or o.batch
  return { parameters = 7e9, trainable = 4e7, compute = "f32", peak = (o.bits == 8 and 1 or 2) * micro_batch << 29,
    flops_per_step = 1e15, parts = o.parts or 1, ranks = 1, stages = 1, seconds_per_step = 2.0, batch = o.batch, micro_batch = micro_batch, length = o.length,
    bits = o.bits or 32, other_bits = o.bits == 8 and 32 or 8, paged = o.paged or false,
    checkpointing = o.checkpointing or false, offload = o.offload or false, stream = o.stream or false,
    adapter_bytes = 1 << 20, optimizer_bytes = 2 << 20, checkpoint_bytes = 3 << 20, spill_bytes = 0, streamed_bytes = 0,
    activation_bytes = 1 << 20,
    categories = { { name = "weights", bytes = 4 << 30 } }, moments = {} }
end

--- Negative log-likelihood of the batch under softmax(weights), and its gradient.
local function measure(self, batch)
  local z = 0.0
  for id = 0, 258 do z = z + math.exp(self.weights[id]) end
  local sum, counts, total = 0.0, {}, 0
  for _, row in ipairs(batch.list) do
    local labels = row.labels or row.ids
    for i = 2, #labels do
      if labels[i] ~= -100 then
        sum = sum + math.log(z) - self.weights[labels[i]]
        counts[labels[i]] = (counts[labels[i]] or 0) + 1
        total = total + 1
      end
    end
  end
  return sum, total, counts, z
end
function Model:nll(batch) local sum, total = measure(self, batch); return sum, total end
function Model:loss(batch)
  for _, module in ipairs(self.hooks and self.list or {}) do
    local output = { sum = function() return scalar(module.name == self.sick and 0 / 0 or 0.0) end }
    if self.hooks[module.name] then
      self.hooks[module.name](module, setmetatable(output, { __mul = function(x) return x end }))
    end
  end
  local sum, total, counts, z = measure(self, batch)
  local denominator = batch.options.denominator or total
  if self.poison and batch.options.step == self.poison then sum = 0 / 0 end
  return scalar(sum / denominator, function()
    for id = 0, 258 do
      self.gradient[id] = self.gradient[id] + (total * math.exp(self.weights[id]) / z - (counts[id] or 0)) / denominator
    end
  end)
end
function Model:logits(ids, o)
  local row = setmetatable({}, { __index = function(_, id) return scalar(self.weights[id - 1]) end })
  return { row, ids = ids, options = o }
end
function native.compare_logits(a) return 0.0, #a.ids, #a.ids end
function native.compare_batch(batch, _, others)
  local rows, list = {}, {}
  for i = 1, #batch.list do rows[i] = 0.0 end
  for i = 1, #others do
    list[i] = { kl = 0.0, kls = rows, agreements = batch.tokens, loss_a = 0.0, loss_b = 0.0 }
  end
  return list
end
function Model:by_matrix(f) return f() end
function Model:plan_merge() return 1 << 20 end
function native.gradient_norm(params, limit)
  if params[1].overflowing then return 0 / 0, 1.0 end
  local sum = 0.0
  for id = 0, 258 do sum = sum + params[1].gradient[id] ^ 2 end
  local norm = math.sqrt(sum)
  return norm, norm > limit and limit / norm or 1.0
end
function native.clip_grad_norm(params, limit)
  local norm, scale = native.gradient_norm(params, limit)
  for id = 0, 258 do params[1].gradient[id] = params[1].gradient[id] * scale end
  return norm
end

--- SGD with momentum stands for every optimizer: it has state that a checkpoint must carry.
local function optimizer(params, o)
  local model, momentum, self = params[1], {}, { lr = o.lr, options = o, rates = {} }
  for id = 0, 258 do momentum[id] = 0.0 end
  self.momentum = momentum
  function self:zero_grad() for id = 0, 258 do model.gradient[id] = 0.0 end end
  function self:step(s)
    self.rates[#self.rates + 1] = s.lr
    for id = 0, 258 do
      momentum[id] = 0.9 * momentum[id] + model.gradient[id] * (s.grad_scale or 1.0)
      model.weights[id] = model.weights[id] - s.lr * momentum[id]
    end
  end
  function self:pages() return nil end
  function self:state_bytes() return 259 * 8 end
  return self
end
native.optim.adamw, native.optim.lion, native.optim.sgd = optimizer, optimizer, optimizer

--- The patterns of the tests are plain enough to be told by Lua patterns: `.*` and `(a|b)` only.
function native.regex_full_match(pattern, text)
  local before, group, after = pattern:match("^(.-)%((.-)%)(.*)$")
  if group then
    for choice in group:gmatch("[^|]+") do
      if native.regex_full_match(before .. choice .. after, text) then return true end
    end
    return false
  end
  return text:match("^" .. pattern:gsub("\\d", "%%d"):gsub("\\%.", "%%.") .. "$") ~= nil
end

function native.spill_directory(path) return path end

function native.ranks() return { rank = 0, size = 1, host = "", connected = true } end
function native.apart() return 0, 1 end
function native.gather(_, text) return { text } end
--- Of one process: all in one part.
function native.gradient_sum(_, o)
  local sum, loss = { parts = o.parts or 1 }, 0.0
  function sum:begin(count) loss = 0.0; return { { 1, count } } end
  function sum:add(value) loss = loss + value end
  function sum:finish(stop) return loss, stop or false end
  return sum
end

function native.record_endings() return { "json", "jsonl", "ndjson", "csv", "tsv", "txt" } end
native.records, native.record_lines = {}, {}
function native.read_records(path, o)
  local list = native.records[path] or error("no mock records for " .. path, 0)
  return table.move(list, 1, math.min(o and o.limit or #list, #list), 1, {}), native.record_lines[path]
end

local now = 0.0
function native.clock() now = now + 0.125; return now end
function native.isatty() return native.terminal or false end
function native.methods() return {} end
function native.has_colours() return true end
function native.hub_folder() return "hub" end
function native.terminal_width() return 100 end
function native.interrupted()
  if native.interrupt_after then
    native.interrupt_after = native.interrupt_after - 1
    if native.interrupt_after == 0 then native.interrupt_after = nil; return true end
  end
  return false
end
function native.exit(code) error(setmetatable({ exit_code = code }, { __tostring = function() return "exit " .. code
  end }), 0) end

local function quoted(path) return "'" .. path:gsub("'", "'\\''") .. "'" end
function native.mkdir(path) assert(os.execute("mkdir -p " .. quoted(path))) end
function native.remove_tree(path) assert(os.execute("rm -r " .. quoted(path))) end
function native.exists(path) return os.execute("test -e " .. quoted(path)) == true end
function native.half_written(name)
  local meant, kind = name:match "^(.+)%.qlora%-(%l+)%-[%x-]+$"
  if not meant then return nil end
  return meant, kind == "old"
end
function native.list_dir(path)
  local names, pipe = {}, io.popen("ls -1 " .. quoted(path) .. " 2>/dev/null")
  for name in pipe:lines() do names[#names + 1] = name end
  pipe:close()
  return names
end

--- What the library takes over from the engine's declarations; test_reference compares these with the engine's own.
local function fields(text)
  local list = {}
  for name, kinds, mark in text:gmatch "([%w_]+):([%w|]+)(!?)" do
    list[#list + 1] = { name = name, kinds = kinds, optional = mark == "", doc = "an option" }
  end
  return list
end
local function declared(name, text, is_list)
  return { name = name, doc = "Made up for the tests.", returns = "", errors = "",
    parameters = { { name = "options", kinds = "table", optional = true, doc = "the options below",
      fields = fields(text), is_list = is_list } } }
end
local optimizer_options = "lr:positive! weight_decay:number paged:boolean budget:string|integer spill:string"

function native.declarations()
  local load = declared("load_model", "quant:string|boolean block:count double_quant:boolean|string compute:string "
    .. "device:string stream:boolean adapter:string pipeline:boolean header_only:boolean")
  load.parameters[1].fields[1].choices = { "nf4", "fp4", "int4", "false" }
  local lora = declared("attach_lora", "rank:count! alpha:positive! dropout:number lr:positive lr_ratio:positive "
    .. "rslora:boolean method:string init:string niter:integer tied:boolean", true)
  local ia3 = declared("attach_ia3", "lr:positive feedforward:boolean", true)
  local vera = declared("attach_vera", "rank:count! dropout:number d_initial:number key:integer "
    .. "save_projection:boolean")
  local eva = declared("attach_eva", "batch:count rho:number tau:number trained_only:boolean whiten:boolean "
    .. "adjust_scaling:boolean batches:count")
  lora.parameters[1].fields[3].at_least, lora.parameters[1].fields[3].below = 0, 1
  return {
    modules = { { doc = "Made up.", functions = {
      load, declared("new_model", "config:table! tokenizer:Tokenizer seed:integer"),
      declared("batch", "denominator:count step:integer micro:integer"),
      declared("optim.adamw", optimizer_options .. " bits:integer betas:table eps:positive"),
      declared("optim.lion", optimizer_options .. " bits:integer betas:table"),
      declared("optim.sgd", optimizer_options .. " momentum:number"),
      { name = "zeros", doc = "All zeros.", returns = "Tensor", errors = "",
        parameters = { { name = "sizes", kinds = "integer|table", doc = "sizes of the tensor" } } },
    } } },
    classes = {
      { name = "Model", doc = "A model.", properties = {}, methods = {
        lora, ia3, vera, eva,
        declared("plan_step", "batch:count! length:count! micro_batch:count checkpointing:boolean|count offload:boolean "
          .. "stream:boolean parts:count optimizer:Optimizer"),
        declared("generate", "max_new_tokens:integer temperature:number top_k:integer top_p:number seed:integer "
          .. "stop:string|table echo:boolean special:boolean"),
      } },
      { name = "Tensor", doc = "A tensor.", properties = {}, methods = {
        declared("histogram", "bins:count low:number high:number") } },
    },
  }
end
function native.write_file(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

-- Checkpoints live in memory under their path; the directory itself is real so that listing works.
local saved = {}
local function copy(value)
  if type(value) ~= "table" then return value end
  local out = {}
  for key, item in pairs(value) do out[key] = copy(item) end
  return out
end
function native.save_checkpoint(dir, o)
  native.mkdir(dir)
  saved[dir] = { weights = copy(o.model.weights), momentum = copy(o.optimizer.momentum), state = copy(o.state),
    loop = copy(o.loop) }
end
function native.load_checkpoint(dir, model, optimizer_, o)
  local c, changes, accepted = saved[dir], {}, {}
  for _, name in ipairs(o and o.accept or {}) do accepted[name] = true end
  for name, is in pairs(o and o.loop or {}) do
    local was = c.loop[name]
    if was ~= is and not accepted[name] then
      error(("%s was %s and is %s now"):format(name, was, is), 0)
    end
    if was ~= is then changes[#changes + 1] = { name = name, was = tostring(was), now = tostring(is) } end
  end
  for id = 0, 258 do model.weights[id], optimizer_.momentum[id] = c.weights[id], c.momentum[id] end
  return copy(c.state), changes
end
function native.verify_checkpoint() end
function native.remove_checkpoint(dir) native.remove_tree(dir); return true end
function native.lock_directory() return true end
function native.unlock_directory() end
function native.locked_place(dir) return dir end

function native.byte_text(count)
  local units, i, value = { "B", "KiB", "MiB", "GiB", "TiB" }, 1, count
  while value >= 1024 and i < #units do value, i = value / 1024, i + 1 end
  if i == 1 then return ("%.0f B"):format(count) end
  return (value >= 100 and "%.0f %s" or value >= 10 and "%.1f %s" or "%.2f %s"):format(value, units[i])
end

--- Edits between two words, with exchange of neighbours.
local function distance(a, b)
  local rows = { [0] = {} }
  for j = 0, #b do rows[0][j] = j end
  for i = 1, #a do
    rows[i] = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j) and 0 or 1
      rows[i][j] = math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + same)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        rows[i][j] = math.min(rows[i][j], rows[i - 2][j - 2] + 1)
      end
    end
  end
  return rows[#a][#b]
end

function native.nearest_names(word, names, count)
  local near, most = {}, #word < 4 and 1 or #word < 9 and 2 or 3
  for _, name in ipairs(names) do
    local short, long = word:lower(), name:lower()
    local edits = distance(short, long)
    if #short >= #long then short, long = long, short end
    if word ~= "" and (edits <= most or #short > 2 and (long:sub(1, #short) == short or long:sub(-#short) == short)) then
      near[#near + 1] = { name, edits }
    end
  end
  table.sort(near, function(a, b)
    if a[2] ~= b[2] then return a[2] < b[2] end
    return a[1] < b[1]
  end)
  local found = {}
  for i = 1, math.min(count or 1, #near) do found[i] = near[i][1] end
  return found
end

function native.checksum(text) return ("%016x"):format(#text) end

-- The second result is for the test that compares the names of methods with what the engine declares.
return native, { Model = Model, Samples = Samples, Optimizer = optimizer({ native.mock_model() }, { lr = 1.0 }),
  Tokenizer = native.byte_tokenizer() }
