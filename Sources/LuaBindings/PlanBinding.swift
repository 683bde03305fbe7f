import LuaRuntime
import Models
import Optimizers
import Tensors
import Training

/// `model:plan`: what a training step will need, and what each lever would change.
extension Engine {
  var planMethods: [NativeFunction] {
    [
      NativeFunction(
        "plan_step",
        "Memory of a training step by category and moment, arithmetic, and time from a short calibration of this "
          + "machine; recipes use plan, which also compares the levers and prints.",
        [
          Parameter(
            "options",
            .options([
              Parameter("batch", .whole(1...1 << 20), "sequences of a step"),
              Parameter("length", .whole(1...1 << 20), "tokens of a sequence"),
              Parameter(
                "micro_batch", .whole(1...1 << 20), optional: true, "sequences of a forward pass; default batch"),
              Parameter(
                "checkpointing", .oneOf([.boolean, .count]), optional: true,
                "recompute layers, so many together; default as the model is set"),
              Parameter("offload", .boolean, optional: true, "kept inputs in a file; default as the model is set"),
              Parameter("stream", .boolean, optional: true, "leave the base on disk; default as the model is set"),
              Parameter("optimizer", .object("Optimizer"), optional: true, "for its state; default AdamW in 32 bits"),
              Parameter(
                "parts", .whole(1...65536), optional: true,
                "runs of micro-batches that are summed apart; default one a rank, of a pipeline one"),
              Parameter("bits", .integer, optional: true, "instead of the optimizer's"),
              Parameter("paged", .boolean, optional: true, "instead of the optimizer's"),
              Parameter("time", .boolean, optional: true, "estimate the time too; default true"),
              Parameter(
                "memory", .boolean, optional: true, "go through the passes; false leaves their memory out; default true"
              ),
              Parameter(
                "together", .rows(Self.togetherFields), optional: true,
                "the steps of variants that share their passes, instead of batch, length, micro_batch and optimizer"),
            ]), "the options below")
        ], returns: "table"
      ) { call in [try self.planTable(call)] }
    ]
  }

  /// The step of one variant.
  static let togetherFields = [
    Parameter("variant", .amount, "its number"),
    Parameter("batch", .whole(1...1 << 20), "sequences of a step"),
    Parameter("length", .whole(1...1 << 20), "tokens of a sequence"),
    Parameter("micro_batch", .whole(1...1 << 20), "sequences of a forward pass"),
    Parameter("optimizer", .object("Optimizer"), "for its state"),
  ]

  /// The variants of a plan, with what is asked of the optimizers of all.
  private func plannedVariants(_ call: Call, _ model: LanguageModel) throws -> [PlannedVariant] {
    let options = call.options("options")
    return try (options["together"].asTable?.elements ?? []).map { value in
      let row = try entry(value, Self.togetherFields, call)
      guard case .object(let object) = row["optimizer"], let optimizer = object as? OptimizerObject else {
        throw call.invalid("together: each row has an optimizer")
      }
      var settings = optimizer.options
      if let bits = options.int("bits"), settings.rule.widths.contains(bits) { settings.bits = bits }
      if let paged = options.bool("paged") { settings.isPaged = paged }
      let variant = PlannedVariant(
        variant: row.int("variant") ?? 0, microBatch: row.int("micro_batch") ?? 1, maxLength: row.int("length") ?? 1,
        batch: row.int("batch") ?? 1, optimizer: settings)
      try checkStep(variant.batch, variant.microBatch, variant.maxLength, model, call)
      return variant
    }
  }

  private func planTable(_ call: Call) throws -> LuaValue {
    let model = try call.receiver(as: LanguageModel.self)
    let request = try planRequest(call, model)
    let program = programByteCount(for: model)
    // Of a pipeline that is only planned the stage that needs most counts.
    let stages = model.isLoaded ? [nil] : (0..<(model.stage?.count ?? 1)).map { model.stage == nil ? nil : $0 }
    let plans = try stages.map { stage in
      try MemoryPlan(
        model, request, on: device(of: model).rehearse(model.backend), programByteCount: program,
        tokenizerByteCount: tokenizerByteCount(of: model), samplesByteCount: model.backend.memory.live(.samples),
        stage: stage, rehearses: call.options("options").bool("memory") ?? true)
    }
    guard let plan = plans.max(by: { $0.peak < $1.peak }) else { return .nil }
    let state = call.state
    func rows(_ list: [(name: String, bytes: Int)]) -> LuaValue {
      .table(
        state.list(
          list.map { row in
            let table = state.newTable()
            table["name"] = .string(row.name)
            table["bytes"] = .integer(row.bytes)
            return .table(table)
          }))
    }
    let table = state.newTable()
    table["categories"] = rows(plan.categories)
    table["moments"] = rows(plan.moments)
    for (name, value) in [
      ("peak", plan.peak), ("disk", plan.diskBytes), ("trainable", plan.trainableCount),
      ("parameters", plan.parameterCount), ("adapter_bytes", plan.adapterByteCount),
      ("optimizer_bytes", plan.optimizerByteCount), ("spill_bytes", plan.spillByteCount),
      ("streamed_bytes", plan.streamedByteCount), ("activation_bytes", plan.activationByteCount),
      ("checkpoint_bytes", plan.checkpointByteCount),
    ] {
      table[name] = .integer(value)
    }
    for (name, value) in [
      ("batch", request.batch), ("micro_batch", request.microBatch), ("length", request.maxLength),
      ("bits", request.optimizer.bits), ("parts", request.parts), ("ranks", request.ranks),
      ("stages", model.stage?.count ?? 1),
    ] {
      table[name] = .integer(value)
    }
    table["compute"] = .string(model.computeType.name)
    table["checkpointing"] =
      request.checkpointing && request.checkpointInterval > 1
      ? .integer(request.checkpointInterval) : .bool(request.checkpointing)
    table["offload"] = .bool(request.checkpointing && request.offloads)
    table["stream"] = .bool(request.streams)
    let others = request.optimizer.rule.widths.filter { $0 != request.optimizer.bits }
    table["other_bits"] = others.first.map { .integer($0) } ?? .nil
    table["paged"] = .bool(request.optimizer.isPaged)
    table["flops_per_step"] = .number(plan.work.flops)
    table["stream_asked"] = model.options.streams.map { .bool($0) } ?? .nil
    if call.options("options").bool("time") ?? true {
      let speed = try machineSpeed ?? MachineSpeed(model, on: backend)
      machineSpeed = speed
      // The slowest stage, and the time in which stages wait for the first and the last micro-batch.
      let (slowest, passes) = (plans.map { speed.seconds($0.work) }.max() ?? 0, Double(request.microBatchCount))
      table["seconds_per_step"] = .number(slowest * (passes + Double(model.stage?.count ?? 1) - 1) / passes)
    }
    return .table(table)
  }

