import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Optimizers

private let backend = CPUBackend(threadCount: 2)

private func values(_ count: Int, seed: UInt64) -> [Float] {
  var state = seed
  return (0..<count).map { _ in
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Float(Int64(bitPattern: state >> 40)) * 0x1p-23 - 1
  }
}

private func parameters(_ counts: [Int]) throws -> [OptimizedParameter] {
  try counts.enumerated().map { index, count in
    OptimizedParameter(
      name: "p\(index)", tensor: try Tensor(values(count, seed: UInt64(index) + 1), on: backend),
      learningRateFactor: index == 1 ? 0.5 : 1)
  }
}

private func giveGradients(_ parameters: [OptimizedParameter], step: Int) throws {
  for (index, parameter) in parameters.enumerated() {
    parameter.tensor.gradient = try Tensor(
      values(parameter.tensor.elementCount, seed: UInt64(1000 * step + index)), on: backend)
  }
}

private func bits(_ parameters: [OptimizedParameter]) throws -> [[UInt32]] {
  try parameters.map { try $0.tensor.floats().map(\.bitPattern) }
}

private func scratchDirectory() throws -> String {
  let path = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  return path
}

@Suite(.serialized) struct OptimizerTests {
  static let rules: [(OptimizerRule, Int)] = [(.adamW, 32), (.adamW, 8), (.lion, 32), (.lion, 8), (.sgd, 32)]

