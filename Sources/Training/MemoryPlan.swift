import Autograd
import Models
import Optimizers
import Tensors

/// The step to be planned.
package struct PlanRequest: Sendable {
  /// Sequences of one forward pass, and tokens of each.
  package var microBatch: Int
  package var maxLength: Int
  /// Sequences of one optimizer step.
  package var batch: Int
  package var checkpointing: Bool
  /// Layers recomputed together when checkpointing.
  package var checkpointInterval: Int
  /// Whether what checkpointing keeps is in a file until the backward pass.
  package var offloads: Bool
  /// Whether the base stays on disk; layers are then recomputed.
  package var streams: Bool
  /// Runs of micro-batches that are summed apart, and the ranks that share them; see `GradientSum`.
  package var parts: Int
  package var ranks: Int
  /// Rule, bits and paging of the optimizer; its state is planned from them.
  package var optimizer: OptimizerOptions
  /// The variants that share the passes, each with a step of its own; none where the model is trained alone.
  package var together: [PlannedVariant] = []

  package init(
    microBatch: Int, maxLength: Int, batch: Int, checkpointing: Bool, checkpointInterval: Int = 1,
    offloads: Bool = false, streams: Bool = false, parts: Int = 1, ranks: Int = 1,
    optimizer: OptimizerOptions = OptimizerOptions(.adamW, learningRate: 0)
  ) {
    self.microBatch = microBatch
    self.maxLength = maxLength
    self.batch = batch
    self.checkpointing = checkpointing || streams
    self.checkpointInterval = streams ? 1 : checkpointInterval
    self.offloads = offloads
    self.streams = streams
    (self.parts, self.ranks) = (parts, ranks)
    self.optimizer = optimizer
  }

  /// Micro-batches of one step.
  package var microBatchCount: Int { (batch + microBatch - 1) / microBatch }
  /// Forward and backward passes of one step on one rank.
  var passCount: Int { (microBatchCount + ranks - 1) / ranks }
  /// Those of one part.
  var passesOfPart: Int { (microBatchCount + parts - 1) / parts }

  /// The steps of all that train, each as it is alone, with the number of its variant.
  fileprivate func alone(of model: LanguageModel) -> [(variant: Int, request: PlanRequest)] {
    guard !together.isEmpty else { return [(model.variant, self)] }
    return together.map { part in
      var request = self
      (request.microBatch, request.maxLength, request.batch) = (part.microBatch, part.maxLength, part.batch)
      (request.optimizer, request.together) = (part.optimizer, [])
      return (part.variant, request)
    }
  }
}

/// The step of one of several variants that share their passes.
package struct PlannedVariant: Sendable {
  package let variant, microBatch, maxLength, batch: Int
  let optimizer: OptimizerOptions

  package init(variant: Int, microBatch: Int, maxLength: Int, batch: Int, optimizer: OptimizerOptions) {
    (self.variant, self.microBatch, self.maxLength, self.batch) = (variant, microBatch, maxLength, batch)
    self.optimizer = optimizer
  }
}

