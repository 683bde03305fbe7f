import Foundation
import LuaRuntime
import Testing

@testable import LuaBindings

/// What a folder with adapters loses and keeps, and what is refused before anything is lost.
@Suite(.serialized) struct AdapterFolderTests {
  private func run(_ program: String) throws {
    let (state, engine) = try makeState()
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let head = """
      local qlora = require "qlora"
      qlora.native.options.quiet = true
      local dir = ...
      local model = qlora.load(qlora.resource "models/tiny", { quant = "nf4" })
      local function write(path, text)
        local file <close> = assert(io.open(path, "w"))
        file:write(text)
      end
      local function read(path)
        local file <close> = assert(io.open(path, "rb"))
        return file:read "a"
      end
      local function refused(words, ...)
        local ok, message = pcall(...)
        assert(not ok and tostring(message):find(words, 1, true), tostring(message))
      end

      """
    _ = try state.load(Array((head + program).utf8), chunkName: head + program).call([.string(folder)])
    withExtendedLifetime(engine) {}
  }

  @Test func aProgramOfSomebodyElseStays() throws {
    try run(
      """
      local mine = "return 'mine'\\n"
      write(dir .. "/adapter.lua", mine)
      model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4 }
      model:save_adapter(dir)
      assert(read(dir .. "/adapter.lua") == mine)
      model:remove_adapters()
      local gain = {
        parameters = function(m) return { gain = qlora.ones(m.out_features) } end,
        forward = function(_, base, p) return base * p.gain end,
      }
      model:add_adapter_module({ "model.layers.0.mlp.up_proj" }, gain)
      refused("adapter.lua", model.save_adapter, model, dir)
      assert(read(dir .. "/adapter.lua") == mine)
      -- That of an adapter is replaced and goes with it.
      model:save_adapter(dir .. "/own")
      model:save_adapter(dir .. "/own")
      model:remove_adapters()
      model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4 }
      model:save_adapter(dir .. "/own")
      assert(not qlora.native.exists(dir .. "/own/adapter.lua"))
      """)
  }

  @Test func foldedAdaptersKeepTheirCardAndNameWhatStays() throws {
    try run(
      """
      model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4 }
      model:note_training { { name = "data", text = "mine" } }
      model:save_adapter(dir .. "/folded", { fold = true })
      assert(read(dir .. "/folded/README.md"):find("mine", 1, true))
      """)
  }

  @Test func tokensStandBesideDoRAAndAlone() throws {
    try run(
      """
      local function logits() return model:logits({ 5, 6, 7 }):totable() end
      local function comes_back(path)
        for _, tensor in ipairs(model:trainable()) do tensor:add_(0.01) end
        local before = logits()
        model:save_adapter(path)
        model:remove_adapters()
        model:add_adapter(path)
        local after = logits()
        for i, row in ipairs(before) do
          for j, value in ipairs(row) do assert(math.abs(value - after[i][j]) < 1e-4) end
        end
        model:remove_adapters()
      end
      model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4, method = "dora", tokens = { 5, 6 } }
      comes_back(dir .. "/dora")
      model:train_tokens { 5, 6 }
      comes_back(dir .. "/alone")
      -- PEFT writes the rows of a tied output matrix a second time, and misses them otherwise.
      local stored = qlora.native.load_tensors(dir .. "/alone/adapter_model.safetensors")
      assert(stored["base_model.model.lm_head.trainable_tokens_delta"])
      """)
  }

  /// A word outside the choices of an option is no silent default, and an option that a method does not read is an
  /// error.
  @Test func wordsThatAreNoChoiceAreRefused() throws {
    try run(
      """
      model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4, name = "one" }
      model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4, name = "two" }
      local function combine(words, options)
        refused(words, model.combine_adapters, model, "both", { one = 1, two = 1 }, options)
        assert(#model:adapters() == 2)
      end
      combine([[combine_adapters: option 'method' has no choice "tise" (did you mean "ties"?); choices: cat, linear, ]],
        { method = "tise", density = 0.5 })
      combine('has no choice "most"; choices: total, frequency', { method = "ties", density = 0.5, sign = "most" })
      combine("linear takes no sign", { method = "linear", sign = "total" })
      combine("ties takes no seed", { method = "ties", density = 0.5, seed = 1 })
      refused([[option 'as' has no choice "onnx"; choices: peft, gguf, mlx]], model.save_adapter, model, dir .. "/a",
        { name = "one", as = "onnx" })
      refused('has no choice "q4_k" (did you mean "q4_0"?)', model.save_gguf, model, dir .. "/a.gguf", \
      { type = "q4_k" })
      refused('has no choice "bogus"; choices: ', model.train_parts, model, {}, "bogus")
      model:add_lora { select = { "q_proj" }, rank = 2, method = "dora", name = "three" }
      refused("'three' is of the kind dora; only plain LoRA adapters can be combined", model.combine_adapters, model, \
      "both",
        { one = 1, three = 1 })
      refused("already has an adapter called 'one'", model.add_lora, model, { select = { "q_proj" }, rank = 2, \
      name = "one" })
      assert(#qlora.native.list_dir(dir) == 0)
      """)
  }

