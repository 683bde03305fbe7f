import Formats
import LuaRuntime
import Tensors

/// What a stranger's program may take.
package struct Confinement: Sendable {
  /// Files and folders that may be read, and those that may be written, too.
  package var reading: [String]
  package var writing: [String]
  /// Instructions of Lua's virtual machine, and bytes of its heap.
  package var instructions: Int
  package var luaMemory: Int

  package init(reading: [String], writing: [String], instructions: Int, luaMemory: Int) {
    self.reading = reading
    self.writing = writing
    self.instructions = instructions
    self.luaMemory = luaMemory
  }
}

extension Engine {
  /// Confines the process and the interpreter for good; to be called after `install` and before any Lua code runs.
  package func confine(_ state: LuaState, to bounds: Confinement) {
    isConfined = true
    // A link of that name, which a stranger's folder may bring along, would open what it leads to.
    let scratch = (try? scratch()).map(\.root).flatMap { FileSystem.isLink($0) ? nil : $0 }
    // Keeps to itself what the next lines take from everybody else.
    if let upvalues = try? state.load(Array("require 'qlora.upvalues'".utf8), chunkName: "=confine") {
      _ = try? upvalues.call([])
    }
    FileGate.close(
      FileRules(
        reading: bounds.reading + ["stdlib", "recipes", "models"].map { "\(resourceRoot)/\($0)" },
        writing: bounds.writing + (scratch.map { [$0] } ?? []), spilling: spillDirectory))
    state.restrict { path, use in
      let use: FileUse =
        switch use {
        case .read: .read
        case .write: .write
        case .entry: .entry
        }
      return FileGate.allows(path, use)
    }
    state.limitMemory { [weak self, weak state] growth in
      guard let self, let state else { return true }
      return growth <= bounds.luaMemory - state.byteCount && self.admitsLua(growth)
    }
    state.limitInstructions(bounds.instructions)
  }
}
