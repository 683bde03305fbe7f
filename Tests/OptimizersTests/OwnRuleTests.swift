import CPUBackend
import Formats
import Foundation
import Optimizers
import Synchronization
import Tensors
import Testing

/// Adagrad (Duchi et al. 2011) in plain operations of the backend.
private let adagrad = OptimizerRule(
  name: "adagrad", title: "Adagrad", summary: "The gradient over the root of the sum of its squares.",
  hyperparameters: [
    .learningRate, Hyperparameter("eps", defaults: [1e-10], range: .positive, "what is added to the root"),
  ],
  moments: [Moment("sum", .unsigned)],
  kernels: [
    OptimizerKernel { update in
      let backend = update.backend
      let gradient = try Tensor(full: update.gradient.shape, value: 0, on: backend)
      try backend.accumulate(update.gradient, scale: update.gradientScale, into: gradient, scale: 0)
      let root = try Tensor(empty: gradient.shape, on: backend)
      try backend.unary(.square, gradient, into: root)
      try backend.accumulate(root, scale: 1, into: update.state[0], scale: 1)
      try backend.unary(.sqrt, update.state[0], into: root)
      let epsilon = try Tensor([try update.number("eps")], on: backend)
      let divisor = try Tensor(empty: gradient.shape, on: backend)
      try backend.binary(.add, root, epsilon, into: divisor)
      let direction = try Tensor(empty: gradient.shape, on: backend)
      try backend.binary(.divide, gradient, divisor, into: direction)
      try backend.accumulate(direction, scale: -update.learningRate, into: update.parameter, scale: 1)
    }
  ])

/// The sign of the gradient alone: a rule without state.
private let signDescent = OptimizerRule(
  name: "sign", title: "Sign", summary: "A step of lr against the sign of the gradient.",
  hyperparameters: [.learningRate], moments: [],
  kernels: [
    OptimizerKernel { update in
      let sign = try Tensor(empty: update.gradient.shape, on: update.backend)
      try update.backend.unary(.sign, update.gradient, into: sign)
      try update.backend.accumulate(sign, scale: -update.learningRate, into: update.parameter, scale: 1)
    }
  ])

/// A rule that the engine does not know is a value: paging, checkpoints and the plan work with it.
@Suite struct OwnRuleTests {
  private let backend = CPUBackend(threadCount: 2)
  private let counts = [9000, 700, 20_000, 5000]

  private func parameters() throws -> [OptimizedParameter] {
    try counts.enumerated().map { index, count in
      let values = (0..<count).map { (i: Int) -> Float in Float((i * 37 + index) % 101) / 101 - 0.5 }
      return OptimizedParameter(name: "p\(index)", tensor: try Tensor(values, on: backend))
    }
  }

  /// The gradient of half the squared distance to 0.25.
  private func giveGradients(_ parameters: [OptimizedParameter]) throws {
    for parameter in parameters {
      parameter.tensor.gradient = try Tensor(try parameter.tensor.floats().map { $0 - 0.25 }, on: backend)
    }
  }

  private func bits(_ parameters: [OptimizedParameter]) throws -> [[UInt32]] {
    try parameters.map { try $0.tensor.floats().map(\.bitPattern) }
  }

  private func distance(_ parameters: [OptimizedParameter]) throws -> Float {
    try parameters.map { try $0.tensor.floats().map { abs($0 - 0.25) }.max() ?? 0 }.max() ?? 0
  }