  /// A tensor that came twice would move twice as far, and a product that is no f32 make it NaN.
  @Test func aTensorComesOnceAndARateIsFinite() throws {
    let list = try parameters([8, 8])
    let again = OptimizedParameter(name: "again", tensor: list[0].tensor, learningRateFactor: 1)
    #expect(throws: OptimizerError.repeated(parameter: "again")) {
      try Optimizer(list + [again], OptimizerOptions(.sgd, learningRate: 0.01))
    }
    let steep = OptimizedParameter(name: "steep", tensor: list[0].tensor, learningRateFactor: 1e308)
    let optimizer = try Optimizer([steep], OptimizerOptions(.sgd, learningRate: 0.01))
    try giveGradients([steep], step: 1)
    let before = try bits([steep])
    #expect(throws: OptimizerError.self) { try optimizer.step() }
    #expect(try bits([steep]) == before)
  }

  @Test(arguments: 0..<rules.count)
  func pagedAndUnpagedGiveTheSameBits(index: Int) throws {
    let (rule, width) = Self.rules[index]
    let counts = [9000, 700, 20_000, 5000, 4096]
    let (left, right) = (try parameters(counts), try parameters(counts))
    var plain = OptimizerOptions(rule, learningRate: 0.01, bits: width, ["weight_decay": [0.1]])
    plain.pageElementCount = 2048
    let resident = try Optimizer(left, plain)
    var paging = plain
    paging.isPaged = true
    paging.budget = resident.stateByteCount / 4
    paging.spillDirectory = try scratchDirectory()
    let paged = try Optimizer(right, paging)
    for step in 1...10 {
      try giveGradients(left, step: step)
      try giveGradients(right, step: step)
      try resident.step(gradientScale: 0.7)
      try paged.step(gradientScale: 0.7)
      let pages = try #require(paged.statistics)
      #expect(pages.residentBytes <= paging.budget)
    }
    #expect(try bits(left) == bits(right))
    let pages = try #require(paged.statistics)
    #expect(pages.evictions > 0 && pages.bytesRead > 0 && pages.prefetched + pages.faults > 0)
    #expect(resident.statistics == nil)
  }

  /// Through a file, and through tensors as `optimizer:state()` of Lua.
  @Test(arguments: [true, false])
  func aSavedStateContinuesWithTheSameBits(throughFile: Bool) throws {
    let directory = try scratchDirectory()
    let one = try parameters([5000, 300])
    var options = OptimizerOptions(
      .adamW, learningRate: 0.01, bits: 8, isPaged: true, budget: 16_384, spillDirectory: directory)
    options.pageElementCount = 1024
    let whole = try Optimizer(one, options)
    for step in 1...3 {
      try giveGradients(one, step: step)
      try whole.step()
    }
    let two = try one.map {
      OptimizedParameter(
        name: $0.name, tensor: try $0.tensor.copied(), learningRateFactor: $0.learningRateFactor)
    }
    try SafetensorsWriter.write(path: directory + "/state.safetensors", whole.checkpointItems())
    let resumed = try Optimizer(two, options)
    if throughFile {
      try resumed.restore(
        from: try SafetensorsFile(path: directory + "/state.safetensors"), stepCount: whole.stepCount)
    } else {
      try resumed.restore(from: try whole.stateTensors(), stepCount: whole.stepCount)
    }
    for step in 4...6 {
      try giveGradients(one, step: step)
      try giveGradients(two, step: step)
      try whole.step()
      try resumed.step()
    }
    #expect(try bits(one) == bits(two))
    let other = try Optimizer(
      try parameters([5000]), OptimizerOptions(.lion, learningRate: 1))
    #expect(throws: OptimizerError.self) {
      try other.restore(from: try SafetensorsFile(path: directory + "/state.safetensors"), stepCount: 1)
    }
  }

  /// p, m and v by hand in double precision (Loshchilov and Hutter 2019, algorithm 2, as torch.optim.AdamW).
  @Test func adamWFollowsItsDefinition() throws {
    let list = try parameters([37])
    let optimizer = try Optimizer(
      list, OptimizerOptions(.adamW, learningRate: 0.05, ["weight_decay": [0.2]]))
    var p = try list[0].tensor.floats().map(Double.init)
    var m = [Double](repeating: 0, count: 37)
    var v = m
    for step in 1...5 {
      try giveGradients(list, step: step)
      let g = try #require(list[0].tensor.gradient).floats().map(Double.init)
      try optimizer.step()
      for i in p.indices {
        p[i] *= 1 - 0.05 * 0.2
        m[i] = 0.9 * m[i] + 0.1 * g[i]
        v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i]
        let (mHat, vHat) = (m[i] / (1 - pow(0.9, Double(step))), v[i] / (1 - pow(0.999, Double(step))))
        p[i] -= 0.05 * mHat / (vHat.squareRoot() + 1e-8)
      }
    }
    for (got, wanted) in zip(try list[0].tensor.floats(), p) { #expect(abs(Double(got) - wanted) < 2e-5) }
  }

  @Test func lionAndMomentumFollowTheirDefinitions() throws {
    let list = try parameters([21])
    let lion = try Optimizer(
      list, OptimizerOptions(.lion, learningRate: 0.01))
    var p = try list[0].tensor.floats()
    var m = [Float](repeating: 0, count: 21)
    for step in 1...4 {
      try giveGradients(list, step: step)
      let g = try #require(list[0].tensor.gradient).floats()
      try lion.step()
      for i in p.indices {
        let u = 0.9 * m[i] + 0.1 * g[i]
        p[i] -= 0.01 * (u > 0 ? 1 : u < 0 ? -1 : 0)
        m[i] = 0.99 * m[i] + 0.01 * g[i]
      }
    }
    for (got, wanted) in zip(try list[0].tensor.floats(), p) { #expect(abs(got - wanted) < 1e-5) }
  }

  /// Eight-bit state stays near 32-bit state, and an element that never had a gradient never moves.
  @Test func eightBitAdamWStaysClose() throws {
    let (wide, narrow) = (try parameters([8192]), try parameters([8192]))
    let exact = try Optimizer(wide, OptimizerOptions(.adamW, learningRate: 0.01))
    let coarse = try Optimizer(
      narrow, OptimizerOptions(.adamW, learningRate: 0.01, bits: 8))
    let still = try narrow[0].tensor.floats()[7]
    for step in 1...5 {
      for list in [wide, narrow] {
        try giveGradients(list, step: step)
        try list[0].tensor.gradient?.withMutableHostBytes { $0.bindMemory(to: Float.self)[7] = 0 }
      }
      try exact.step()
      try coarse.step()
    }
    let difference = try zip(wide[0].tensor.floats(), narrow[0].tensor.floats()).map { abs($0 - $1) }.max() ?? 1
    #expect(difference < 2e-2 && difference > 0)
    #expect(try narrow[0].tensor.floats()[7] == still)
    #expect(coarse.stateByteCount < exact.stateByteCount / 3)
  }

  @Test func impossibleOptionsAreNamed() throws {
    let list = try parameters([4096])
    #expect(throws: OptimizerError.badOption(name: "bits", value: "16", expected: "32 or 8")) {
      try Optimizer(list, OptimizerOptions(.adamW, learningRate: 1, bits: 16))
    }
    var options = OptimizerOptions(.adamW, learningRate: 1, isPaged: true, budget: 100)
    options.pageElementCount = 1024
    #expect(throws: OptimizerError.budgetTooSmall(budget: 100, minimum: 4096)) { try Optimizer(list, options) }
    options.budget = 20_000
    options.spillDirectory = "/nonexistent"
    #expect(
      throws: TensorError.spillFailed(
        content: .optimizerState, path: "/nonexistent", operation: .create, code: ENOENT)
    ) { try Optimizer(list, options) }
  }
}
