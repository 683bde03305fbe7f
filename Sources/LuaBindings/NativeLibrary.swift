import LuaRuntime
import Models

extension Engine {
  /// Everything that is bound, as declarations.
  package var classes: [NativeClass] {
    [
      tensorClass, quantizedClass, modelClass, moduleClass, mergedClass, optimizerClass, tokenizerClass, batchClass,
      samplesClass, hookClass, databaseClass, cacheClass, gradientSumClass, generatorClass,
      sequenceClass, serverClass, requestClass,
    ]
  }

  package var modules: [NativeModule] {
    [
      tensorModule, modelModule, optimizerModule, machineModule, checkpointModule, runsModule, ranksModule,
      promptModule, referenceModule, scratchModule, servingModule,
    ]
  }

  /// Installs the classes and makes `require "qlora.native"` give the functions.
  package func install(in state: LuaState) {
    state.limitMemory { [weak self] growth in self?.admitsLua(growth) ?? true }
    state.wording = { [weak state] error in
      state.flatMap { ForeignWords.words(for: error, in: $0) } ?? Remedy.words(for: error)
    }
    for declared in classes { state.install(declared) }
    let native = state.newTable()
    for module in modules { state.install(module, into: native) }
    native["version"] = .string(qloraVersion)
    native["untrained"] = .integer(Int(NextToken.untrained))
    native["options"] = .table(optionsTable(state))
    let loaded = state.globals["package"].asTable?["loaded"].asTable
    loaded?["qlora.native"] = .table(native)
  }

  private func optionsTable(_ state: LuaState) -> LuaTable {
    let table = state.newTable()
    let overrides = state.newTable()
    for (key, value) in options.overrides { overrides[key] = .string(value) }
    table["set"] = .table(overrides)
    if let resume = options.resume { table["resume"] = resume.isEmpty ? .bool(true) : .string(resume) }
    table["accept_changed"] = .table(state.list(options.acceptedChanges.map { .string($0) }))
    table["smoke"] = .bool(options.smoke)
    table["plan"] = .bool(options.plan)
    table["quiet"] = .bool(options.quiet)
    table["seed"] = options.seed.map { .integer($0) } ?? .nil
    table["memory"] = options.memoryLimit.map { .integer($0) } ?? .nil
    table["script"] = options.script.map { .string($0) } ?? .nil
    return table
  }
}
