--- turns a model into a 4-bit checkpoint once: it then loads at once and can be streamed from disk
---
--- IN is a Hugging Face folder or a .gguf file. OUT has the format of bitsandbytes and must not exist. Of a model with
--- experts it is for this program: transformers does not read experts in 4 bits. One matrix is in memory at a time.
local native = require "qlora.native"
local command_line = require "qlora.command_line"
local format = require "qlora.format"

return {
  usage = "IN OUT", least = 2, most = 2,
  flags = {
    { "--quant", "TYPE", "nf4 or fp4", default = "nf4" },
    { "--block", "N", "elements that share a scale", kind = "count", default = 64 },
    { "--plain", false, "keep the scales in f32 instead of 8 bits" },
    { "--dtype", "TYPE", "of embeddings, head and norms: bf16, f16 or f32; what the file has" },
  },
  run = function(o, arguments)
    require "qlora"
    local input, output = arguments[1], arguments[2]
    if native.exists(output) then command_line.fail("quantize: %s exists; remove it or name another place", output) end
    local redraws, began = native.isatty(1) and not native.options.quiet, native.clock()
    local bytes = native.quantize_checkpoint(require("qlora.talk").place(input), output, {
      quant = o.quant, block = o.block, double_quant = not o.plain, dtype = o.dtype,
      on_module = function(name, done, all)
        if redraws then io.write(("\r\27[K%4d of %d  %s"):format(done, all, name)):flush() end
      end,
    })
    if redraws then io.write "\r\27[K" end
    print(("wrote %s: %s of tensors in %s, peak memory %s"):format(output, format.bytes(bytes),
      format.seconds(native.clock() - began), format.bytes(native.memory().peak_rss)))
  end,
}