  @Test func anOwnRuleTrainsPagedAndResumed() throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let (left, right) = (try parameters(), try parameters())
    let resident = try Optimizer(left, OptimizerOptions(adagrad, learningRate: 0.1))
    #expect(resident.stateByteCount >= counts.reduce(0, +) * 4)
    let paging = OptimizerOptions(
      adagrad, learningRate: 0.1, isPaged: true, budget: resident.stateByteCount / 4, spillDirectory: directory)
    let paged = try Optimizer(right, paging)
    let start = try distance(left)
    var sums = counts.map { [Double](repeating: 0, count: $0) }
    for _ in 1...3 {
      try giveGradients(left)
      try giveGradients(right)
      let (old, gradient) = (try left[1].tensor.floats(), try #require(left[1].tensor.gradient).floats())
      try resident.step(gradientScale: 0.5)
      try paged.step(gradientScale: 0.5)
      for (i, new) in try left[1].tensor.floats().enumerated() {
        let g = Double(gradient[i]) / 2
        sums[1][i] += g * g
        let wanted = Double(old[i]) - 0.1 * g / (sums[1][i].squareRoot() + 1e-10)
        #expect(abs(Double(new) - wanted) < 1e-6)
      }
    }
    #expect(try bits(left) == bits(right))
    #expect(try #require(paged.statistics).bytesRead > 0)

    // Saved from pages, resumed in pages and in memory.
    let path = directory + "/state.safetensors"
    try SafetensorsWriter.write(path: path, paged.checkpointItems())
    let file = try SafetensorsFile(path: path)
    #expect(file.entry("p2.sum")?.shape == [20_000])
    for options in [paging, OptimizerOptions(adagrad, learningRate: 0.1)] {
      let copy = try left.map { OptimizedParameter(name: $0.name, tensor: try $0.tensor.copied()) }
      let whole = try right.map { OptimizedParameter(name: $0.name, tensor: try $0.tensor.copied()) }
      let (resumed, witness) = (try Optimizer(copy, options), try Optimizer(whole, options))
      try resumed.restore(from: file, stepCount: 3)
      try witness.restore(from: try resident.stateTensors(), stepCount: 3)
      for _ in 4...6 {
        for (list, optimizer) in [(copy, resumed), (whole, witness)] {
          try giveGradients(list)
          try optimizer.step(gradientScale: 0.5)
        }
      }
      #expect(resumed.stepCount == 6)
      #expect(try bits(copy) == bits(whole))
      #expect(try distance(copy) < start)
    }
    for _ in 4...6 {
      try giveGradients(left)
      try resident.step(gradientScale: 0.5)
      try giveGradients(right)
      try paged.step(gradientScale: 0.5)
    }
    #expect(try bits(left) == bits(right))
    #expect(try distance(left) < 0.6 * start)
  }

  @Test func aRuleWithoutStateNeedsNone() throws {
    let list = try parameters()
    let options = OptimizerOptions(signDescent, learningRate: 0.125, isPaged: true, budget: 1)
    let optimizer = try Optimizer(list, options)
    #expect(try optimizer.checkpointItems().isEmpty)
    #expect(optimizer.stateByteCount == 0 && optimizer.statistics == nil)
    #expect(Optimizer.plannedState(counts, options).blocks.reduce(0, +) == 0)
    let old = try list[2].tensor.floats()
    try giveGradients(list)
    try optimizer.step()
    #expect(try list[2].tensor.floats() == old.map { $0 - 0.125 * ($0 > 0.25 ? 1 : -1) })
  }

  /// Parameters share a page: those before the one whose update threw are not moved twice.
  @Test(arguments: 0..<4) func aStepGoesOnWithTheUpdateThatThrew(failing: Int) throws {
    struct Failure: Error {}
    let calls = Atomic(0)
    let frail = OptimizerRule(
      name: "frail", title: "Frail", summary: "Adagrad of which one update fails.",
      hyperparameters: adagrad.hyperparameters, moments: adagrad.moments,
      kernels: [
        OptimizerKernel { update in
          if calls.add(1, ordering: .relaxed).oldValue == failing { throw Failure() }
          try adagrad.kernels[0].update(update)
        }
      ])
    let (left, right) = (try parameters(), try parameters())
    let plain = try Optimizer(left, OptimizerOptions(adagrad, learningRate: 0.1))
    let stopped = try Optimizer(right, OptimizerOptions(frail, learningRate: 0.1))
    try giveGradients(left)
    try giveGradients(right)
    try plain.step()
    #expect(throws: Failure.self) { try stopped.step() }
    #expect(throws: OptimizerError.unfinishedStep(1)) { try stopped.zeroGradients() }
    try stopped.step()
    #expect(stopped.stepCount == 1 && calls.load(ordering: .relaxed) == counts.count + 1)
    #expect(try bits(left) == bits(right))
  }

