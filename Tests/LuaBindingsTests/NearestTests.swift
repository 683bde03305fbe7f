import LuaRuntime
import Testing

@testable import LuaBindings

/// What a call says of a name that is nearly right, and of numbers that do not fit.
@Suite(.serialized) struct NearestTests {
  private func fails(_ program: String, _ words: String) throws {
    let (state, engine) = try makeState()
    let head = """
      local qlora = require "qlora"
      qlora.native.options.quiet = true
      local model = qlora.load(qlora.resource "models/tiny")

      """
    let whole =
      head + "local ok, message = pcall(function() \(program) end) return ok and 'passed' or tostring(message)"
    let said = try state.load(Array(whole.utf8), chunkName: "=test").call([]).first?.asString ?? ""
    #expect(said.contains(words), "\(program): \(said)")
    withExtendedLifetime(engine) {}
  }

  @Test(arguments: [
    ("q_proj", "nearest: model.layers.0.self_attn.q_proj, model.layers.1.self_attn.q_proj, model.layers.2."),
    ("up_prj", "nearest: model.layers.0.mlp.up_proj, model.layers.1.mlp.up_proj, model.layers.2.mlp.up_proj"),
    ("layers.0.up_proj", "nearest: model.layers.0.mlp.up_proj"),
    ("mlp.up_prj", "nearest: model.layers.0.mlp.up_proj, "),
    ("model.layer.0.mlp.up_proj", "nearest: model.layers.0.mlp.up_proj"), ("model.norn", "nearest: model.norm"),
    ("embed_token", "nearest: model.embed_tokens"), ("lm_haed", "nearest: model.embed_tokens"),
  ])
  func aModuleIsNamed(_ name: String, _ words: String) throws {
    try fails("model:module '\(name)'", "no module is called '\(name)'; " + words)
  }

  @Test func textsFitTheModel() throws {
    try fails(
      "model:generate({ 5, 6 }, { max_new_tokens = model.positions - 1 })",
      "the prompt has 2 tokens, and with max_new_tokens = 255 the text has more than the model's 256 positions; give "
        + "max_new_tokens = 254 at most, or a shorter prompt")
    try fails("model:generator():add({ 5, 6 }, { max_new_tokens = 300 })", "give max_new_tokens = 254 at most")
    try fails(
      """
      local long = {}
      for i = 1, 250 do long[i] = 5 end
      local text, reason, read, written = model:generate(long, { counts = true })
      assert(read + written <= 256)
      model:generate(long, { max_new_tokens = 6 })
      for i = 251, 256 do long[i] = 5 end
      model:generate(long, { max_new_tokens = 1 })
      """, "256 positions; give a shorter prompt")
  }

  @Test func optionsWithoutATextAreTold() throws {
    try fails("model:generate { max_new_tokens = 3 }", "got a table with 'max_new_tokens'; options come behind it")
    try fails("model:logits { last = true }", "got a table with 'last'")
  }

  @Test func aFrozenAdapterIsTold() throws {
    try fails(
      """
      model:add_lora { select = { "q_proj" }, rank = 2 }
      for _, tensor in ipairs(model:trainable()) do tensor.requires_grad = false end
      qlora.optim.adamw(model:trainable(), { lr = 1e-3 })
      """,
      "the adapter 'default' was loaded to be used: load the model without it, and model:add_adapter(DIR, "
        + "{ trainable = true }) trains it on")
    try fails("qlora.optim.adamw(model:trainable(), { wd = 0.1 })", "write weight_decay = 0.1")
  }
}
