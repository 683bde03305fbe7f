import Foundation
import Testing

/// The beginning of a recipe that has a tuned tiny model and saves it in many places.
private let beginning = """
  local qlora = require "qlora"
  local native = qlora.native
  local function text(path) local f <close> = assert(io.open(path)); return f:read "a" end
  local function names(dir) return table.concat(native.list_dir(dir), " ") end
  local function fails(words, body, ...)
    local ok, message = pcall(body, ...)
    message = tostring(message)
    for _, word in ipairs(words) do assert(not ok and message:find(word, 1, true), message) end
  end
  local model = qlora.load(qlora.resource "models/tiny", { compute = "f32" })
  model:add_lora { select = { "q_proj" }, rank = 2, alpha = 4, quiet = true }
  for _, tensor in ipairs(model:trainable()) do tensor:add_(0.05) end

  """

private func runs(_ body: String) throws {
  let directory = try Program.temporaryDirectory()
  defer { try? FileManager.default.removeItem(at: directory) }
  try (beginning + body).write(to: directory.appendingPathComponent("r.lua"), atomically: true, encoding: .utf8)
  let outcome = try Program.run(["--quiet", "r.lua"], in: directory)
  #expect(outcome.code == 0, "\(outcome.errors)")
}

@Suite struct SavingTests {
  @Test func savingIntoARunDirectoryLeavesTheRun() throws {
    try runs(
      """
      local data = qlora.data.from_records({ { prompt = "a", completion = "b" } },
        { format = "completion", tokenizer = model.tokenizer, quiet = true })
      qlora.train { model = model, data = data, optimizer = qlora.optim.adamw(model:trainable(), { lr = 1e-3 }),
        batch = 1, steps = 2, dir = "run", save_every = 1 }
      local before = native.list_dir "run"
      model:save_adapter "run"
      local now = " " .. names "run" .. " "
      for _, name in ipairs(before) do assert(now:find(" " .. name .. " ", 1, true), name .. " is gone") end
      assert(now:find "adapter_config.json" and native.exists "run/checkpoint-000002/state.json")
      fails({ "run: holds adapter_config.json" }, function()
        model:merge()
        model:save "run"
      end)
      """)
  }

  @Test func linksStayAndSpecialFilesAreRefused() throws {
    try runs(
      """
      native.mkdir "disk"
      assert(os.execute "ln -s disk out; mkfifo pipe; echo old > file; ln -s file link; ln -s nowhere loose")
      model:save_adapter "out"
      assert(names "disk" == "README.md adapter_config.json adapter_model.safetensors tokenizer.json \
      tokenizer_config.json",
        names "disk")
      native.write_file("link", "new")
      native.write_file("loose", "made")
      assert(text "file" == "new" and text "nowhere" == "made")
      assert(os.execute "test -L out && test -L link && test -L loose")
      for place, kind in pairs { pipe = "pipe", file = "file", link = "file", ["/dev/null"] = "device" } do
        fails({ place .. ": is a " .. kind, "a folder is to be written" }, model.save_adapter, model, place)
      end
      for place, kind in pairs { pipe = "pipe", out = "folder", disk = "folder", ["/dev/full"] = "device" } do
        fails({ place .. ": is a " .. kind, "a file is to be written" }, native.write_file, place, "x")
        fails({ place .. ": is a " .. kind }, qlora.save, place, { x = qlora.tensor { 1, 2 } })
      end
      fails({ "is a folder" }, qlora.plot.heatmap, qlora.tensor({ { 1, 2 }, { 3, 4 } }), { file = (function()
        native.mkdir "map.svg"
        return "map.svg"
      end)() })
      assert(os.execute "test -p pipe && test -c /dev/null && test -c /dev/full" and text "file" == "new")
      """)
  }

  /// Also in the folder where one stands, which must not be changed for another.
  @Test func theCurrentFolderCanBeSavedInto() throws {
    try runs(
      """
      native.mkdir "here"
      native.write_file("here/inner.lua", [[
        local qlora = require "qlora"
        os.remove "inner.lua"
        local model = qlora.load(qlora.resource "models/tiny", { compute = "f32" })
        model:add_lora { select = { "q_proj" }, rank = 2, quiet = true }
        for _ = 1, 2 do model:save_adapter "." end
        assert(qlora.native.exists "adapter_config.json")
      ]])
      assert(os.execute "run=$(readlink /proc/$PPID/exe); cd here && $run --quiet inner.lua")
      """)
  }

  @Test func aModelIsSavedWithoutItsAdaptersOnlyOnPurpose() throws {
    try runs(
      """
      local tuned = model:logits { 0, 5, 6 }
      fails({ "5 modules have adapters", "model:merge()", "model:save_adapter" }, model.save, model, "saved")
      assert(not native.exists "saved")
      model:without_adapters(function() model:save "base" end)
      model:merge()
      model:save "saved"
      local again = qlora.load("saved", { compute = "f32" }):logits { 0, 5, 6 }
      local base = qlora.load("base", { compute = "f32" }):logits { 0, 5, 6 }
      assert((again - tuned):abs():max():item() < 0.2 and (base - tuned):abs():max():item() > 0.2)
      """)
  }

  /// vLLM scales by lora_alpha / r, llama.cpp's converter by lora_alpha over the rank of the tensor.
  @Test func adaptersThatOthersScaleWronglyAreNamed() throws {
    try runs(
      """
      assert(model:save_adapter "plain" == nil)
      for how, rule in pairs {
        alpha = function(m) return m.name:find "q_proj" and { rank = 2, alpha = m.layer == 1 and 6 or 4 } end,
        rank = function(m) return m.name:find "q_proj" and { rank = m.layer == 1 and 3 or 2, alpha = 4 } end,
        rslora = function(m) return m.name:find "q_proj" and { rank = 2, alpha = 4, rslora = true } end,
      } do
        model:remove_adapters()
        model:add_lora { select = rule, quiet = true }
        local warning = model:save_adapter(how)
        assert(warning and warning:find "vLLM" and warning:find "llama.cpp" and warning:find "q_proj", how)
      end
      """)
  }
}