  /// Two paths that are no text would be one; ids of a pass that nobody can compute would end the process.
  @Test func whatIsTooMuchOrNoTextIsRefused() throws {
    try run(
      """
      local write = qlora.native.write_file
      refused("path is no UTF-8 text from its byte 4 on", write, "by_\\255.txt", "x")
      refused("option 'method' must be", model.combine_adapters, model, "n", { a = 1 }, { method = 5 })
      write(dir .. "/bytes", "\\255\\254")
      assert(read(dir .. "/bytes") == "\\255\\254")
      model:add_lora { select = { "q_proj" }, rank = 2 }
      refused("more than the model's", model.plan_merge, model, { lengths = { 100, 1 << 60 } })
      local row = { variant = 0, batch = 1 << 20, length = 100, micro_batch = 1 << 20 }
      row.optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 })
      refused("16777216", model.plan_step, model, { batch = 1, length = 8, together = { row } })
      refused("scaling is within f32", model.add_lora, model,
        { select = { "v_proj" }, rank = 2, alpha = 1e308, name = "loud" })
      """)
  }

  @Test func whatCannotBeDoneIsRefusedBeforeAnythingIsLost() throws {
    try run(
      """
      model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4 }
      refused("there is no token", model.add_lora, model, { select = { "v_proj" }, rank = 2, tokens = { 99999 } })
      assert(#model:adapters() == 1 and model:module("model.layers.0.self_attn.q_proj").adapter)
      assert(not model.merged)
      model:enter_variant(1)
      model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4 }
      refused("a merge would change it", model.merge, model)
      model:leave_variants()
      model:merge()
      assert(model.merged)
      """)
  }

  @Test func aVariantThatYieldsByItselfIsARowWithAnError() throws {
    try run(
      """
      local data = qlora.data.from_records({ { prompt = "a b", completion = " c" } },
        { format = "completion", tokenizer = model.tokenizer })
      local rows = qlora.sweep {
        together = true, variants = { { rank = 2 }, { rank = 4 } }, base = function() return model end,
        run = function(v, m)
          m:add_lora { select = { "q_proj" }, rank = v.rank, alpha = 4 }
          local result = qlora.train { model = m, data = data, steps = 2, batch = 1,
            optimizer = qlora.optim.adamw(m:trainable(), { lr = 1e-3 }) }
          if v.rank == 2 then coroutine.yield(3) end
          return { loss = result.last_loss }
        end,
      }
      assert(rows[1].error:find("run yielded", 1, true) and rows[2].loss)
      """)
  }

