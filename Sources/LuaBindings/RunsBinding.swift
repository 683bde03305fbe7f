import Database
import Formats
import LuaRuntime
import Tensors

extension Database: LuaObject {
  package static var luaClassName: String { "Database" }
}

/// The small query interface under the index of runs.
extension Engine {
  var databaseClass: NativeClass {
    NativeClass(
      "Database", "A SQLite database.",
      properties: [
        NativeProperty("path", "string", "the file") { _, object in .string((object as? Database)?.path ?? "") }
      ],
      methods: [
        NativeFunction(
          "query", "Runs one SQL statement and returns its rows as tables by column; NULL is an absent key.",
          [
            Parameter("sql", .string, "one statement; ? stands for a value"),
            Parameter("values", .table, optional: true, "numbers, texts or booleans for the placeholders, in order"),
          ], returns: "table[]"
        ) { call in
          let database = try call.receiver(as: Database.self)
          let values = try (call["values"].asTable?.elements ?? []).map { try self.sqlValue($0, call) }
          Database.limitMemory(max(1 << 20, self.memoryLimit - self.program.presentByteCount(backend: 0)))
          let rows = try database.query(try call.string("sql"), values, require: call.state.require)
          return [.table(call.state.list(rows.map { .table(self.table($0, call.state)) }))]
        },
        NativeFunction("close", "Ends the connection; a second call does nothing.") { call in
          try call.receiver(as: Database.self).close()
          return []
        },
      ])
  }

  var runsModule: NativeModule {
    NativeModule(
      "Databases.",
      [
        NativeFunction(
          "open_database", "Opens a SQLite database, to read only unless asked otherwise.",
          [
            Parameter("path", .string, "the file"),
            Parameter(
              "options",
              .options([
                Parameter("write", .boolean, optional: true, "allow statements that change it"),
                Parameter("create", .boolean, optional: true, "write, and make the file when it does not exist"),
              ]), optional: true, "the options below"),
          ], returns: "Database", errors: "when there is no such file, or it is no database"
        ) { call in
          let options = call.options("options")
          let access: Database.Access =
            options.bool("create") == true ? .create : options.bool("write") == true ? .write : .read
          var path = try call.string("path")
          if path != ":memory:" {
            let existing = try self.placeToRead(path)
            path = access == .read ? existing : try self.placeToSave(path, tells: false)
            if path != existing, FileSystem.exists(existing) { try FileSystem.copy(existing, to: path) }
          }
          return [
            .object(
              try Database(
                path: path, access: access, allows: { FileGate.allows($0, $1 ? .write : .read) },
                isStopping: { LuaState.isStopping }))
          ]
        }
      ])
  }

  private func sqlValue(_ value: LuaValue, _ call: Call) throws -> SQLValue {
    if let problem = value.problemAsText("a value") { throw call.invalid(problem) }
    switch value {
    case .integer(let number): return .integer(number)
    case .number(let number): return .real(number)
    case .string(let text): return .text(text)
    case .bool(let flag): return .integer(flag ? 1 : 0)
    default: throw call.invalid("a value is a number, a text or a boolean, got \(value.typeName)")
    }
  }

  private func table(_ row: Database.Row, _ state: LuaState) -> LuaTable {
    let table = state.newTable()
    for (column, value) in row {
      table[column] =
        switch value {
        case .null: .nil
        case .integer(let number): .integer(number)
        case .real(let number): .number(number)
        case .text(let text): .string(text)
        }
    }
    return table
  }
}
