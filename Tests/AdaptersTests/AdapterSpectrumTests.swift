import CPUBackend
import Models
import Tensors
import Testing

@testable import Adapters

private let backend = CPUBackend(threadCount: 2)

private func adapter(_ a: [Float], _ b: [Float], rank: Int, alpha: Double) throws -> LowRank {
  LowRank(
    a: try Tensor(a, shape: [rank, a.count / rank], on: backend),
    b: try Tensor(b, shape: [b.count / rank, rank], on: backend), scaling: Float(alpha) / Float(rank))
}

private func random(_ rank: Int, _ input: Int, _ output: Int) throws -> LowRank {
  func values(_ count: Int, _ module: String) throws -> [Float] {
    let tensor = try Tensor(empty: [count], on: backend)
    try backend.fillNormal(
      tensor, mean: 0, deviation: 1, stream: RandomStream(seed: 7, purpose: "spectrum", step: count, module: module))
    return try tensor.floats()
  }
  return try adapter(values(rank * input, "a"), values(output * rank, "b"), rank: rank, alpha: 2 * Double(rank))
}

@Suite struct AdapterSpectrumTests {
  /// Rows of A and columns of B along axes: dW has known singular values.
  @Test func valuesOfADiagonalProductAreExact() throws {
    let known = try adapter(
      [0, 3, 0, 0, /**/ 0, 0, 0, 5], [2, 0, /**/ 0, 0, /**/ 0, -1], rank: 2, alpha: 4)
    let spectrum = try known.spectrum()
    #expect(spectrum.singularValues.count == 2)
    #expect(abs(spectrum.singularValues[0] - 12) < 1e-12)
    #expect(abs(spectrum.singularValues[1] - 10) < 1e-12)
    #expect(abs(spectrum.norm - (144.0 + 100).squareRoot()) < 1e-12)
    #expect(abs(spectrum.normA - 34.0.squareRoot()) < 1e-12 && abs(spectrum.normB - 5.0.squareRoot()) < 1e-12)
    #expect((1.9...2.0).contains(spectrum.effectiveRank))
  }

  /// Against the dense product: the sums of the second and fourth powers of the singular values are traces of dW^T dW
  /// and its square, and the largest is what a power iteration finds.
  @Test(arguments: [(1, 5, 3), (4, 40, 24), (16, 33, 70), (8, 5, 6)])
  func valuesFitTheDenseProduct(rank: Int, input: Int, output: Int) throws {
    let adapter = try random(rank, input, output)
    let (a, b) = (try adapter.a.floats().map(Double.init), try adapter.b.floats().map(Double.init))
    var delta = [[Double]](repeating: [Double](repeating: 0, count: input), count: output)
    for o in 0..<output {
      for i in 0..<input { delta[o][i] = 2 * (0..<rank).reduce(0.0) { $0 + b[o * rank + $1] * a[$1 * input + i] } }
    }
    var gram = [[Double]](repeating: [Double](repeating: 0, count: input), count: input)
    for i in 0..<input {
      for j in 0..<input { gram[i][j] = (0..<output).reduce(0.0) { $0 + delta[$1][i] * delta[$1][j] } }
    }
    let second = (0..<input).reduce(0.0) { $0 + gram[$1][$1] }
    let fourth = gram.joined().reduce(0.0) { $0 + $1 * $1 }
    var vector = (0..<input).map { 1 + Double($0) * 0.01 }
    for _ in 0..<3000 {
      let next = gram.map { row in zip(row, vector).reduce(0.0) { $0 + $1.0 * $1.1 } }
      let length = next.reduce(0.0) { $0 + $1 * $1 }.squareRoot()
      vector = next.map { $0 / length }
    }
    let largest = gram.map { row in zip(row, vector).reduce(0.0) { $0 + $1.0 * $1.1 } }
      .reduce(0.0) { $0 + $1 * $1 }.squareRoot().squareRoot()

    let spectrum = try adapter.spectrum()
    let values = spectrum.singularValues
    #expect(values.count == min(rank, min(input, output)))
    #expect(values == values.sorted(by: >))
    #expect(abs(values.reduce(0) { $0 + $1 * $1 } / second - 1) < 1e-10)
    #expect(abs(values.reduce(0) { $0 + $1 * $1 * $1 * $1 } / fourth - 1) < 1e-10)
    #expect(abs(spectrum.spectralNorm / largest - 1) < 1e-6)
    #expect(abs(try adapter.deltaNorm() / spectrum.norm - 1) < 1e-5)
    #expect(spectrum.effectiveRank <= Double(values.count) + 1e-9)
  }

  @Test func aNewAdapterAddsNothing() throws {
    let fresh = try adapter([1, 2, 3, 4, 5, 6], [0, 0, 0, 0], rank: 2, alpha: 1)
    let spectrum = try fresh.spectrum()
    #expect(spectrum.singularValues == [0, 0] && spectrum.norm == 0 && spectrum.effectiveRank == 0)
    #expect(try fresh.deltaNorm() == 0)
  }

  @Test func dependentColumnsGiveZeros() throws {
    let dependent = try adapter([1, 2, 3, /**/ 2, 4, 6], [1, 0, /**/ 0, 1], rank: 2, alpha: 2)
    let values = try dependent.spectrum().singularValues
    #expect(abs(values[0] - (14.0 * 5).squareRoot()) < 1e-9)
    #expect(values[1] < 1e-9)
  }
}
