import LuaRuntime
import Tensors

/// Lua's heap is part of what `--memory` limits.
extension Engine {
  /// Whether Lua may take so many bytes more. Lua's memory comes and goes, so that what counts is what the process has
  /// now, and not its highest as for tensors.
  func admitsLua(_ growth: Int) -> Bool {
    if admits(growth, program.presentByteCount) { return true }
    // What Lua freed stays with the heap until it is asked for.
    LuaState.trimHeap()
    return admits(growth, program.presentByteCount)
  }

  private func admits(_ growth: Int, _ measure: (_ backend: Int) -> Int) -> Bool {
    // The first plan or tensor opens a backend; before that there is the program alone.
    guard let memory = openedMemory else { return growth <= memoryLimit - measure(0) }
    return memory.admits(growth, program: measure)
  }
}
