import Testing

@Suite struct EngineLuaTests {
  /// Exploration, the index of runs, the reference, tensors and text, tested in Lua on the real engine.
  @Test(arguments: ["test_explore", "test_runs", "test_reference", "test_scripted", "test_tensors", "test_text"])
  func luaTestsOfTheEnginePass(name: String) throws {
    let runner = Program.root.appendingPathComponent("Tests/LuaTests/run_engine.lua").path
    let outcome = try Program.run(["--quiet", runner, name], seconds: 300)
    #expect(outcome.code == 0 && outcome.output.contains("passed, 0 failed"), "\(outcome.output)\(outcome.errors)")
  }
}
