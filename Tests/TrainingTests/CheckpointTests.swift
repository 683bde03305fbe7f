import Adapters
import CPUBackend
import Foundation
import Models
import Optimizers
import Tensors
import Testing

@testable import Formats
@testable import Training

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/models").path

/// A model with adapters and an optimizer, as a recipe would make them anew to go on.
private struct Setup {
  var quantization = FourBitKind.nf4
  var block = 64
  var double = true
  var names = ["self_attn.q_proj", "mlp.up_proj"]
  var lora = LoRA(rank: 4, alpha: 8, dropout: 0.1)
  var rule = OptimizerRule.adamW
  var numbers: [String: [Float]] = [:]
  var rate: Float = 0.01
  var sample: [Int32] = [1, 2, 3, 4]
  var loop: JSON = ["seed": 1, "batch": 8]

  func make() throws -> (model: LanguageModel, optimizer: Optimizer, identity: RunIdentity) {
    let options = LoadOptions(
      quantization: quantization, blockSize: block, doubleQuantization: double, computeType: .f32)
    let model = try ModelLoader(backend: CPUBackend(threadCount: 1), options: options).load("\(fixtures)/tied")
    try model.attach(
      model.modules.filter { module in names.contains { module.name.hasSuffix($0) } }.map { ($0.name, lora) })
    let optimizer = try Optimizer(
      model.trainableParameters.map { OptimizedParameter(name: $0.name, tensor: $0.tensor) },
      OptimizerOptions(rule, learningRate: rate, numbers))
    let samples = Samples(for: model)
    _ = try samples.append(sample, trained: [1..<4])
    return (model, optimizer, try RunIdentity(model, optimizer.options, samples, loop: loop.object ?? JSONObject()))
  }

  func save() throws -> String {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    let made = try make()
    try made.model.loss(Batch([([1, 2, 3, 4], nil)])).backward()
    try made.optimizer.step()
    try TrainingCheckpoint.save(
      path, model: made.model, optimizer: made.optimizer, identity: made.identity, state: ["step": 1])
    return path
  }

  @discardableResult
  func load(_ path: String, accepting: Set<String> = []) throws -> TrainingCheckpoint.Restored {
    let made = try make()
    return try TrainingCheckpoint.load(
      path, model: made.model, optimizer: made.optimizer, identity: made.identity, accepting: accepting)
  }
}

@Suite struct CheckpointTests {
  /// One change each, and the names under which it is told.
  private static let changes: [(names: Set<String>, change: @Sendable (inout Setup) -> Void)] = [
    (["data.sha256"], { $0.sample = [1, 2, 3, 5] }),
    (["data.tokens", "data.sha256"], { $0.sample = [1, 2, 3, 4, 5] }),
    (["base.quant", "base.weights"], { $0.quantization = .fp4 }),
    (["base.block", "base.weights"], { $0.block = 128 }),
    (["base.double_quant", "base.weights"], { $0.double = false }),
    (["alpha", "scaling"], { $0.lora.alpha = 16 }),
    (["scaling"], { $0.lora.rankStabilised = true }),
    (["dropout"], { $0.lora.dropout = 0.2 }),
    (["lr_factor"], { $0.lora.learningRateFactor = 2 }),
    (["rank", "scaling"], { $0.lora.rank = 8 }),
    (["model.layers.0.mlp.up_proj"], { $0.names.removeLast() }),
    (["model.layers.0.self_attn.k_proj"], { $0.names.append("self_attn.k_proj") }),
    (["optimizer.kind", "optimizer.betas", "optimizer.eps"], { $0.rule = .lion }),
    (["optimizer.weight_decay"], { $0.numbers = ["weight_decay": [0.5]] }),
    (["optimizer.betas"], { $0.numbers = ["betas": [0.8, 0.999]] }),
    (["lr"], { $0.rate = 0.02 }),
    (["seed"], { $0.loop = ["seed": 2, "batch": 8] }),
    (["batch"], { $0.loop = ["seed": 1] }),
  ]

  @Test(arguments: changes.indices) func whatDecidesTheRunIsNamedWhenItChanged(index: Int) throws {
    let (names, change) = Self.changes[index]
    let path = try Setup().save()
    try Setup().load(path)
    var other = Setup()
    change(&other)
    let error = #expect(throws: TrainingError.self) { try other.load(path) }
    guard case .changed(path, let differences, let unfit)? = error else {
      Issue.record("\(error as Any)")
      return
    }
    let found = differences.map { $0.path[0] == "adapters" ? $0.path[$0.path.count - 1] : $0.name }
    for name in names { #expect(found.contains { $0 == name }, "\(found)") }
    let others = found.filter { name in
      !names.contains(name) && !names.contains { name.split(separator: ".").last == $0.split(separator: ".").last }
    }
    #expect(others.isEmpty, "\(found)")
    // Each difference is in the text, and accepting what it belongs to leaves none.
    let text = try #require(error).description
    #expect(text.contains(" was ") && text.contains(" now"), "\(text)")
    let parts = Set(differences.map { $0.path[0] })
    if unfit.isEmpty {
      #expect(try other.load(path, accepting: parts).changes == differences)
    } else {
      // What no one can accept is the same error where it is accepted.
      #expect(throws: TrainingError.changed(checkpoint: path, differences, unfit: unfit)) {
        try other.load(path, accepting: parts)
      }
      #expect(text.contains("does not fit other \(unfit[0])"))
    }
    let fits = names.isDisjoint(with: ["rank", "optimizer.kind"]) && !names.contains { $0.contains("layers.0") }
    #expect(unfit.isEmpty == fits, "\(names)")
    try FileManager.default.removeItem(atPath: path)
  }

