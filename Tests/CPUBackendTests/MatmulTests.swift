import CPUBackend
import Tensors
import Testing

private struct Product {
  var m: Int
  var n: Int
  var k: Int
  var types: (DType, DType, DType) = (.f32, .f32, .f32)
  var transposeA = false
  var transposeB = false
  var alpha: Float = 1
  var beta: Float = 0
  var precision: DType = .f32

  func operands() -> (GuardedMatrix, GuardedMatrix) {
    (
      GuardedMatrix(transposeA ? k : m, transposeA ? m : k, types.0, seed: 1 + m),
      GuardedMatrix(transposeB ? n : k, transposeB ? k : n, types.1, seed: 2 + n)
    )
  }

  func run(on backend: CPUBackend, _ a: GuardedMatrix, _ b: GuardedMatrix) -> GuardedMatrix {
    let c = GuardedMatrix(m, n, types.2, seed: beta == 0 ? nil : 3)
    do {
      try backend.matmul(
        m: m, n: n, k: k, alpha: alpha, a: a.base, aType: types.0, aRowStride: a.stride, transposeA: transposeA,
        b: b.base, bType: types.1, bRowStride: b.stride, transposeB: transposeB, beta: beta, c: c.base,
        cType: types.2, cRowStride: c.stride, precision: precision)
    } catch {
      Issue.record(error)
    }
    return c
  }

  /// Compares all rows, or the given ones.
  func check(on backend: CPUBackend, only rows: [Int]? = nil) {
    let (a, b) = operands()
    let old = GuardedMatrix(m, n, types.2, seed: 3).values
    let c = run(on: backend, a, b)
    let want = naiveProduct(
      m: m, n: n, k: k, alpha: alpha, beta: beta, old: old, precision: precision, only: rows,
      a: { transposeA ? a[$1, $0] : a[$0, $1] }, b: { transposeB ? b[$1, $0] : b[$0, $1] })
    let values = (rows ?? Array(0..<m)).flatMap { row in (0..<n).map { c[row, $0] } }
    let error = worstError(values, want, k: k, roundoff: c.unitRoundoff)
    #expect(error <= 1, "\(backend.instructionSet) \(self): error \(error)")
    #expect(c.guardsAreIntact, "\(backend.instructionSet) \(self): wrote outside")
  }
}

private let shapes = [
  (1, 1, 1), (1, 37, 45), (37, 1, 70), (2, 3, 5), (5, 16, 300), (16, 40, 33), (17, 31, 257), (45, 16, 16),
  (40, 35, 1), (33, 65, 515), (15, 129, 31), (129, 15, 64), (30, 44, 513), (7, 200, 256), (1, 130, 1100),
  (133, 150, 67), (129, 300, 545), (3, 40, 81), (8, 70, 209), (70, 150, 60),
]

@Suite struct MatmulTests {
  @Test(arguments: ProductKernels.all)
  func productsMatchTheNaiveTwin(kernels: ProductKernels) {
    let backend = kernels.backend(threads: 2)
    for (m, n, k) in shapes {
      for transposes in 0..<4 {
        for precision in [DType.f32, .bf16] {
          Product(
            m: m, n: n, k: k, transposeA: transposes & 1 != 0, transposeB: transposes & 2 != 0, precision: precision
          ).check(on: backend)
        }
      }
    }
  }

  @Test(arguments: ProductKernels.all)
  func everyMixOfTypesAndScales(kernels: ProductKernels) {
    let backend = kernels.backend(threads: 2)
    let types: [DType] = [.f32, .bf16, .f16]
    for a in types {
      for b in types {
        for c in types {
          for (transposeA, transposeB) in [(false, true), (true, false)] {
            for (m, n, k) in [(19, 50, 37), (3, 33, 70), (50, 17, 35)] {
              Product(
                m: m, n: n, k: k, types: (a, b, c), transposeA: transposeA, transposeB: transposeB, alpha: 0.75,
                beta: a == b ? 0 : -0.5, precision: c == .bf16 ? .bf16 : .f32
              ).check(on: backend)
            }
          }
        }
      }
    }
  }

  @Test(arguments: ProductKernels.all)
  func bitsDoNotDependOnTheNumberOfThreads(kernels: ProductKernels) {
    let backends = (1...3).map { kernels.backend(threads: $0) }
    let cases = [
      (130, 300, 700), (600, 16, 200), (16, 600, 333), (1, 500, 1000), (3, 500, 600), (700, 90, 70), (520, 530, 1090),
      (31, 600, 32), (900, 8, 29),
    ]
    for (m, n, k) in cases {
      for transposes in 0..<4 {
        let product = Product(
          m: m, n: n, k: k, transposeA: transposes & 1 != 0, transposeB: transposes & 2 != 0,
          precision: transposes == 2 ? .bf16 : .f32)
        let (a, b) = product.operands()
        let results = backends.map { product.run(on: $0, a, b).values.map(\.bitPattern) }
        #expect(results[0] == results[1] && results[0] == results[2], "\(kernels.testDescription) \(product)")
      }
    }
  }

