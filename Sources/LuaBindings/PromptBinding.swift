import LuaRuntime

/// What the prompt asks of the program, and what the library asks of the prompt.
extension Engine {
  var promptModule: NativeModule {
    NativeModule(
      "The prompt.",
      [
        NativeFunction(
          "break_prompt",
          "A prompt inside a running step; true to go on, false to leave, at once false where no terminal is.",
          [Parameter("env", .table, "values that the statements see by name, and `run` for the journal")],
          returns: "boolean"
        ) { call in [.bool(try self.breakPrompt?(.table(try call.table("env"))) ?? false)] },
        NativeFunction(
          "read_line",
          "A line of standard input, edited with history where a terminal is; nil at the end, false after Ctrl-C.",
          [Parameter("prompt", .string, "text in front of it, shown on a terminal only")],
          returns: "string|false|nil"
        ) { call in
          let prompt = try call.string("prompt")
          if let read = self.readLine {
            switch read(prompt) {
            case .text(let line): return [.string(line)]
            case .interrupted: return [.bool(false)]
            case .end: return [.nil]
            }
          }
          return [Swift.readLine(strippingNewline: true).map { .string($0) } ?? .nil]
        },
        NativeFunction(
          "members", "Sorted names of the fields and of the methods of a class; nil when there is no such class.",
          [Parameter("class", .string, "Model, Tensor, …")], returns: "table|nil",
          example: "qlora.native.members('Tensor').fields"
        ) { call in
          let name = try call.string("class")
          guard let declared = self.classes.first(where: { $0.name == name }) else { return [.nil] }
          let table = call.state.newTable()
          let methods = call.state.metatable(name)["methods"].asTable?.pairs.compactMap(\.key.asString) ?? []
          for (key, names) in [("fields", declared.properties.map(\.name)), ("methods", methods)] {
            table[key] = .table(call.state.list(names.sorted().map { .string($0) }))
          }
          return [.table(table)]
        },
        NativeFunction(
          "methods", "The methods of a class by name, those that Lua added too; empty when there is no such class.",
          [Parameter("class", .string, "Model, Tensor, …")], returns: "table<string, function>",
          example: "assert(qlora.native.methods('Tensor').view)"
        ) { call in
          let name = try call.string("class")
          let table = call.state.newTable()
          guard self.classes.contains(where: { $0.name == name }) else { return [.table(table)] }
          for (key, method) in call.state.metatable(name)["methods"].asTable?.pairs ?? [] {
            if let name = key.asString { table[name] = method }
          }
          return [.table(table)]
        },
        NativeFunction(
          "classes", "Names of the bound classes.", returns: "string[]", example: "qlora.native.classes()"
        ) { call in [.table(call.state.list(self.classes.map { .string($0.name) }))] },
      ])
  }
}