  @Test func anUnknownNameIsNotAccepted() throws {
    let path = try Setup().save()
    #expect(throws: TrainingError.self) { try Setup().load(path, accepting: ["sedd"]) }
    #expect(try Setup().load(path, accepting: ["seed"]).changes.isEmpty)
    try FileManager.default.removeItem(atPath: path)
  }

  /// What is checked behind the checksums, for files that were changed together with them.
  @Test func fieldsAndTensorsOfAnotherKindAreNamed() throws {
    let path = try Setup().save()
    let state = path + "/state.json"
    let whole = try String(contentsOfFile: state, encoding: .utf8)
    let changes: [(field: String, value: JSON?)] = [
      ("optimizer_step", .int(.max)), ("optimizer_step", -1), ("optimizer_step", "1"), ("optimizer_step", nil),
      ("dropout_step", .int(.max)), ("dropout_step", 1e300), ("seed", "-1"), ("seed", 7), ("format", 1),
      ("identity", []), ("loop", nil),
    ]
    for (field, value) in changes {
      var content = try #require(try JSON.parse(Array(whole.utf8), path: state).object)
      content[field] = value
      try JSON.object(content).text().write(toFile: state, atomically: false, encoding: .utf8)
      #expect(throws: FormatError.checksum(path: state, list: "SHA256SUMS")) { try Setup().load(path) }
      try Checksums.write(path)
      let error = #expect(throws: FormatError.self) { try Setup().load(path) }
      guard case .badField(state, field, _, _)? = error else {
        Issue.record("\(field) = \(value as Any): \(error as Any)")
        continue
      }
      try whole.write(toFile: state, atomically: false, encoding: .utf8)
    }
    try Checksums.write(path)
    try Setup().load(path)

    let weights = path + "/trained.safetensors"
    let setup = try Setup().make()
    func rewrite(_ dtype: DType, extra: Bool) throws {
      var items = try setup.model.trainableParameters.map { name, tensor in
        let bytes = try tensor.converted(to: dtype, category: .workspace).withHostBytes { Array($0) }
        return SafetensorsWriter.Item(name: name, dtype: dtype, shape: tensor.shape, bytes: bytes)
      }
      if extra { items.append(.init(name: "extra", dtype: .f32, shape: [1], bytes: [0, 0, 0, 0])) }
      try SafetensorsWriter.write(path: weights, items)
      try Checksums.write(path)
    }
    let first = try #require(setup.model.trainableParameters.first?.name)
    try rewrite(.bf16, extra: false)
    #expect(throws: FormatError.dtype(path: weights, tensor: first, expected: "f32", actual: "bf16")) {
      try Setup().load(path)
    }
    try rewrite(.f32, extra: true)
    #expect(throws: FormatError.unexpectedTensor(path: weights, tensor: "extra")) { try Setup().load(path) }
    try FileManager.default.removeItem(atPath: path)
  }

  @Test func aCheckpointReplacesAndRemovesNothingElse() throws {
    let made = try Setup().make()
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    func save() throws { try TrainingCheckpoint.save(path, model: made.model, optimizer: nil, state: [:]) }
    try "mine".write(toFile: path, atomically: true, encoding: .utf8)
    #expect(throws: FormatError.wrongKind(path: path, found: .file, wanted: .folder)) { try save() }
    try FileManager.default.removeItem(atPath: path)
    try save()
    try save()
    try "mine".write(toFile: path + "/notes.txt", atomically: true, encoding: .utf8)
    #expect(throws: FormatError.foreign(path: path, name: "notes.txt")) { try save() }
    #expect(try !TrainingCheckpoint.remove(path))
    #expect(try String(contentsOfFile: path + "/notes.txt", encoding: .utf8) == "mine")
    try FileManager.default.removeItem(atPath: path + "/notes.txt")
    // The adapter's folder may hold somebody's file, too.
    try "mine".write(toFile: path + "/adapter/README.md", atomically: true, encoding: .utf8)
    #expect(throws: FormatError.alreadyExists(path: path)) { try save() }
    #expect(try String(contentsOfFile: path + "/adapter/README.md", encoding: .utf8) == "mine")
    #expect(try !TrainingCheckpoint.remove(path))
    try FileManager.default.removeItem(atPath: path + "/adapter/README.md")
    #expect(try TrainingCheckpoint.remove(path) && !FileManager.default.fileExists(atPath: path))
  }

  @Test func anOptimizerTakesNoStepThatCannotBeCountedOn() throws {
    let optimizer = try Setup().make().optimizer
    let state = try optimizer.stateTensors()
    for step in [-1, Int.max] {
      #expect(throws: OptimizerError.self) { try optimizer.restore(from: state, stepCount: step) }
    }
    var more = state
    more["extra"] = state.values.first
    #expect {
      try optimizer.restore(from: more, stepCount: 7)
    } throws: { error in
      error as? OptimizerError
        == .stateMismatch(path: "state", what: "extra", expected: "absent", got: "present")
    }
    try optimizer.restore(from: state, stepCount: 7)
    #expect(optimizer.stepCount == 7)
  }
}
