--- Training checkpoints: written by the program of today, damaged, loaded, and used for one more step.
local native = require "qlora.native"
require "qlora"

local function made()
  native.seed(1)
  local model = native.new_model { config = { model_type = "llama", hidden_act = "silu", vocab_size = 32,
    hidden_size = 16, intermediate_size = 32, num_hidden_layers = 1, num_attention_heads = 2,
    num_key_value_heads = 1, head_dim = 8, max_position_embeddings = 64, rms_norm_eps = 1e-5,
    rope_theta = 10000.0, tie_word_embeddings = true } }
  for _, tensor in ipairs(model:trainable()) do tensor.requires_grad = false end
  model:add_lora { select = { "q_proj", "down_proj" }, rank = 2, alpha = 4, dropout = 0.1, quiet = true }
  return model, native.optim.adamw(model:trainable(), { lr = 1e-3 })
end

local model, optimizer = made()
local batch = native.batch { { ids = { 1, 2, 3, 4 } } }

local function step()
  optimizer:zero_grad()
  model:loss(batch):backward()
  optimizer:step { lr = 1e-3 }
end

--- Gives a damaged checkpoint the checksums of its damaged files, so that what comes after them is reached too.
local function seal(folder)
  os.execute(("cd '%s' && find . -type f ! -name SHA256SUMS -printf '%%P\n' | LC_ALL=C sort | xargs -d '\n' "
    .. "sha256sum > SHA256SUMS 2> /dev/null"):format(folder))
end

return {
  seeds = function(folder)
    for n = 1, 2 do
      step()
      native.save_checkpoint(("%s/checkpoint-%06d"):format(folder, n), { model = model, optimizer = optimizer,
        state = { step = n, batch = 2, seed = 0, tokens = 4 * n, losses = { 3.5, 3.25 } } })
    end
  end,
  read = function(folder, choice)
    if choice % 2 == 0 and native.exists(folder .. "/SHA256SUMS") then seal(folder) end
    native.load_checkpoint(folder, model, optimizer)
    -- Damaged weights may have any loss; a refused step is no refused checkpoint.
    pcall(step)
  end,
}