/// Memory by category and by moment of a training step, disk, and arithmetic.
///
/// The step is rehearsed: the engine's own forward pass, backward pass and allocator run on a backend that computes
/// nothing (`Device.rehearse`), so a change of the engine changes the plan with it.
package struct MemoryPlan: Sendable {
  /// Parts of the peak; they add up to it.
  package private(set) var categories: [(name: String, bytes: Int)] = []
  /// What is in use at the highest point of each moment, without what the allocator keeps for reuse.
  package private(set) var moments: [(name: String, bytes: Int)] = []
  package private(set) var trainableCount = 0
  package private(set) var parameterCount = 0
  package private(set) var adapterByteCount = 0
  /// Bytes of optimizer state, in memory and on disk together.
  package private(set) var optimizerByteCount = 0
  /// Bytes of the spill files of a paged optimizer and of offloaded activations.
  package private(set) var spillByteCount = 0
  /// Bytes of one checkpoint: trained weights twice (once in PEFT's form) and optimizer state.
  package private(set) var checkpointByteCount = 0
  /// Bytes that a step reads of a streamed base, from the disk or the system's cache of it.
  package private(set) var streamedByteCount = 0
  /// The most that the passes hold of what they saved for the backward pass.
  package private(set) var activationByteCount = 0
  package private(set) var work = StepWork()

  /// The highest resident memory of the process.
  package private(set) var peak = 0
  package var diskBytes: Int { spillByteCount + checkpointByteCount }

  /// Plans the step `request` of `model`.
  /// - Parameters:
  ///   - model: may be header-only.
  ///   - request: the step.
  ///   - backend: a fresh one; its books are the result.
  ///   - programByteCount: what the process holds besides tensors, the mapped model file and kernel scratch.
  ///   - tokenizerByteCount: how much of that is the tokenizer, which is read after the weights.
  ///   - samplesByteCount: token ids of the data sets that are in memory.
  ///   - stage: plans this stage of the model; nil what it has.
  ///   - rehearses: whether the passes are gone through. Without them what follows from shapes is there: counts, disk
  ///     and work; the peak is that of loading.
  /// - Throws: what the rehearsed passes throw.
  package init(
    _ model: LanguageModel, _ request: PlanRequest, on backend: any RehearsalBackend, programByteCount: Int,
    tokenizerByteCount: Int = 0, samplesByteCount: Int = 0, stage: Int? = nil, rehearses: Bool = true
  ) throws {
    let rehearsal = try Rehearsal(of: model, streams: request.streams, stage: stage, on: backend)
    let twin = rehearsal.model
    // Messages between stages are on their way in copies: what is sent, what comes, and what comes as it was read.
    let message = request.microBatch * request.maxLength * model.spec.hiddenSize * model.computeType.byteCount
    let programByteCount = programByteCount + (twin.stage == nil ? 0 : 3 * message)
    let held = programByteCount + samplesByteCount
    let loading = programByteCount - tokenizerByteCount
    twin.checkpointing = request.checkpointing
    twin.checkpointInterval = request.checkpointInterval
    twin.activationStore = request.checkpointing && request.offloads ? ActivationStore() : nil
    parameterCount = model.modules.reduce(0) { $0 + $1.parameterCount }
    let steps = request.alone(of: twin)
    var (blocks, trained): ([Int], [Tensor]) = ([], [])
    for step in steps {
      try twin.enter(variant: step.variant)
      let tensors = twin.trainableParameters.map(\.tensor)
      let state = Optimizer.plannedState(tensors.map(\.elementCount), step.request.optimizer)
      count(twin, state, step.request)
      (blocks, trained) = (blocks + state.blocks, trained + tensors)
    }
    streamedByteCount = (steps.map(\.request.passCount).max() ?? 0) * rehearsal.streamedByteCount

    peak = loading + rehearsal.loadPeak
    categories = parts(backend, program: loading, samples: 0)
    guard rehearses else { return }
    var tensors: [String: Int] = [:]
    try rehearse(twin, steps, trained, blocks, on: backend) { moment, body in
      backend.resetResidentPeak()
      backend.memory.resetPeak()
      try body()
      tensors[moment] = max(tensors[moment] ?? 0, backend.memory.peak)
      let reached = held + rehearsal.fileByteCount + backend.peakResidentByteCount
      guard reached > peak else { return }
      peak = reached
      categories = parts(backend, program: programByteCount, samples: samplesByteCount)
    }
    activationByteCount = backend.memory.highest(.activations)
    spillByteCount += twin.activationStore?.peakByteCount ?? 0
    let base = held + backend.scratchByteCount
    moments =
      [("load", loading + rehearsal.loadPeak)]
      + ["forward", "backward", "optimizer", "checkpoint"].map { ($0, base + (tensors[$0] ?? 0)) }
  }

  /// What follows from the shapes alone, of one variant.
  private mutating func count(_ twin: LanguageModel, _ state: (blocks: [Int], spilled: Int), _ request: PlanRequest) {
    trainableCount += twin.trainableParameters.reduce(0) { $0 + $1.tensor.elementCount }
    adapterByteCount += twin.heldModules.flatMap(\.adapters).reduce(0) { $0 + $1.byteCount }
    optimizerByteCount += state.spilled > 0 ? state.spilled : state.blocks.reduce(0, +)
    spillByteCount += state.spilled
    checkpointByteCount = 4 * trainableCount + adapterByteCount + optimizerByteCount
    work += StepWork(twin, request)
  }

  /// Runs the moments of two steps, each under `measure`: the second one finds the blocks that the first one left, and
  /// batches of other lengths leave others.
  private func rehearse(
    _ twin: LanguageModel, _ steps: [(variant: Int, request: PlanRequest)], _ trained: [Tensor],
    _ stateBlocks: [Int], on backend: any Backend,
    measure: (_ moment: String, _ body: () throws -> Void) throws -> Void
  ) throws {
    // A stage goes backward once as many micro-batches are on their way as there are stages after it.
    let ahead = twin.stage.map { min($0.count - $0.index, steps[0].request.microBatchCount) - 1 } ?? 0
    func pass(_ parts: [VariantPart]) throws {
      var flying: [StagePass] = []
      for _ in 0...ahead { try measure("forward") { flying.append(try StagePass(rehearsing: twin, parts)) } }
      for pass in flying {
        let seed = try Tensor(full: pass.output.shape, value: 1, dtype: pass.output.dtype, on: backend)
        try measure("backward") { try pass.output.backward(seed: seed) }
      }
    }
    func forget() { for tensor in trained { tensor.gradient = nil } }
    func parts(_ length: (Int) -> Int) throws -> [VariantPart] {
      try steps.map { step in
        let batch = try MemoryPlan.batch(step.request.microBatch, length(step.request.maxLength))
        return VariantPart(variant: step.variant, part: MicroBatch(batch))
      }
    }
    func block(_ elements: Int, _ category: MemoryCategory = .gradients) throws -> Tensor {
      try Tensor(empty: [max(elements, 1)], category: category, on: backend)
    }

    let (whole, short) = (try parts { $0 }, try parts { max(2, $0 * 3 / 4) })
    // Variants that share their passes have no parts.
    let (count, ranks) = (steps[0].request.parts, steps[0].request.ranks)
    let sum = GradientSum.planned(trained.map(\.elementCount), parts: count, ranks: ranks)
    let passCount = steps.map(\.request.passesOfPart).max() ?? 1
    // The last part of a step, and the sum of all: what then holds the gradients, nil where they stay where they are.
    func lastPart(passes: Int) throws -> Tensor? {
      let held = try count > 1 ? (0..<sum.held).map { _ in try block(sum.block) } : []
      for _ in 0..<passes { try pass(whole) }
      guard count > 1 else { return nil }
      var joined: Tensor?
      try measure("backward") { joined = try block(sum.block) }
      forget()
      try withExtendedLifetime(held) {
        if sum.room > 0 { try measure("backward") { _ = try block(sum.room, .workspace) } }
      }
      return joined
    }
    var joined = try lastPart(passes: passCount > 1 ? 2 : 1)
    var blocks: [Tensor] = []
    try measure("optimizer") {
      blocks = try stateBlocks.map { try Tensor(empty: [$0], dtype: .u8, category: .optimizer, on: backend) }
    }
    withExtendedLifetime(joined) {}
    joined = nil
    forget()
    try pass(short)
    if passCount == 1 { forget() }
    _ = try lastPart(passes: 1)
    try measure("checkpoint") {
      // The first stage has the adapters of all while it writes them.
      guard twin.stage?.isFirst ?? false else { return }
      _ = try block(twin.parametersElsewhere.reduce(0) { $0 + $1.elementCount }, .adapters)
    }
    withExtendedLifetime(blocks) {}
  }

  private static func batch(_ sequences: Int, _ length: Int) throws -> Batch {
    try Batch(Array(repeating: ([Int32](repeating: 0, count: length), nil), count: sequences))
  }

  /// What the peak consists of. The allocator's share is what it keeps for reuse and what rounding to size classes
  /// costs.
  private func parts(
    _ backend: any RehearsalBackend, program: Int, samples: Int
  ) -> [(name: String, bytes: Int)] {
    let memory = backend.memory
    let kept: [MemoryCategory] = [.weights, .file, .adapters, .gradients, .optimizer]
    let lasting = kept.map { (name: $0 == .file ? "model file" : $0.name, bytes: memory.live($0)) }
    let rest = peak - program - samples - backend.scratchByteCount - lasting.reduce(0) { $0 + $1.bytes }
    let passing = max(0, min(rest, memory.peak - lasting.reduce(0) { $0 + $1.bytes }))
    return lasting + [
      ("activations", passing), ("allocator", rest - passing),
      ("scratch", backend.scratchByteCount), ("program", program),
    ] + (samples > 0 ? [("samples", samples)] : [])
  }
}

/// A pass that is rehearsed; what would come from the stage before has its shape only.
private struct StagePass {
  let output: Tensor
  /// It must live until the backward pass.
  private let entry: GradientEntry?

  init(rehearsing twin: LanguageModel, _ parts: [VariantPart]) throws {
    let batch = parts[0].part.batch
    guard let stage = twin.stage else {
      (output, entry) = (try parts.count == 1 ? twin.loss(parts[0].part) : twin.losses(parts), nil)
      return
    }
    entry =
      stage.isFirst
      ? nil
      : GradientEntry(
        try Tensor(empty: [batch.tokenCount, twin.spec.hiddenSize], dtype: twin.computeType, on: twin.backend))
    output = try twin.pass(batch, from: entry?.tensor)
  }
}
