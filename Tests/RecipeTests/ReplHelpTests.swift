import Foundation
import Testing

/// `help` over everything that is bound, asked of the program itself.
@Suite struct ReplHelpTests {
  /// Each native function by name and by value, each class and each of its fields and methods: help must know it, and
  /// the declaration must say something about it and about every parameter and option.
  private let sweep = """
    local native = require "qlora.native"
    local help = require "qlora.repl.help"
    local topics = require "qlora.repl.topics"
    local asked, silent = 0, {}
    local function check(name, text)
      asked = asked + 1
      local head, doc = tostring(text or ""):match("^([^\\n]+)\\n%s+(%S[^\\n]*)")
      if not doc or #doc < 8 then silent[#silent + 1] = name .. " has no text" return end
      for line in text:gmatch "[^\\n]+" do
        if line:find " — *$" then silent[#silent + 1] = name .. ": nothing is said in:" .. line end
      end
    end
    for name, f in pairs(topics.natives()) do
      check(name, help.of_name("qlora.native." .. name))
      check("the value of " .. name, help.of_value(f))
    end
    for _, class in ipairs(native.classes()) do
      check(class, help.of_name(class))
      local members = native.members(class)
      for _, name in ipairs(members.methods) do
        check(class .. ":" .. name, help.of_name(class .. ":" .. name))
        check("the value of " .. class .. ":" .. name, help.of_value(topics.methods(class)[name]))
      end
    end
    for _, name in ipairs(topics.names()) do
      if not help.of_name(name) then silent[#silent + 1] = name .. " is unknown" end
    end
    table.sort(silent)
    for _, line in ipairs(silent) do print(line) end
    print(asked > 200, #silent)
    """

  @Test func everythingBoundIsExplained() throws {
    let outcome = try Program.run(["-l", "qlora", "-e", sweep])
    #expect(outcome.output == "true\t0\n", "\(outcome.output)\(outcome.errors)")
  }

  @Test func everyObjectSaysWhatItIs() throws {
    let model = Program.root.appendingPathComponent("models/tiny").path
    let program = """
      local m = qlora.load("\(model)", { quant = "nf4" })
      m:add_lora { select = { "q_proj" }, rank = 4, alpha = 8, quiet = true }
      print(m:module "model.layers.1.self_attn.q_proj")
      print(qlora.randn(64, 64):quantize { type = "fp4", double = false })
      print(qlora.optim.adamw(m:trainable(), { lr = 2e-4, bits = 8, paged = true }))
      print(m.tokenizer)
      print(qlora.data.batch { { ids = { 1, 2, 3 } }, { ids = { 4, 5 } } })
      print(m:tree(2))
      print(qlora.full({ 12, 2, 9 }, 2))
      """
    let outcome = try Program.run(["-l", "qlora", "-e", program])
    for text in [
      "Module model.layers.1.self_attn.q_proj: linear [192 x 192], 36,864 parameters, nf4, 18.6 KiB, lora "
        + "rank 4 alpha 8\n",
      "[fp4 64 x 64, blocks of 64, f32 scales, 2,304 bytes, 4.500 bits per parameter]\n",
      "Optimizer AdamW: lr 2e-4, 8-bit, paged state, 7,680 parameters in 10 tensors\n",
      "Tokenizer: 1,267 tokens, bos 0 \"<s>\", eos 1 \"</s>\"\n",
      "Batch: 2 sequences, 5 tokens, 3 trained, longest 3\n",
      "├─ embed_tokens  embedding  1280 x 192    245,760   480 KiB  bf16\n",
      "(3,.,.) =\n 2.0000  2.0000  2.0000  …  2.0000  2.0000  2.0000\n", "(10,.,.) =\n",
      "[f32 12 x 2 x 9, 864 bytes]\n",
    ] {
      #expect(outcome.output.contains(text), "\(text) in \(outcome.output)\(outcome.errors)")
    }
    #expect(!outcome.output.contains("0x"))
  }
}
