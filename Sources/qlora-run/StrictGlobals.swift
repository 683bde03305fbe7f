import Formats
import LuaBindings
import LuaRuntime

/// Undeclared globals are errors while a recipe runs: a misspelt name is the Lua form of an ignored option.
enum StrictGlobals {
  /// Reading or assigning a global that does not exist raises in the recipe's own file. Other files (modules of the Lua
  /// ecosystem) keep Lua's rules.
  static func install(in state: LuaState, script: String) {
    let globals = state.globals
    let metatable = state.newTable()
    let source = "@" + script
    guard let info = state.globals["debug"].asTable?["getinfo"].asFunction else { return }
    func isRecipe() -> Bool {
      // Level 2: behind getinfo (0) and this handler (1) stands the code that touched the global.
      guard let table = try? info.call([.integer(2), .string("S")]).first?.asTable else { return false }
      return table["source"].asString == source
    }
    func suggestion(_ name: String) -> String {
      if let foreign = ForeignWords.remedy(for: name, in: state) { return foreign }
      let names = globals.pairs.compactMap { $0.key.asString }
      return didYouMean(nearestName(to: name, among: names))
        + "; is it misspelt? Declare variables with local"
    }
    metatable["__index"] = state.function { _, arguments in
      let name = arguments.count > 1 ? arguments[1].asString ?? "?" : "?"
      guard isRecipe() else { return [.nil] }
      throw GlobalError(description: "undeclared global '\(name)'\(suggestion(name))")
    }
    metatable["__newindex"] = state.function { _, arguments in
      guard arguments.count > 2 else { return [] }
      let name = arguments[1].asString ?? "?"
      if isRecipe() {
        throw GlobalError(description: "assignment to undeclared global '\(name)'; write local \(name) = …")
      }
      globals[name] = arguments[2]
      return []
    }
    state.setMetatable(globals, metatable)
  }
}

struct GlobalError: Error, CustomStringConvertible {
  let description: String
}