  func device(of model: LanguageModel) -> Device {
    devices.first { $0.name == model.backend.name } ?? devices[0]
  }

  private func checkStep(
    _ batch: Int, _ microBatch: Int, _ length: Int, _ model: LanguageModel, _ call: Call
  ) throws {
    guard microBatch <= batch else {
      throw call.invalid("micro_batch (\(microBatch)) is larger than batch (\(batch)), the sequences of a whole step")
    }
    try checkPass(microBatch, of: length, model, call)
  }

  /// Refuses a pass of more tokens than are ever planned: their ids would be made before anything is counted.
  func checkPass(_ sequences: Int, of length: Int, _ model: LanguageModel, _ call: Call) throws {
    guard length <= model.spec.positionLimit else {
      throw ModelError.tooLong(tokens: length, limit: model.spec.positionLimit)
    }
    let (tokens, isTooLarge) = sequences.multipliedReportingOverflow(by: length)
    guard !isTooLarge, tokens <= 1 << 24 else {
      throw call.invalid("\(sequences) x \(length) tokens in one pass, expected at most \(1 << 24)")
    }
  }

  private func planRequest(_ call: Call, _ model: LanguageModel) throws -> PlanRequest {
    let options = call.options("options")
    let (batch, length) = (options.int("batch") ?? 1, options.int("length") ?? 1)
    let microBatch = options.int("micro_batch") ?? batch
    try checkStep(batch, microBatch, length, model, call)
    var settings = OptimizerOptions(.adamW, learningRate: 0)
    if case .object(let object) = options["optimizer"], let given = object as? OptimizerObject {
      settings = given.options
    }
    if let bits = options.int("bits") {
      let widths = settings.rule.widths
      guard widths.contains(bits) else {
        let offered = widths.sorted().map(String.init).joined(separator: " or ")
        throw call.invalid("bits is \(bits), expected \(offered)")
      }
      settings.bits = bits
    }
    if let paged = options.bool("paged") { settings.isPaged = paged }
    var (checkpointing, interval) = (model.checkpointing, model.checkpointInterval)
    if !options["checkpointing"].isNil {
      // What the run would refuse, unless the plan asks what another choice would mean.
      let streams = options["stream"].isNil && model.options.streams == true
      (checkpointing, interval) = try checkpointSettings(options["checkpointing"], model, streams: streams)
    }
    let streams = options.bool("stream") ?? (model.isLoaded ? model.stream != nil : model.options.streams ?? false)
    let ranks = model.stage == nil ? team.size : 1, parts = options.int("parts") ?? ranks
    guard parts % ranks == 0 else { throw TrainingError.partsOfRanks(parts: parts, ranks: ranks) }
    var request = PlanRequest(
      microBatch: microBatch, maxLength: length, batch: batch, checkpointing: checkpointing,
      checkpointInterval: interval, offloads: options.bool("offload") ?? (model.activationStore != nil),
      streams: streams, parts: parts, ranks: ranks, optimizer: settings)
    request.together = try plannedVariants(call, model)
    return request
  }

  /// Resident memory of this process that is neither tensors nor scratch nor model file, and what is still to come
  /// when only the header of the model was read.
  func programByteCount(for model: LanguageModel) -> Int {
    let now =
      program.byteCount(backend: backend.residentByteCount) + PlanConstants.heapByteCount
      + (team.size > 1 ? PlanConstants.messagesByteCount : 0)
    if model.isLoaded { return now }
    // The levers of one plan are compared on the same footing.
    let before = programByteCount ?? now
    programByteCount = before
    // The tokenizer is there where the data's lengths were counted with it.
    return before + (model.tokenizer == nil ? tokenizerByteCount(of: model) : 0)
  }

  /// What the tokenizer of a model takes: that which it has, or will have when it is loaded.
  func tokenizerByteCount(of model: LanguageModel) -> Int {
    let count = model.tokenizer?.vocabularySize ?? (model.isLoaded ? 0 : model.spec.vocabularySize)
    return PlanConstants.tokenizerByteCount * count
  }
}

/// What a plan knows of the program before it happens, measured on runs of Benchmarks/memory.
enum PlanConstants {
  /// Resident memory of a tokenizer per entry of its vocabulary.
  static let tokenizerByteCount = 470
  /// What comparing a written file with what it should be reads at once.
  static let checksumByteCount = 1 << 20
  /// Thread stacks and what a training loop adds to the heap.
  static let heapByteCount = 1 << 20
  /// What Open MPI 4 touches once large messages go over the memory that processes share.
  static let messagesByteCount = 11 << 20
}
