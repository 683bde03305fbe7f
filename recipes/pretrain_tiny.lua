-- Pretrain: make the tiny model that ships, from nothing: tokenizer, weights and all.
--
--   qlora-run pretrain_tiny.lua
--
-- Expected: 2.3 million parameters (5 MB as bf16), 600 MB of memory, 15 minutes on two AVX-512 cores, loss from 7.2 to
-- 0.65. Every parameter is trained. The text comes from a generator (require "qlora.world"), so a seed makes the same
-- model again.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  out = "out/tiny", vocab = 1280, hidden = 192, layers = 5, heads = 6, kv_heads = 3, intermediate = 512, context = 128,
  texts = 48000, lr = 3e-3, steps = 9000, batch = 32, micro_batch = 32, seed = 0,
}

-- 1. The corpus: stories with questions and answers, and lines of facts.
local smoke = qlora.native.options.smoke
local texts = world.texts(smoke and 200 or p.texts, p.seed)
local records = {}
for i, text in ipairs(texts) do records[i] = { text = text } end

-- 2. A byte-level BPE tokenizer of its own.
local tokenizer = qlora.tokenizer.train(table.move(texts, 1, math.min(#texts, 6000), 1, {}), { vocab_size = p.vocab })
local ratio = #texts[1] / #tokenizer:encode(texts[1])
print(("tokenizer: %d tokens, %.1f bytes per token"):format(tokenizer.vocab_size, ratio))

-- 3. A small Llama with random weights.
local model = qlora.new_model {
  config = {
    model_type = "llama", architectures = { "LlamaForCausalLM" }, hidden_act = "silu",
    vocab_size = (tokenizer.vocab_size + 63) // 64 * 64, hidden_size = p.hidden, intermediate_size = p.intermediate,
    num_hidden_layers = p.layers, num_attention_heads = p.heads, num_key_value_heads = p.kv_heads,
    head_dim = p.hidden // p.heads, max_position_embeddings = 2 * p.context,
    rms_norm_eps = 1e-6, rope_theta = 10000.0, initializer_range = 0.05, tie_word_embeddings = true,
    bos_token_id = tokenizer.bos, eos_token_id = tokenizer.eos,
  },
  tokenizer = tokenizer, seed = p.seed,
}

-- 4. One sample per text, so that whatever a question asks for stands in the same sample: looking back, the skill that
-- takes longest, comes sooner than from a stream cut into windows. A hundredth is kept to measure on.
local data = qlora.data.load(records, { format = "completion", tokenizer = tokenizer, max_length = p.context })
local training, held_out = data:split(0.01, p.seed)

-- 5. AdamW over all parameters, warm-up and cosine.
qlora.train {
  model = model, data = training,
  optimizer = qlora.optim.adamw(model:trainable(), { lr = p.lr, betas = { 0.9, 0.95 }, weight_decay = 0.1 }),
  schedule = qlora.schedule.warmup(50, qlora.schedule.cosine(p.steps, { floor = 0.1 })),
  batch = p.batch, micro_batch = p.micro_batch, steps = p.steps, max_grad_norm = 1.0, seed = p.seed,
  group_by_length = true,
  eval_data = held_out, eval_every = 250, eval_limit = 64, save_every = 250, dir = "runs/pretrain-tiny",
  checkpointing = false,
  on_step = function(s)
    if s.step % 250 == 0 then
      print(s.model:generate("In the morning, Mia the baker", { max_new_tokens = 60, temperature = 0.7, seed = 1 }))
    end
  end,
}

-- 6. Written as a Hugging Face directory: config.json, model.safetensors (bf16), tokenizer.json.
model:save(p.out)
local perplexity = qlora.eval.perplexity(model, held_out, { batch = 8, limit = 200 })
print(("perplexity on held-out text: %.2f"):format(perplexity))
print("model saved in " .. qlora.native.place_to_read(p.out))
