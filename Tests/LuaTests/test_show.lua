local t = require "harness"
local native = require "qlora.native"
local qlora = require "qlora"
local format = require "qlora.format"
local progress = require "qlora.progress"
local tensorboard = require "qlora.tensorboard"
local values = require "qlora.tensorboard_values"

t.test("numbers read well", function()
  t.equal({ format.bytes(0.4), format.bytes(512.3) }, { "0 B", "512 B" })
  t.equal({ format.bytes(512), format.bytes(1536), format.bytes(5 << 30) }, { "512 B", "1.50 KiB", "5.00 GiB" })
  t.equal({ format.seconds(65.4), format.seconds(3725) }, { "1:05", "1:02:05" })
  t.equal(format.seconds(3600 * 2.0 ^ 70), "1180591620717411303424:00:00")
  t.equal({ format.count(999), format.count(39976960), format.count(6.7e9) }, { "999", "40.0 M", "6.70 G" })
end)

t.test("sparkline and line plot", function()
  t.equal(qlora.plot.sparkline { 1, 2, 3, 4, 5, 6, 7, 8 }, "▁▂▃▄▅▆▇█")
  t.equal(qlora.plot.sparkline { 5, 5 }, "▁▁")
  t.equal(utf8.len(qlora.plot.sparkline({ table.unpack(setmetatable({}, { __index = function(_, i) return math.sqrt(i)
    end }), 1, 100) }, 20)), 20)
  local text = qlora.plot.lines({ 3, 2, 1 }, { width = 10, height = 3, title = "loss" })
  t.equal(select(2, text:gsub("\n", "\n")), 5)
  assert(text:find("^loss\n"), text)
  assert(text:find("3 ┤", 1, true) and text:find("1 ┤", 1, true), text)
  assert(qlora.plot.lines({}, { title = "empty" }):find("nothing to plot", 1, true))
  t.equal(#qlora.plot.lines { 1, 0 / 0, 2 } > 0, true)
end)

t.test("progress: plain lines when piped, one redrawn line on a terminal", function()
  native.options.quiet = nil
  local function run()
    return t.captured(function()
      local bar = progress.new(25, 1, 10)
      for step = 1, 25 do bar:update { step = step, loss = 2.0, tokens = 100 } end
      bar:finish()
    end)
  end
  local plain = run()
  t.equal(select(2, plain:gsub("\n", "\n")), 4) -- steps 1, 10, 20, 25
  assert(plain:find("step 25/25  loss 2.0000", 1, true), plain)
  native.terminal = true
  local drawn = run()
  native.terminal, native.options.quiet = nil, true
  t.equal({ select(2, drawn:gsub("\r", "")), select(2, drawn:gsub("\n", "")) }, { 25, 1 })
  assert(drawn:find("━", 1, true))
end)

t.test("TensorBoard records carry the right checksums", function()
  t.equal(tensorboard.crc32c("123456789"), 0xe3069283)
  local frame = tensorboard.frame("abc")
  t.equal({ #frame, (string.unpack("<I8", frame)) }, { 8 + 4 + 3 + 4, 3 })
  -- Every event file TensorBoard itself writes begins with these bytes: length 24 and its masked checksum.
  t.equal(tensorboard.frame(("x"):rep(24)):sub(1, 12), "\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22")
  local event = tensorboard.event(300, values.numbers { step = 300, loss = 0.5 }, 1.0)
  -- wall_time, step (varint 300 = ac 02), summary { value { tag "train/loss", simple_value 0.5 } }
  t.equal(event, "\x09" .. string.pack("<d", 1.0) .. "\x10\xac\x02" .. "\x2a\x13" .. "\x0a\x11" .. "\x0a\x0atrain/loss"
    .. "\x15" .. string.pack("<f", 0.5))
end)

t.test("perplexity, MMLU and comparison", function()
  local model = native.mock_model()
  local data = qlora.data.load({ { text = "abc" }, { text = "d" } }, { format = "completion",
    tokenizer = model.tokenizer })
  local perplexity, loss, count = qlora.eval.perplexity(model, data, { batch = 2 })
  t.close(perplexity, 259, 1e-9); t.close(loss, math.log(259), 1e-12); t.equal(count, 6)
  native.records["mmlu"] = {
    { subject = "x", input = "Q", output = "B" }, { subject = "x", input = "Q", output = "C" },
      { subject = "y", input = "Q", output = "B" },
  }
  model.weights[("B"):byte() + 3] = 1.0
  local result = qlora.eval.mmlu(model, "mmlu")
  t.equal({ result.accuracy, result.subjects.x, result.subjects.y, result.questions }, { 0.75, 0.5, 1.0, 3 })
  t.equal(qlora.eval.compare(model, "base", data).agreement, 1.0)
end)
