@preconcurrency import Glibc
import LuaBindings
import Ranks

exit(start(Array(CommandLine.arguments.dropFirst())))

/// Parses the arguments and does what they ask; returns the exit code.
func start(_ arguments: [String]) -> Int32 {
  setvbuf(stdout, nil, _IOLBF, 0)
  let root = Resources.root()
  let invocation: Invocation
  do {
    invocation = try Invocation(arguments) { Resources.isCommand($0, root: root) }
  } catch {
    fputs("qlora-run: \(error)\nqlora-run --help lists the flags\n", stderr)
    return ExitCode.usage
  }
  if invocation.showsVersion { print("qlora-run \(qloraVersion) (Lua 5.4)") }
  let ranks: Ranks
  do {
    try Engine.checkEnvironment()
    ranks = try Engine.join(Launcher())
  } catch {
    fputs("qlora-run: \(error)\n", stderr)
    return ExitCode.usage
  }
  guard let runner = Runner(invocation, ranks) else {
    fputs("qlora-run: not enough memory for Lua\n", stderr)
    ranks.abort(ExitCode.recipeError)
    return ExitCode.recipeError
  }
  let code = runner.run()
  if code == ExitCode.success { runner.engine.tellOfIdleRanks() }
  runner.state.close()
  return leave(ranks, code)
}

/// Leaves the other processes: with them where the program is at its end or was told to stop, else all end at once.
func leave(_ ranks: Ranks, _ code: Int32) -> Int32 {
  if code == ExitCode.recipeError || code == ExitCode.usage {
    ranks.abort(code)
    return code
  }
  do { try ranks.finish() } catch {
    fputs("qlora-run: rank \(ranks.rank) on \(ranks.host): \(error)\n", stderr)
    ranks.abort(ExitCode.recipeError)
    return ExitCode.recipeError
  }
  return code
}
