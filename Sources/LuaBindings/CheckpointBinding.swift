import Formats
import LuaRuntime
import Models
import Training

extension Engine {
  /// What decides a run besides model and optimizer, in `save_checkpoint` and `load_checkpoint`.
  private static let decidingFields = [
    Parameter("samples", .object("Samples"), optional: true, "what is trained on"),
    Parameter("loop", .table, optional: true, "what the loop decides by, by name: { seed = 1, batch = 16 }"),
  ]

  /// Checkpoints, and the directory of a run, which one program at a time writes.
  var checkpointModule: NativeModule {
    let directory = Parameter("directory", .string, "checkpoint directory")
    let place = Parameter("directory", .string, "an existing directory")
    return NativeModule(
      "Checkpoints and run directories.",
      [
        NativeFunction(
          "save_checkpoint", "Writes a checkpoint, complete or not at all.",
          [
            directory,
            Parameter(
              "content",
              .options(
                [
                  Parameter("model", .object("Model"), "its trained parameters"),
                  Parameter("optimizer", .object("Optimizer"), optional: true, "its state"),
                  Parameter("state", .table, "what the loop needs to go on"),
                ] + Self.decidingFields), "the options below"),
          ], errors: "when something else has this name, or the disk is full"
        ) { call in
          let content = call.options("content")
          guard case .object(let object) = content["model"], let model = object as? LanguageModel else { return [] }
          let optimizer = self.optimizer(content["optimizer"])
          try TrainingCheckpoint.save(
            try self.placeToSave(try call.string("directory")), model: model, optimizer: try optimizer?.optimizer(),
            identity: try self.identity(call, model, optimizer, content),
            state: try call.state.json(content["state"], function: "save_checkpoint"), ranks: self.stages(of: model))
          return []
        },
        NativeFunction(
          "load_checkpoint",
          "Restores a checkpoint. Returns the loop's state, and what decides the run and is not what it was: a list of "
            + "{ name =, was =, now = }.",
          [
            directory,
            Parameter("model", .object("Model"), "with the same adapters"),
            Parameter("optimizer", .object("Optimizer"), optional: true, "of the same kind"),
            Parameter(
              "options",
              .options(
                Self.decidingFields + [
                  Parameter("accept", .table, optional: true, "names whose change is no error, such as \"lr\"")
                ]), optional: true, "the options below"),
          ], returns: "table, table[]",
          errors: "when the checkpoint is damaged, or what decides the run is not what it was"
        ) { call in
          let (given, optimizer) = (call.options("options"), self.optimizer(call["optimizer"]))
          let model = try call.object("model", as: LanguageModel.self)
          let accepted = try given["accept"].asTable.map { try call.strings($0, "accept") } ?? []
          let restored = try TrainingCheckpoint.load(
            try self.placeToRead(try call.string("directory")), model: model, optimizer: try optimizer?.optimizer(),
            identity: try self.identity(call, model, optimizer, given), accepting: Set(accepted),
            ranks: self.stages(of: model))
          let changes = restored.changes.map { self.table($0, call.state) }
          return [call.state.value(restored.state), .table(call.state.list(changes.map { .table($0) }))]
        },
        NativeFunction(
          "verify_checkpoint", "Compares every file of a checkpoint with its checksum.", [directory],
          errors: "for a damaged checkpoint, naming the file"
        ) { call in
          try TrainingCheckpoint.verify(try self.placeToRead(try call.string("directory")))
          return []
        },
        NativeFunction(
          "remove_checkpoint", "Deletes a checkpoint, unless it holds other files too; returns whether it did.",
          [directory], returns: "boolean"
        ) { call in
          let directory = try self.placeToRead(try call.string("directory"))
          return [.bool(try self.mayChange(directory) && TrainingCheckpoint.remove(directory))]
        },
        NativeFunction(
          "run_identity", "What decides a run besides the state of a checkpoint, as text by name.",
          [
            Parameter("model", .object("Model"), "with its adapters"),
            Parameter("optimizer", .object("Optimizer"), optional: true, "its rule and numbers"),
            Parameter("options", .options(Self.decidingFields), optional: true, "the options below"),
          ], returns: "table"
        ) { call in
          let model = try call.object("model", as: LanguageModel.self)
          let identity = try self.identity(call, model, self.optimizer(call["optimizer"]), call.options("options"))
          let table = call.state.newTable()
          for (name, value) in identity.values { table[name] = .string(value.text()) }
          return [.table(table)]
        },
        NativeFunction(
          "lock_directory",
          "Takes a directory for this program, until it ends or unlocks it. Returns false and who has it where another "
            + "program does.", [place], returns: "boolean, string|nil"
        ) { call in
          let directory = try self.placeToRead(try call.string("directory"))
          guard FileSystem.isDirectory(directory) else { throw call.invalid("\(directory) is no directory") }
          guard try self.mayChange(directory) else { return [.bool(true)] }
          do {
            // A directory of that name may be another than the one that was locked.
            if self.locks[directory]?.place(Self.lock(directory)) != .here {
              self.locks[directory] = try FileLock(path: Self.lock(directory))
            }
            return [.bool(true)]
          } catch FormatError.locked(_, let owner) {
            return [.bool(false), .string(owner)]
          }
        },
        NativeFunction("unlock_directory", "Gives a locked directory back.", [place]) { call in
          self.locks[try self.placeToRead(try call.string("directory"))] = nil
          return []
        },
        NativeFunction(
          "locked_place", "The path of a locked directory, also when it was moved; nil when it was removed.", [place],
          returns: "string|nil"
        ) { call in
          let directory = try self.placeToRead(try call.string("directory"))
          guard let lock = self.locks[directory] else { return [.nil] }
          switch lock.place(Self.lock(directory)) {
          case .here: return [.string(directory)]
          case .removed:
            self.locks[directory] = nil
            return [.nil]
          case .moved(let path):
            let now = String(path.dropLast(Self.lock("").count))
            self.locks[directory] = nil
            self.locks[now] = lock
            return [.string(now)]
          }
        },
      ])
  }

  private static func lock(_ directory: String) -> String { directory + "/lock" }

  private func optimizer(_ value: LuaValue) -> OptimizerObject? {
    if case .object(let object) = value { object as? OptimizerObject } else { nil }
  }

  private func identity(
    _ call: Call, _ model: LanguageModel, _ optimizer: OptimizerObject?, _ given: Options
  ) throws -> RunIdentity {
    var samples: Samples?
    if case .object(let object) = given["samples"] { samples = object as? Samples }
    let loop = try call.state.json(given["loop"], function: call.function).object
    if let name = loop?.keys.first(where: { RunIdentity.parts.contains($0) }) {
      throw call.invalid("loop.\(name) has the name of something else that decides a run")
    }
    return try RunIdentity(
      model, optimizer?.options, samples, loop: loop ?? JSONObject(), ranks: stages(of: model))
  }

  private func table(_ difference: RunIdentity.Difference, _ state: LuaState) -> LuaTable {
    let table = state.newTable()
    table["name"] = .string(difference.name)
    table["was"] = .string(RunIdentity.Difference.short(difference.was))
    table["now"] = .string(RunIdentity.Difference.short(difference.now))
    return table
  }
}
