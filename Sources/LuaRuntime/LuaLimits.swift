import CLua
import CLuaTrampoline

/// A limit that a Lua program has reached.
package enum LuaLimit: Error, Equatable, CustomStringConvertible {
  /// Lua's heap holds so many bytes, and the process may not grow by those that are wanted.
  case memory(wanted: Int, held: Int)

  package var description: String { words { "\($0) bytes" } }

  /// What happened, with numbers of bytes as `size` says them.
  package func words(size: (Int) -> String) -> String {
    switch self {
    case .memory(let wanted, let held):
      "not enough memory for Lua, which wants \(size(wanted)) more; its values hold \(size(held))"
    }
  }
}

/// What a Lua program does with a path.
package enum LuaFileUse {
  case read, write
  /// Removes or renames the name in its folder.
  case entry
}

/// What a program may take: memory, instructions, files, time until Ctrl-C.
extension LuaState {
  /// Lua's heap grows only by what `admits` agrees to, which is asked for about every MiB. A refusal is an error of the
  /// Lua program; what a native function builds is refused when it returns.
  package func limitMemory(_ admits: @escaping (_ growth: Int) -> Bool) {
    self.admits = admits
    ql_set_admission(L) { context, growth in
      guard let context else { return 1 }
      return Unmanaged<LuaState>.fromOpaque(context).takeUnretainedValue().admits(Int(growth)) ? 1 : 0
    }
  }

  /// The memory that was refused last, as an error.
  var shortage: LuaLimit { .memory(wanted: Int(ql_wanted(L)), held: byteCount) }

  /// Bytes of Lua's heap.
  package var byteCount: Int { Int(ql_held(L)) }

  /// Whether the running native function has taken more memory for Lua values than it may: it is to end, and what it
  /// returns is dropped.
  package var isShort: Bool { ql_is_short(L) != 0 }

  /// - Throws: `LuaLimit.memory` where `isShort`.
  package func checkMemory() throws {
    if isShort { throw shortage }
  }

  /// Called before a native function takes memory of its own for values of Lua.
  /// - Throws: `LuaLimit.memory` when the process may not grow so much.
  package func require(_ byteCount: Int) throws {
    guard reserves(byteCount) else { throw shortage }
  }

  /// The same for code that cannot throw: the native function ends in the error when it returns.
  func reserves(_ byteCount: Int) -> Bool { !isShort && ql_reserve(L, Int64(byteCount)) != 0 }

  /// Ends the program with an error after so many instructions of the virtual machine.
  package func limitInstructions(_ count: Int) { ql_limit_instructions(L, Int64(count)) }

  /// Leaves of Lua's libraries what opens no file that `allows` refuses, runs no other program and has no finalizers.
  /// To be called before any Lua code runs.
  package func restrict(_ allows: @escaping (_ path: String, _ use: LuaFileUse) -> Bool) {
    self.allows = allows
    ql_install_sandbox(L) { context, path, use in
      guard let context, let path, let text = String(validatingCString: path) else { return 0 }
      let kind: LuaFileUse = use == QL_READS ? .read : use == QL_WRITES ? .write : .entry
      return Unmanaged<LuaState>.fromOpaque(context).takeUnretainedValue().allows(text, kind) ? 1 : 0
    }
  }

  /// Gives what the heap of the process has free back to the machine.
  package static func trimHeap() { ql_trim_heap() }

  /// Ctrl-C handling, safe in a signal handler.
  /// - Returns: how many interrupts nobody has taken yet, this one included.
  @discardableResult
  package static func interrupt() -> Int { Int(ql_interrupt()) }

  /// While polling, the first interrupt is left to `takeInterrupt`.
  package static func setPolling(_ polls: Bool) { ql_set_polling(polls ? 1 : 0) }

  package static func takeInterrupt() -> Bool { ql_take_interrupt() != 0 }

  /// Forgets the interrupts so far: a prompt does before each statement.
  package static func forgetInterrupts() { ql_forget_interrupts() }

  /// Whether an interrupt is about to stop the running code; native functions that take long ask.
  package static var isStopping: Bool { ql_is_stopping() != 0 }

  /// Errors in chunks whose name starts with this are positioned at their caller.
  package static func setLibraryPrefix(_ prefix: String) { ql_set_library_prefix(prefix) }
}