  /// Row panels of every size, which have tiles of every even one, and column panels of one and two vectors.
  @Test(arguments: ProductKernels.all)
  func everyRemainderMatchesTheNaiveTwin(kernels: ProductKernels) {
    let backend = kernels.backend(threads: 2)
    for lanes in 1...30 {
      for (m, n) in [(lanes, 47), (47, lanes)] {
        for (transposes, precision) in [(0, DType.f32), (3, .f32), (0, .bf16), (2, .bf16)] {
          Product(
            m: m, n: n, k: 90, transposeA: transposes & 1 != 0, transposeB: transposes & 2 != 0, precision: precision
          ).check(on: backend)
        }
      }
    }
  }

  /// A short contraction and few rows or columns: what the matrices of an adapter are multiplied by.
  @Test(arguments: ProductKernels.all)
  func thinProductsMatchTheNaiveTwin(kernels: ProductKernels) {
    let backend = kernels.backend(threads: 2)
    let types: [(DType, DType, DType)] = [(.f32, .f32, .bf16), (.bf16, .f32, .f32), (.f32, .bf16, .f16)]
    for (number, k) in [1, 7, 8, 9, 16, 31, 32].enumerated() {
      for (m, n) in [(1, 33), (8, 100), (17, 16), (32, 70), (70, 32), (300, 9)] {
        for transposes in 0..<4 {
          Product(
            m: m, n: n, k: k, types: types[(number + transposes) % 3], transposeA: transposes & 1 != 0,
            transposeB: transposes & 2 != 0, alpha: 0.75, beta: (m + transposes) % 2 == 0 ? 0 : -0.5,
            precision: number % 2 == 0 ? .f32 : .bf16
          ).check(on: backend)
        }
      }
    }
  }

  /// So a prompt's rows and one of generation agree, as they do in products with dots.
  @Test(arguments: ProductKernels.all)
  func aRowOfAThinProductHasTheBitsThatItHasAlone(kernels: ProductKernels) throws {
    let backend = kernels.backend(threads: 2)
    for precision in [DType.f32, .bf16] {
      for k in [8, 32] {
        let (a, b) = (GuardedMatrix(32, k, .f32, seed: 1), GuardedMatrix(530, k, .f32, seed: 2))
        func rows(_ first: Int, _ count: Int) throws -> [Float] {
          let c = GuardedMatrix(count, b.rows, .f32, seed: nil)
          try backend.matmul(
            m: count, n: b.rows, k: k, alpha: 1, a: a.base + 4 * first * a.stride, aType: .f32, aRowStride: a.stride,
            transposeA: false, b: b.base, bType: .f32, bRowStride: b.stride, transposeB: true, beta: 0, c: c.base,
            cType: .f32, cRowStride: c.stride, precision: precision)
          return c.values
        }
        let all = try rows(0, 32)
        for (first, count) in [(0, 1), (13, 1), (31, 1), (3, 8), (16, 16)] {
          let range = first * b.rows..<(first + count) * b.rows
          #expect(try rows(first, count) == Array(all[range]), "\(kernels.testDescription) \(precision) \(k) \(first)")
        }
      }
    }
  }

  @Test(arguments: ProductKernels.all)
  func emptyContractionsScaleTheOutput(kernels: ProductKernels) {
    let backend = kernels.backend(threads: 2)
    Product(m: 5, n: 70, k: 0, alpha: 2, beta: 0).check(on: backend)
    Product(m: 5, n: 70, k: 0, transposeA: true, alpha: 2, beta: 0.5).check(on: backend)
    Product(m: 0, n: 7, k: 3).check(on: backend)
    Product(m: 7, n: 0, k: 3, transposeB: true).check(on: backend)
  }

  /// More lanes than one resident block holds, on both sides, and sums over several blocks of the contraction.
  @Test(arguments: ProductKernels.all)
  func residentBlocksJoin(kernels: ProductKernels) {
    let backend = kernels.backend(threads: 2)
    let rows = [0, 13, 14, 319, 320, 333, 347, 348, 650]
    for transposes in 0..<4 {
      Product(
        m: 651, n: 700, k: 70, transposeA: transposes & 1 != 0, transposeB: transposes & 2 != 0, alpha: 1, beta: 1
      ).check(on: backend, only: rows)
      Product(
        m: 700, n: 651, k: transposes == 0 ? 60 : 71, transposeA: transposes & 1 != 0, transposeB: transposes & 2 != 0,
        precision: .bf16
      ).check(on: backend, only: rows)
    }
  }

  /// A contraction of two slices and a rest, whose sums are kept apart from the output: rows of A stay resident, then
  /// columns of B, whose results are turned.
  @Test(arguments: ProductKernels.all)
  func longContractionsAreSummedSliceBySlice(kernels: ProductKernels) {
    let backend = kernels.backend(threads: 2)
    let rows = [0, 13, 14, 319, 320, 519]
    for precision in [DType.f32, .bf16] {
      let k = precision == .f32 ? 1090 : 2090
      for transposeA in [false, true] {
        Product(
          m: transposeA ? 535 : 520, n: transposeA ? 530 : 531, k: k, types: (.bf16, .f32, transposeA ? .f32 : .bf16),
          transposeA: transposeA, alpha: 0.75, beta: transposeA ? -0.5 : 0, precision: precision
        ).check(on: backend, only: rows)
      }
    }
  }
}
