import Foundation
import Tensors
import Testing

@testable import CPUBackend

/// Small products that are computed at a time have the bits of one after the other.
@Suite struct ProductBatchTests {
  /// The six products of a low-rank branch, for branches of several ranks and numbers of rows.
  private func products(on backend: CPUBackend, type: DType, results: inout [Tensor]) throws -> [MatrixProduct] {
    var stream: UInt64 = 0
    func matrix(_ rows: Int, _ columns: Int, _ type: DType) throws -> Tensor {
      stream += 1
      let random = try Tensor(empty: [rows, columns], on: backend)
      try backend.fillUniform(random, low: -1, high: 1, stream: RandomStream(seed: 3, stream: stream))
      return type == .f32 ? random : try random.converted(to: type)
    }
    var products: [MatrixProduct] = []
    for (rows, rank) in [(1, 8), (7, 3), (19, 16), (33, 1), (70, 64)] {
      let (width, out) = (96, 160)
      let (x, dy) = (try matrix(rows, width, type), try matrix(rows, out, type))
      let (a, b) = (try matrix(rank, width, .f32), try matrix(out, rank, .f32))
      let low = try matrix(rows, rank, .f32)
      let (h, y, dh) = (try matrix(rows, rank, .f32), try matrix(rows, out, type), try matrix(rows, rank, .f32))
      let (da, db, dx) = (try matrix(rank, width, .f32), try matrix(out, rank, .f32), try matrix(rows, width, type))
      products += [
        MatrixProduct(x, a, transposeB: true, alpha: 0.5, into: h),
        MatrixProduct(low, b, transposeB: true, beta: 1, into: y),
        MatrixProduct(dy, b, alpha: 0.5, into: dh),
        MatrixProduct(low, transposeA: true, x, into: da),
        MatrixProduct(dy, transposeA: true, low, into: db),
        MatrixProduct(low, a, beta: 1, into: dx),
      ]
      results += [h, y, dh, da, db, dx]
    }
    return products
  }

  private func bits(_ results: [Tensor]) throws -> [[Float]] {
    try results.map { try ($0.dtype == .f32 ? $0 : $0.converted(to: .f32)).floats() }
  }

  @Test(arguments: InstructionSet.allCases.filter(\.isSupported))
  func sameBits(_ set: InstructionSet) throws {
    for (type, precision) in [(DType.f32, DType.f32), (.bf16, .bf16)] {
      let reference = CPUBackend(threadCount: 1, instructionSet: set)
      var expected: [Tensor] = []
      for product in try products(on: reference, type: type, results: &expected) {
        try product.compute(on: reference, precision: precision)
      }
      let backend = CPUBackend(threadCount: 3, instructionSet: set)
      var results: [Tensor] = []
      let all = try products(on: backend, type: type, results: &results)
      try backend.matmuls(all, precision: precision)
      #expect(try bits(results) == bits(expected), "\(set) \(type)")
    }
  }

  /// The plan runs a step on a rehearsal: it must count what the workers' buffers will take.
  @Test func rehearsalCountsTheBuffersOfWorkers() throws {
    var counts: [Int] = []
    for isRehearsal in [true, false] {
      let backend = CPUBackend(threadCount: 3, isRehearsal: isRehearsal)
      var results: [Tensor] = []
      let all = try products(on: backend, type: .f32, results: &results)
      let before = backend.scratchByteCount
      try backend.matmuls(all, precision: .f32)
      counts.append(backend.scratchByteCount - before)
    }
    #expect(counts[0] == counts[1] && counts[0] > 0)
  }
}
