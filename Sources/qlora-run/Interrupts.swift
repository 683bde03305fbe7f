@preconcurrency import Glibc
import LuaRuntime

/// What signals mean: while a recipe runs, and while a prompt does.
enum Interrupts {
  /// The signal that ended the wait for a line.
  nonisolated(unsafe) static var wake: Int32 = 0

  /// The signal that asked the program to end, SIGTERM, SIGHUP or SIGUSR1; 0 for none.
  nonisolated(unsafe) static var ending: Int32 = 0

  /// What a program leaves with that an interrupt ended: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, 138
  /// after SIGUSR1.
  static var exitCode: Int32 { 128 + (ending == 0 ? SIGINT : ending) }

  /// While a loop asks (`native.interrupted`), the first Ctrl-C is its answer and the second raises an error; otherwise
  /// the first does. The third that nobody has taken ends a program that catches its errors and goes on.
  /// Files are written whole or not at all, so that ending anywhere loses nothing.
  static func installForRecipe() {
    install(SIGINT, flags: SA_RESTART) { _ in if LuaState.interrupt() > 2 { _exit(130) } }
    for number in endings where !isIgnored(number) { install(number, flags: SA_RESTART) { Interrupts.end($0) } }
    signal(SIGPIPE, SIG_IGN)
    // A file that grows beyond `ulimit -f` is then a write that fails, and told as such.
    signal(SIGXFSZ, SIG_IGN)
    MappingFaults.install()
  }

  /// Schedulers, containers and lost terminals send these. The first asks for an end as Ctrl-C does, the second ends.
  private static let endings = [SIGTERM, SIGHUP, SIGUSR1]

  private static func end(_ number: Int32) {
    if Interrupts.ending != 0 { _exit(128 + number) }
    Interrupts.ending = number
    LuaState.interrupt()
  }

  /// What started the program may have it ignore a signal, as nohup does.
  private static func isIgnored(_ number: Int32) -> Bool {
    var action = sigaction()
    sigaction(number, nil, &action)
    return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
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
    for number in endings where !isIgnored(number) {
      install(number, flags: 0) { number in
        Interrupts.wake = number
        Interrupts.end(number)
      }
    }
  }

  /// Runs a prompt with its meaning of the signals and sets that of before again.
  static func duringPrompt<Result>(_ body: () throws -> Result) rethrows -> Result {
    let numbers = [SIGINT, SIGCONT] + endings
    var before = numbers.map { number in
      var action = sigaction()
      sigaction(number, nil, &action)
      return action
    }
    installForPrompt()
    defer {
      for (index, number) in numbers.enumerated() { sigaction(number, &before[index], nil) }
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
