--- Run folders: written by the program of today, damaged, read as reports and the index read them.
local native = require "qlora.native"
local qlora = require "qlora"
local journal = require "qlora.run_journal"

return {
  seeds = function(folder)
    for _, name in ipairs { "a", "b" } do
      qlora.params { rank = 16, lr = 2e-4, name = name, list = { 1, 2 } }
      local run = qlora.run { dir = folder .. "/" .. name, tensorboard = false }
      run:settings { rank = 8, batch = 2 }
      for step = 1, 4 do
        run:log { step = step, loss = 3.5 / step, lr = 1e-4, norm = 1.5, tokens = 10, seconds = 0.5 * step,
          memory = 1 << 20, spill_written = 4096, spill_read = 8192, mine = step * 2 }
      end
      run:log { step = 4, eval_loss = 2.5, perplexity = 12.2 }
      run:log { step = 4, adapter_norms = { ["model.layers.0.mlp.up_proj"] = 0.5 },
        samples = { { prompt = "Who?", text = " Mia." } } }
      if name == "b" then
        run:log { resumed_from = folder .. "/b/checkpoint-000003", at = 3 }
        run:log { step = 4, loss = 1.0, seconds = 0.1, tokens = 10 }
      end
      run:finish { steps = 4, tokens = 40, seconds = 2.0, tokens_per_second = 20.0, peak_memory = 1 << 20,
        first_loss = 3.5, last_loss = 1.0 }
      native.remove_tree(("%s/%s/report.html"):format(folder, name))
    end
    native.remove_tree(folder .. "/runs.sqlite")
  end,
  read = function(folder, choice)
    local record = journal.read(folder)
    journal.row(record)
    journal.spilled(record)
    qlora.report.html(record)
    if choice % 8 == 0 then
      local ok, message = qlora.runs.record(folder)
      if not ok then error(message, 0) end
    end
  end,
}
