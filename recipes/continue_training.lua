-- Goes on training an adapter that was saved: its weights from the folder, a new optimizer, new data.
--
--   qlora-run continue_training.lua
--   qlora-run continue_training.lua --set adapter=out/mine
--   qlora-run continue_training.lua --smoke
--
-- Expected: a few seconds. Without the folder the recipe trains a first adapter and saves it there. A run
-- that was interrupted is another thing: `--resume` goes on with its optimizer, its place in the data, the same bits.
local qlora = require "qlora"
local world = require "qlora.world"

local p = qlora.params {
  model = qlora.resource "models/tiny", adapter = "out/continued/first", rank = 16, lr = 4e-3, steps = 30, batch = 16,
  out = "out/continued/second",
}

local model = qlora.load(p.model, { quant = "nf4" })

local function load(count, seed)
  return qlora.data.load(world.scenes(count, seed), {
    format = function(scene)
      return { { text = scene.sentence .. "\nSummary:" },
        { text = (" Who: %s | What: %s"):format(scene.who, scene.did), train = true } }
    end,
    tokenizer = model.tokenizer, max_length = 96,
  })
end

local function train(data, lr)
  qlora.train {
    model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = lr }),
    schedule = qlora.schedule.warmup(3, qlora.schedule.cosine(p.steps, { floor = 0.1 })),
    batch = p.batch, micro_batch = p.batch, steps = p.steps, max_grad_norm = 1.0, group_by_length = true,
  }
end

local unseen = load(50, 1000)
local function loss() return select(2, qlora.eval.perplexity(model, unseen)) end

if not qlora.native.exists(p.adapter) then
  model:add_lora { select = "all-linear", rank = p.rank, alpha = 2 * p.rank }
  train(load(400, 0), p.lr)
  model:save_adapter(p.adapter)
  model:remove_adapters()
end

-- trainable = true gives the tensors gradients; rank, alpha and the modules are those of the folder.
model:add_adapter(p.adapter, { trainable = true })
print(("loss on unseen sentences before: %.3f"):format(loss()))
-- Half the rate: the moments of the first optimizer are gone, and the weights are no longer at their start.
train(load(400, 1), p.lr / 2)
print(("and after: %.3f"):format(loss()))
model:save_adapter(p.out)
