--- Objects of every class and hostile values, for the sweep of Tests/LuaBindingsTests and the calls of Fuzz.
local native = require "qlora.native"

local hostile = {}

-- A model small enough that every call is fast.
local function model(tokenizer)
  return native.new_model { tokenizer = tokenizer, config = { model_type = "llama", hidden_act = "silu",
    vocab_size = tokenizer and tokenizer.vocab_size or 64,
    hidden_size = 16, intermediate_size = 32, num_hidden_layers = 1, num_attention_heads = 2,
    num_key_value_heads = 1, head_dim = 8, max_position_embeddings = 64, rms_norm_eps = 1e-5,
    rope_theta = 10000.0, tie_word_embeddings = true } }
end
local kept = model()
-- A text needs one that can be read.
local writing = model(native.tokenizer.train({ "a b" }, { vocab_size = 260 }))
local name = "model.layers.0.mlp.up_proj"

--- Makes an object of each class.
hostile.makers = {
  Tensor = function() return native.rand(3, 4) end,
  QuantizedTensor = function() return native.rand(8, 64):quantize { type = "nf4" } end,
  Model = function() return model() end,
  Module = function() return kept:module(name) end,
  Optimizer = function()
    local x = native.rand(2)
    x.requires_grad = true
    return native.optim.sgd({ x }, { lr = 1 })
  end,
  Tokenizer = function() return native.tokenizer.train({ "a b" }, { vocab_size = 260 }) end,
  Batch = function() return native.batch { { ids = { 1, 2, 3 } } } end,
  Samples = function()
    local samples = native.samples()
    samples:append({ 1, 2, 3 }, { { 2, 3 } })
    return samples
  end,
  GradientSum = function() return native.gradient_sum { native.rand(2) } end,
  Hook = function() return kept:hook(name, print) end,
  Database = function() return native.open_database(":memory:", { create = true }) end,
  Cache = function() return kept:cache() end,
  Generator = function() return kept:generator() end,
  Sequence = function() return writing:generator():add({ 5, 6 }, { max_new_tokens = 2 }) end,
  MergedWeights = function() return kept:merged_weights "dequantized" end,
  HTTPServer = function() return native.http_server() end,
  HTTPRequest = function() return hostile.request() end,
}

-- A request from a shell; the server lives as long as this program.
local server, made = native.http_server(), 0
function hostile.request()
  made = made + 1
  if made % 16 == 0 then collectgarbage() end -- a server has so many connections, and a request holds one
  os.execute(([[bash -c 'exec 3<>/dev/tcp/127.0.0.1/%d; printf "GET / HTTP/1.0\r\n\r\n" >&3; timeout 2 cat <&3' ]]
    .. "> /dev/null 2>&1 &"):format(server.port))
  return assert(server:next(5), "no request came")
end

local tensor = hostile.makers.Tensor
local shared = model()

--- Each makes a value of a wrong type, size or kind.
hostile.values = {
  function() return nil end, function() return true end, function() return 0 end, function() return -1 end,
  function() return math.maxinteger end, function() return math.mininteger end, function() return 0/0 end,
  function() return math.huge end, function() return -math.huge end, function() return 1.5 end,
  function() return "" end, function() return "\0\255junk" end, function() return {} end,
  function() return { 1, 2, 3 } end, function() return { {}, { {} } } end, function() return { x = 1 } end,
  function() return { math.maxinteger } end, function() return { -5 } end, function() return print end,
  function() return coroutine.create(print) end, function() return tensor() end,
  function() local t = tensor(); t:free(); return t end, function() return shared end,
  function() return setmetatable({}, { __index = function() error "boom" end }) end,
}

--- Operators as functions of two operands.
hostile.operators = {}
for event, word in pairs { __add = "+", __sub = "-", __mul = "*", __div = "/", __mod = "%", __pow = "^", __idiv = "//",
  __band = "&", __bor = "|", __bxor = "~", __shl = "<<", __shr = ">>", __concat = "..", __eq = "==", __lt = "<",
  __le = "<=" } do
  hostile.operators[event] = load("local a, b = ... return a " .. word .. " b")
end

-- What ends an object is called on a new one each time.
hostile.ends = { __gc = true, __close = true, free = true, close = true, remove = true }

--- The metatables of all bound classes, by name.
function hostile.metatables()
  local found = {}
  for class, make in pairs(hostile.makers) do found[class] = debug.getmetatable(make()) end
  return found
end

return hostile
