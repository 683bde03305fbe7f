import LuaRuntime
import Testing

@testable import LuaBindings

/// A kept cache and text in pieces change nothing of what is written.
@Suite struct KeptCacheTests {
  private func run(_ text: String) throws -> [LuaValue] {
    let (state, _) = try makeState()
    defer { state.close() }
    let head = """
      local qlora = require "qlora"
      qlora.native.options.quiet = true
      local model = qlora.load(qlora.resource "models/tiny", { compute = "f32" })
      local cache = model:cache()

      """
    return try state.load(Array((head + text).utf8), chunkName: "=cache").call()
  }

  /// Prompts that go on from the last, share a beginning, and share nothing.
  @Test func generationIsTheSame() throws {
    let found = try run(
      """
      local prompts = { "Mia the baker", "Mia the baker walked to the market and", "Mia the baker ran", "Tom", "Tom" }
      for i, prompt in ipairs(prompts) do
        local plain = model:generate(prompt, { max_new_tokens = 12 })
        local kept = model:generate(prompt, { max_new_tokens = 12, cache = cache })
        assert(plain == kept, prompt .. ": " .. plain .. " | " .. kept)
      end
      return cache.length, #model.tokenizer:encode "Tom"
      """)
    let length = try #require(found[0].asInt), prompt = try #require(found[1].asInt)
    #expect(length > prompt && length <= prompt + 12)
  }

  @Test func anotherAdapterEmptiesIt() throws {
    let found = try run(
      """
      local prompt = "Mia the baker walked to the market and"
      local base = model:generate(prompt, { max_new_tokens = 12, cache = cache })
      model:add_lora { select = "all-linear", rank = 4 }
      for _, tensor in ipairs(model:trainable()) do tensor:fill_(0.4) end
      local adapted = model:generate(prompt, { max_new_tokens = 12, cache = cache })
      assert(adapted == model:generate(prompt, { max_new_tokens = 12 }))
      local without = model:without_adapters(function()
        return model:generate(prompt, { max_new_tokens = 12, cache = cache })
      end)
      return base == without, base == adapted
      """)
    #expect(found.map(\.asBool) == [true, false])
  }

  @Test func theCacheIsOfOneModel() throws {
    #expect(throws: LuaError.self) {
      try run("qlora.load(qlora.resource 'models/tiny'):generate('a', { cache = cache })")
    }
  }

  @Test func piecesMakeTheText() throws {
    let found = try run(
      """
      local pieces = {}
      local function note(piece)
        assert(utf8.len(piece))
        pieces[#pieces + 1] = piece
      end
      local text, reason, read, written = model:generate("Mia the baker walked to the", {
        max_new_tokens = 20, stop = "and", on_text = note, counts = true })
      assert(table.concat(pieces) == text, text)
      local short, why = model:generate("Mia the baker walked to the", {
        max_new_tokens = 20, on_text = function() return false end, counts = true })
      assert(select("#", model:generate("Mia", { max_new_tokens = 1 })) == 1)
      return reason, why, #pieces > 3, #short < #text, read > 3 and written > 3
      """)
    #expect(found[0].asString == "stop" && found[1].asString == "ended", "\(found)")
    #expect(found.dropFirst(2).map(\.asBool) == [true, true, true])
  }
}
