import CPUBackend
import Tensors
import Testing

@testable import Autograd

/// Gradients that a leaf keeps instead of a copy, against plain rules, which hand nothing over.
struct HandedOverTests {
  private let backend = CPUBackend(threadCount: 1)

  private func tensor(_ shape: [Int], _ seed: UInt64) throws -> Tensor {
    let tensor = try Tensor(sample(shape, seed: seed).floats(), shape: shape, on: backend)
    tensor.requiresGradient = true
    return tensor
  }

  /// Gradients of two leaves p and q and of B, where A = `combine`(p, 2 q) and `passes` backward passes add up.
  private func gradients(
    isReference: Bool, passes: Int = 1, _ combine: (Tensor, Tensor) throws -> Tensor
  ) throws -> (leaves: [Tensor], values: [[Float]]) {
    let (x, weight) = (try tensor([9, 12], 1), try tensor([7, 12], 2).detached())
    let (p, q, b) = (try tensor([3, 12], 3), try tensor([3, 12], 4), try tensor([7, 3], 5))
    for _ in 0..<passes {
      // In this order, backward p is reached again after its first gradient has arrived, and before that of q.
      let two = try binary(.multiply, q, try Tensor([2], on: backend))
      let three = try binary(.multiply, p, try Tensor([3], on: backend))
      let branch = LowRank(a: try combine(p, two), b: b, scaling: 0.5)
      let y =
        isReference
        ? try branch.added(to: try matmul(x, try transpose(weight, 0, 1)), x)
        : try linear(x, .dense(weight), branch: branch, precision: .f32)
      try binary(.add, try reduce(.sum, y), try reduce(.sum, three)).backward()
    }
    return ([p, q, b], try [p, q, b].map { try $0.gradient?.floats() ?? [] })
  }

  private func compare(passes: Int = 1, _ combine: (Tensor, Tensor) throws -> Tensor) throws {
    let want = try gradients(isReference: true, passes: passes, combine).values
    let got = try gradients(isReference: false, passes: passes, combine)
    for (got, want) in zip(got.values, want) {
      #expect(got.count == want.count)
      for (got, want) in zip(got, want) { #expect(abs(got - want) <= 1e-4 * max(1, abs(want))) }
    }
    for leaf in got.leaves { #expect(leaf.gradient.map { $0.storage.category == .gradients } ?? true) }
  }

  @Test func aLeafKeepsTheFirstAndAddsTheNext() throws {
    for passes in 1...3 { try compare(passes: passes) { p, _ in p } }
  }

  /// The rule of a sum hands one gradient to both sides: the leaf must not keep what the other still reads.
  @Test func whatPassesThroughAnotherRuleIsCopied() throws {
    for passes in 1...2 { try compare(passes: passes) { p, q in try binary(.add, p, q) } }
  }

  /// Views of one block: what is added to one leaf leaves the others alone.
  @Test func layersThatShareTheirInputKeepPartsOfOneBlock() throws {
    let x = try tensor([5, 12], 1)
    let leaves = try (0..<4).map { try tensor($0 % 2 == 0 ? [3, 12] : [7, 3], UInt64(10 + $0)) }
    let layers = try (0..<2).map {
      LinearLayer(
        weight: .dense(try tensor([7, 12], UInt64(20 + $0)).detached()),
        branch: LowRank(a: leaves[2 * $0], b: leaves[2 * $0 + 1], scaling: 1))
    }
    func pass() throws {
      let outputs = try linear(x, layers, precision: .f32)
      try binary(.add, try reduce(.sum, outputs[0]), try reduce(.sum, outputs[1])).backward()
    }
    try pass()
    let first = try leaves.map { try #require($0.gradient).floats() }
    #expect(leaves[0].gradient?.storage === leaves[2].gradient?.storage)
    try pass()
    for (leaf, first) in zip(leaves, first) {
      #expect(try #require(leaf.gradient).floats() == first.map { 2 * $0 })
    }
  }
}
