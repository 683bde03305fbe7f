local qlora = require "qlora"
local model = qlora.load("model", { quant = 4 })
model:add_lora { select = "all-linear", rank = "eight" }
model:add_lroa { select = "all-linear", rank = 8 }
qlora.train { model = model, steps = 3 }
qlora.trian { model = model }
qlora.plot.heatmap()
print(modle)