  @Test func optionsOfAnotherRuleAreNamed() throws {
    func error(_ options: OptimizerOptions) -> OptimizerError? {
      do {
        _ = try Optimizer(try parameters(), options)
        return nil
      } catch { return error as? OptimizerError }
    }
    let unknown = error(OptimizerOptions(adagrad, learningRate: 0.1, ["betas": [0.9, 0.9]]))
    #expect(unknown == .unknownOption(rule: "adagrad", name: "betas", known: ["lr", "eps"]))
    #expect(unknown?.description == "optimizer: adagrad has no option 'betas'; it has lr, eps")
    #expect(
      error(OptimizerOptions(.sgd, learningRate: 0.1, bits: 8))
        == .badOption(name: "bits", value: "8", expected: "32"))
  }
}

/// Every number of every rule has a range, and NaN and the infinities are in none.
@Suite struct RuleTests {
  @Test(arguments: OptimizerRule.all + [adagrad, signDescent])
  func everyNumberHasARange(rule: OptimizerRule) throws {
    #expect(rule.hyperparameters.contains { $0.name == "lr" && $0.defaults == nil })
    #expect(Set(rule.optionNames).count == rule.optionNames.count)
    #expect(rule.widths.contains(32))
    for hyperparameter in rule.hyperparameters {
      #expect(!hyperparameter.meaning.isEmpty)
      if let defaults = hyperparameter.defaults {
        #expect(
          defaults.count == hyperparameter.count && defaults.allSatisfy { hyperparameter.range.contains(Double($0)) })
      }
      for bad in [Float.nan, .infinity, -.infinity, -1, Float(hyperparameter.range.upper)] {
        for place in 0..<hyperparameter.count {
          var numbers = [Float](repeating: 0.5, count: hyperparameter.count)
          numbers[place] = bad
          let name = hyperparameter.count == 1 ? hyperparameter.name : "\(hyperparameter.name)[\(place + 1)]"
          #expect {
            try rule.values(["lr": [0.5]].merging([hyperparameter.name: numbers]) { $1 })
          } throws: { error in
            guard case OptimizerError.badOption(name, _, _) = error else { return false }
            return true
          }
        }
      }
      #expect(throws: OptimizerError.self) {
        try rule.values(["lr": [0.5]].merging([hyperparameter.name: [0.5, 0.5, 0.5]]) { $1 })
      }
    }
    #expect(
      throws: OptimizerError.badOption(name: "lr", value: "missing", expected: "a number above 0")
    ) { try rule.values([:]) }
    #expect(throws: OptimizerError.unknownOption(rule: rule.name, name: "beta", known: rule.optionNames)) {
      try rule.values(["lr": [1], "beta": [0.9]])
    }
  }

  @Test func aStepChecksItsNumbers() throws {
    let tensor = try Tensor([1, 2], on: CPUBackend(threadCount: 1))
    let optimizer = try Optimizer(
      [OptimizedParameter(name: "p", tensor: tensor)], OptimizerOptions(.adamW, learningRate: 1))
    for (bad, kind) in [(Double.nan, "number"), (.infinity, "finite number"), (-1, "number")] {
      #expect(
        throws: OptimizerError.badOption(name: "lr", value: "\(Float(bad))", expected: "a \(kind) of at least 0")
      ) { try optimizer.step(learningRate: bad) }
    }
    #expect(throws: OptimizerError.self) { try optimizer.step(gradientScale: .nan) }
    #expect(optimizer.stepCount == 0)
  }
}
