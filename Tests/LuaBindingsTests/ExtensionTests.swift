import Testing

@Suite struct ExtensionTests {
  /// Lua keeps metatables of its own beside those of the bound classes.
  @Test(arguments: ["FILE*", "_IO_input", "_LOADED", "Nothing"]) func onlyBoundClassesAreExtended(name: String) throws {
    let (state, _) = try makeState()
    let text = "return pcall(require('qlora.native').extend, '\(name)', {}), collectgarbage()"
    let results = try state.load(Array(text.utf8), chunkName: "=t").call()
    #expect(results.first?.asBool == false)
  }
}