  /// An adapter keeps the template of its data: beside it, when it is read and saved again, folded, and in what it is
  /// merged into.
  @Test func theChatTemplateOfTheDataIsSaved() throws {
    try run(
      """
      local native = qlora.native
      local messages = { { role = "user", content = "Who?" }, { role = "assistant", content = "Mia." } }
      local data = qlora.data.from_records({ { messages = messages }, { messages = messages } },
        { format = "chat", template = "chatml", default_system = "Say it.", tokenizer = model.tokenizer })
      model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4 }
      assert(model:save_adapter(dir .. "/plain.gguf") == nil)
      qlora.train { model = model, data = data, steps = 1, batch = 1,
        optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }) }
      model:save_adapter(dir .. "/own")
      assert(read(dir .. "/own/chat_template.jinja") == data.chat_template)
      for _, form in ipairs { "gguf", "mlx" } do
        local said = model:save_adapter(dir .. "/other." .. form, { as = form })
        assert(said:find("another template than the model's own, which this form cannot hold", 1, true), form)
      end
      local config = qlora.json.decode(read(dir .. "/own/tokenizer_config.json"))
      assert(config.chat_template == data.chat_template)
      model:save_adapter(dir .. "/folded", { fold = true })
      assert(read(dir .. "/folded/chat_template.jinja") == data.chat_template)
      model:remove_adapters()
      model:add_adapter(dir .. "/own")
      assert(model:adapters()[1].chat_template == data.chat_template)
      model:save_adapter(dir .. "/again")
      assert(read(dir .. "/again/chat_template.jinja") == data.chat_template)
      model:merged_weights("dequantized"):save(dir .. "/merged")
      model:save_gguf(dir .. "/merged.gguf", { type = "f32", merge = true })
      assert(model.tokenizer.chat_template == nil)
      model:merge()
      model:save(dir .. "/whole")
      for _, name in ipairs { "merged", "whole", "merged.gguf" } do
        local other = qlora.load(dir .. "/" .. name)
        assert(other.tokenizer.chat_template == data.chat_template, name)
        local ids = other.tokenizer:apply_chat(messages, { tokenize = true })
        assert(table.concat(ids, " ") == table.concat(data[1].ids, " "), name)
      end
      """)
  }

  /// What training gave the template besides is in the one that lies beside the adapter, so that those who talk to it
  /// send the text of training.
  @Test func templateOptionsOfTheDataAreSaved() throws {
    try run(
      """
      local messages = { { role = "user", content = "Who?" }, { role = "assistant", content = "Mia." } }
      write(dir .. "/own.jinja", "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
        .. "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
        .. "{% if enable_thinking is defined and not enable_thinking %}{{ '!' }}{% endif %}")
      local data = qlora.data.from_records({ { messages = messages }, { messages = messages } }, { format = "chat",
        template = dir .. "/own.jinja", template_options = { enable_thinking = false }, tokenizer = model.tokenizer })
      model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4 }
      assert(qlora.chat.for_model(model) == nil)
      qlora.train { model = model, data = data, steps = 1, batch = 1,
        optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }) }
      model:save_adapter(dir .. "/own")
      model:remove_adapters()
      model:add_adapter(dir .. "/own")
      local ids = model.tokenizer:apply_chat(messages, { tokenize = true, template = qlora.chat.for_model(model) })
      assert(table.concat(ids, " ") == table.concat(data[1].ids, " "))
      model:add_lora { select = { "v_proj" }, rank = 2, alpha = 4, name = "other" }
      assert(qlora.chat.for_model(model) == nil)
      model:use_adapters { "default", "other" }
      assert(qlora.chat.for_model(model) == nil)
      local talker = require "qlora.talk".open(dir .. "/own", {})
      local prompt = talker:prompt({ messages[1] }, "own")
      assert(talker.model.tokenizer:decode(prompt) == "user: Who?</s>assistant: !",
        talker.model.tokenizer:decode(prompt))
      """)
  }

  /// Without a word about the data, the base's own template lies beside the adapter, and none is the adapter's.
  @Test func theModelsOwnChatTemplateIsNoneOfTheAdapter() throws {
    try run(
      """
      local native = qlora.native
      native.mkdir(dir .. "/base")
      for _, name in ipairs(native.list_dir(qlora.resource "models/tiny")) do
        native.write_file(dir .. "/base/" .. name, read(qlora.resource "models/tiny" .. "/" .. name))
      end
      native.write_file(dir .. "/base/chat_template.jinja", \
      "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}")
      local model = qlora.load(dir .. "/base")
      model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4 }
      model:note_training({ { name = "data", text = "mine" } }, { chat_template = model.tokenizer.chat_template })
      assert(model:adapters()[1].chat_template == nil)
      model:save_adapter(dir .. "/own")
      assert(read(dir .. "/own/chat_template.jinja") == model.tokenizer.chat_template)
      model:remove_adapters()
      model:add_adapter(dir .. "/own")
      assert(model:adapters()[1].chat_template == nil)
      write(dir .. "/own/chat_template.jinja", "other")
      model:remove_adapters()
      model:add_adapter(dir .. "/own")
      assert(model:adapters()[1].chat_template == "other")
      """)
  }
}
