import LuaRuntime
import Testing

@testable import LuaBindings

/// What counts elements or tokens is exact, and tokens stay in Swift.
@Suite struct CountingTests {
  private func run(_ text: String) throws -> [LuaValue] {
    let (state, _) = try makeState()
    defer { state.close() }
    let head = "local qlora = require 'qlora'; local native = qlora.native; native.options.quiet = true\n"
    return try state.load(Array((head + text).utf8), chunkName: "=counting").call()
  }

  /// 2^24 is the last of the numbers that f32 counts without a gap.
  @Test func positionsBeyond24BitsAreExact() throws {
    let found = try run(
      """
      local x = qlora.zeros(16777220)
      x[16777218] = 1
      local _, places = x:topk(1)
      return x:argmax():item(), x:view(1, -1):argmax(2):item(), places:item(), x:numel()
      """)
    #expect(found.map(\.asInt) == [16_777_218, 16_777_218, 16_777_218, 16_777_220])
  }

  /// As in PyTorch: what topk takes has a gradient, NaN is the largest, views of one element keep their shape.
  @Test func chosenAndSingleElementsBringGradients() throws {
    let found = try run(
      """
      local a = qlora.tensor { 3, 1, 2 }
      a.requires_grad = true
      (a:topk(1)[1] * 2 + a:sum()):backward()
      assert(a.grad[1]:item() == 3 and a.grad[2]:item() == 1 and a.grad[3]:item() == 1)
      local _, places = qlora.tensor({ 1, 0 / 0, 2 }):topk(2)
      assert(places[1]:item() == 2 and places[2]:item() == 3)
      for _, name in ipairs { "neg", "sqrt", "tanh", "sigmoid", "silu", "relu", "gelu", "square", "erf", "exp" } do
        local x = qlora.tensor { 3, 1 }
        x.requires_grad = true
        local y = name == "neg" and -x[1] or x[1][name](x[1])
        y:backward()
        assert(#y:shape() == 0 and x.grad[1]:item() ~= 0 and x.grad[2]:item() == 0, name)
      end
      return #(qlora.tensor { 3, 1 }[1] + 1):shape()
      """)
    #expect(found.first?.asInt == 0)
  }

  /// Values of PyTorch 2.13; in f32 the peak and the logarithm of the sum are not to be added.
  @Test func largeNumbersKeepTheirDigits() throws {
    let found = try run(
      """
      local y = qlora.tensor({ 1e4, 1e4, 9999 }):log_softmax()
      local z = qlora.tensor({ 9.9e7, 9.9e7 }):log_softmax()
      local sums = qlora.tensor({ 16777216, 1, 1, 1, 1 }):cumsum(1)
      return y[1]:item(), z[1]:item(), sums[5]:item()
      """)
    let numbers = try found.map { try #require($0.asDouble) }
    #expect(abs(numbers[0] + 0.86199480) < 1e-7 && abs(numbers[1] + 0.6931472) < 1e-7 && numbers[2] == 16_777_220)
  }

  private static let data = """
    local tokenizer = native.tokenizer.load(native.resource "models/tiny")
    local records = {}
    for i = 1, 200 do records[i] = { input = ("question %d?"):format(i), output = (" answer %d"):format(i) } end
    local data = qlora.data.load(records, { format = "input_output", tokenizer = tokenizer })

    """

  @Test func aDataSetKeepsFourBytesAToken() throws {
    let found = try run(
      Self.data + """
        local stats, bytes = data:stats(), native.memory().samples
        return #data, stats.tokens, bytes, data.samples.nbytes
        """)
    let numbers = try found.map { try #require($0.asInt) }
    #expect(numbers[0] == 200 && numbers[1] > 1000)
    #expect(numbers[2] == numbers[3] && numbers[2] >= 4 * numbers[1] && numbers[2] < 8 * numbers[1] + 16384)
  }

  /// Rows, batches and steps of a data set agree with each other.
  @Test func rowsAndBatchesAgree() throws {
    let found = try run(
      Self.data + """
        local first, second = data:split(0.25, 3)
        assert(#first == 150 and #second == 50 and data[201] == nil)
        local row, count = data[7], 0
        for i = 2, #row.ids do
          assert(row.labels[i] == -100 or row.labels[i] == row.ids[i])
          if row.labels[i] ~= -100 then count = count + 1 end
        end
        assert(tokenizer:decode(row.ids):find("question 7? answer 7", 1, true), tokenizer:decode(row.ids))
        local by_rows, by_numbers = qlora.data.batch { row, data[9] }, data:batch { 7, 9 }
        assert(by_rows.trained == by_numbers.trained and by_rows.tokens == by_numbers.tokens)
        assert(data:batch { 7 }.trained == count)
        for _, batches, numbers in data:steps { steps = 1, batch = 5, micro_batch = 2 } do
          assert(#batches == 3 and #numbers == 5 and batches[3].rows == 1)
        end
        data:preview(7)
        return true
        """)
    #expect(found.first?.asBool == true)
  }

  @Test func clippingRefusesWhatIsNoLimit() throws {
    let found = try run(
      """
      local x = qlora.tensor { 3, 4 }
      x.requires_grad = true
      (x * x):sum():backward()
      local texts = {}
      for i, limit in ipairs { 0, -1, 0/0 } do
        for _, name in ipairs { "clip_grad_norm", "gradient_norm" } do
          local ok, message = pcall(native[name], { x }, limit)
          texts[#texts + 1] = not ok and message or "no error"
        end
      end
      local norm, scale = native.gradient_norm({ x }, 5)
      assert(norm == 10 and math.abs(scale - 0.5) < 1e-6, scale)
      assert(native.gradient_norm({ x }, math.huge) == 10 and x.grad[1]:item() == 6)
      assert(native.clip_grad_norm({ x }, 5) == 10 and math.abs(x.grad[1]:item() - 3) < 1e-5)
      return table.concat(texts, "\\n")
      """)
    let lines = try #require(found.first?.asString).split(separator: "\n")
    #expect(lines.count == 6)
    for line in lines { #expect(line.contains("(number above 0 expected, got max = ")) }
  }
}
