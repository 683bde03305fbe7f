--- this machine: processor, instruction set, memory, speed, cache of models, versions
---
--- --quick leaves the measurement of speed out, which takes a few seconds.
local native = require "qlora.native"
local format = require "qlora.format"

local function row(name, text, ...) print(("%-18s " .. text):format(name, ...)) end

local function models(place)
  local names = {}
  for _, folder in ipairs(native.list_dir(place)) do
    local name = folder:match "^models%-%-(.+)$"
    if name then names[#names + 1] = name:gsub("%-%-", "/") end
  end
  return names
end

return {
  most = 0,
  flags = { { "--quick", false, "do not measure the speed" } },
  run = function(o)
    local qlora = require "qlora"
    local cpu = qlora.cpu { measure = not o.quick or nil }
    local memory = native.memory()
    row("program", "qlora-run %s, %s", qlora.version, _VERSION)
    row("library", "%s", native.resource "":gsub("/$", ""))
    row("processor", "%s", cpu.processor or "unknown")
    row("kernels", "%s (here: %s%s)%s", cpu.set, table.concat(cpu.sets, ", "),
      cpu.slow_sets[1] and "; slow: " .. table.concat(cpu.slow_sets, ", ") or "",
      os.getenv "QLORA_ISA" and ", chosen by QLORA_ISA" or "")
    row("threads", "%d of %d processors", cpu.threads, cpu.processors)
    row("computes in", "%s%s", cpu.compute, cpu.bf16 and ", bf16 products are native" or "")
    row("memory", "%s for the program", memory.limit and format.bytes(memory.limit) or "unknown")
    if cpu.f32_gflops then
      row("products", "%.4g GFLOP/s in f32, %.4g in bf16", cpu.f32_gflops, cpu.bf16_gflops)
      row("memory speed", "%.3g GB/s read, %.3g copied", cpu.read_gbps, cpu.copy_gbps)
    end
    local place = native.hub_folder()
    local names = models(place)
    row("models", "%s: %s", place, names[1] and table.concat(names, ", ") or "none")
    row("terminal", "%s, %d columns, %s", os.getenv "TERM" or "none", native.terminal_width(),
      native.has_colours() and "colours" or "no colours")
  end,
}
