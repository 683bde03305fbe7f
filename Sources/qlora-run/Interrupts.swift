@preconcurrency import Glibc
import LuaRuntime

/// What signals mean: while a recipe runs, and while a prompt does.
enum Interrupts {
  /// The signal that ended the wait for a line.
  nonisolated(unsafe) static var wake: Int32 = 0

  /// The first Ctrl-C asks, the second raises an error, the third ends a program that catches its errors and goes on.
  /// Files are written whole or not at all, so that ending anywhere loses nothing.
  static func installForRecipe() {
    install(SIGINT, flags: SA_RESTART) { _ in if LuaState.interrupt() > 2 { _exit(130) } }
    signal(SIGPIPE, SIG_IGN)
    // A file that grows beyond `ulimit -f` is then a write that fails, and told as such.
    signal(SIGXFSZ, SIG_IGN)
    MappingFaults.install()
  }

  /// Ctrl-C stops the statement or the line being typed, never the program with the model in it.
  ///
  /// Calls are not restarted: that is what ends the wait for a line. Going on after Ctrl-Z ends it too, because the
  /// terminal's modes are to be set again.
  private static func installForPrompt() {
    install(SIGINT, flags: 0) { _ in
      Interrupts.wake = SIGINT
      LuaState.interrupt()
    }
    install(SIGCONT, flags: 0) { _ in Interrupts.wake = SIGCONT }
  }

  /// Runs a prompt with its meaning of the signals and sets that of before again.
  static func duringPrompt<Result>(_ body: () throws -> Result) rethrows -> Result {
    var (interrupt, going) = (sigaction(), sigaction())
    sigaction(SIGINT, nil, &interrupt)
    sigaction(SIGCONT, nil, &going)
    installForPrompt()
    defer {
      sigaction(SIGINT, &interrupt, nil)
      sigaction(SIGCONT, &going, nil)
      LuaState.forgetInterrupts()
    }
    return try body()
  }

  private static func install(_ number: Int32, flags: Int32, _ handler: @escaping @convention(c) (Int32) -> Void) {
    var action = sigaction()
    action.__sigaction_handler.sa_handler = handler
    action.sa_flags = flags
    sigaction(number, &action, nil)
  }
}
