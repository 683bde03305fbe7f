import CPUBackend
import Tensors
import Testing

/// A random quantized matrix and its values by the definition.
private final class QuantizedFixture {
  let out: Int
  let columns: Int
  let blockSize: Int
  let doubleQuantized: Bool
  private let pages: [GuardPages]
  private var codes: UnsafeMutablePointer<UInt8> { pages[0].values(of: UInt8.self) }
  private var book: UnsafeMutablePointer<Float> { pages[1].values(of: Float.self) }
  private var absmax: UnsafeMutablePointer<Float> { pages[2].values(of: Float.self) }
  private var absmaxCodes: UnsafeMutablePointer<UInt8> { pages[3].values(of: UInt8.self) }
  private var nested: UnsafeMutablePointer<Float> { pages[4].values(of: Float.self) }
  private var map: UnsafeMutablePointer<Float> { pages[5].values(of: Float.self) }

  init(out: Int, columns: Int, blockSize: Int, doubleQuantized: Bool) {
    self.out = out
    self.columns = columns
    self.blockSize = blockSize
    self.doubleQuantized = doubleQuantized
    let count = out * columns
    let blocks = (count + blockSize - 1) / blockSize
    let nestedCount = (blocks + 255) / 256
    pages = [(count + 1) / 2, 4 * 16, 4 * blocks, blocks, 4 * nestedCount, 4 * 256].map { GuardPages(byteCount: $0) }
    var random = TestRandom(out * 31 + columns)
    for i in 0..<(count + 1) / 2 { codes[i] = UInt8(random.next() & 255) }
    for i in 0..<16 { book[i] = random.unit() }
    for i in 0..<blocks {
      absmax[i] = abs(random.unit()) + 0.1
      absmaxCodes[i] = UInt8(random.next() & 255)
    }
    for i in 0..<nestedCount { nested[i] = abs(random.unit()) }
    for i in 0..<256 { map[i] = random.unit() }
  }

  var pointers: QuantizedWeightPointers {
    QuantizedWeightPointers(
      codes: codes, out: out, in: columns, blockSize: blockSize, codebook: book,
      absmax: doubleQuantized ? nil : absmax, absmaxCodes: doubleQuantized ? absmaxCodes : nil,
      nestedAbsmax: doubleQuantized ? nested : nil, nestedMap: doubleQuantized ? map : nil, offset: 0.37)
  }

  subscript(row: Int, column: Int) -> Float {
    let i = row * columns + column
    let code = i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 15
    let block = i / blockSize
    if !doubleQuantized { return book[Int(code)] * absmax[block] }
    let product = map[Int(absmaxCodes[block])] * nested[block / 256]
    return book[Int(code)] * (product + 0.37)
  }
}

private struct QuantizedProduct {
  var rows: Int
  var out: Int
  var columns: Int
  var blockSize = 64
  var doubleQuantized = false
  var transposed = false
  var precision: DType = .f32
  var xType: DType = .f32
  var yType: DType = .f32
  var alpha: Float = 1
  var beta: Float = 0

  var fixture: QuantizedFixture {
    QuantizedFixture(out: out, columns: columns, blockSize: blockSize, doubleQuantized: doubleQuantized)
  }

  func run(on backend: CPUBackend, _ weight: QuantizedFixture, _ x: GuardedMatrix) -> GuardedMatrix {
    let y = GuardedMatrix(rows, transposed ? columns : out, yType, seed: beta == 0 ? nil : 3)
    do {
      try backend.quantizedMatmul(
        rows: rows, weight: weight.pointers, transposed: transposed, alpha: alpha, x: x.base, xType: xType,
        xRowStride: x.stride, beta: beta, y: y.base, yType: yType, yRowStride: y.stride, precision: precision)
    } catch {
      Issue.record(error)
    }
    return y
  }

  var input: GuardedMatrix { GuardedMatrix(rows, transposed ? out : columns, xType, seed: 5 + rows) }

  func check(on backend: CPUBackend) {
    let weight = fixture
    let x = input
    let y = run(on: backend, weight, x)
    let k = transposed ? out : columns
    let n = transposed ? columns : out
    let want = naiveProduct(
      m: rows, n: n, k: k, alpha: alpha, beta: beta, old: GuardedMatrix(rows, n, yType, seed: 3).values,
      precision: precision, a: { x[$0, $1] }, b: { transposed ? weight[$0, $1] : weight[$1, $0] })
    let error = worstError(y.values, want, k: k, roundoff: y.unitRoundoff)
    #expect(error <= 1, "\(backend.instructionSet) \(self): error \(error)")
    #expect(y.guardsAreIntact, "\(backend.instructionSet) \(self): wrote outside")
  }

  /// Multiplies by rows of which each has a single one.
  func checkDecodedValues(on backend: CPUBackend) {
    let weight = fixture
    let x = input
    for r in 0..<rows {
      for c in 0..<(transposed ? out : columns) {
        x.base.storeBytes(of: r == c ? 1 : 0, toByteOffset: (r * x.stride + c) * 4, as: Float.self)
      }
    }
    let y = run(on: backend, weight, x)
    var mismatches = 0
    for r in 0..<rows {
      for n in 0..<(transposed ? columns : out) where y[r, n] != (transposed ? weight[r, n] : weight[n, r]) {
        mismatches += 1
      }
    }
    #expect(mismatches == 0, "\(backend.instructionSet) \(self): \(mismatches) other values")
  }
}

@Suite struct MatmulQuantizedTests {
  @Test(arguments: ProductKernels.all)
  func productsMatchTheNaiveTwin(kernels: ProductKernels) {
    let backend = kernels.backend(threads: 2)
    let shapes = [
      (70, 128, 64), (33, 192, 64), (64, 64, 128), (31, 576, 64), (20, 96, 64), (45, 37, 32), (3, 1001, 64),
      (70, 80, 4096), (9, 7, 32), (140, 33, 64), (1, 1, 32), (45, 576, 64), (50, 96, 256),
      // Longer than the strips of x that few rows take, with blocks that lie in two rows.
      (9, 4288, 128),
    ]
    // From 256 rows on the weight's rows are turned while they are decoded.
    let turned = [(70, 128, 64), (33, 192, 64), (20, 96, 64), (45, 37, 32), (33, 576, 64), (50, 96, 256)]
    for rows in [1, 2, 6, 9, 17, 40, 259] {
      for (out, columns, blockSize) in rows < 256 ? shapes : turned {
        for variant in 0..<8 {
          QuantizedProduct(
            rows: rows, out: out, columns: columns, blockSize: blockSize, doubleQuantized: variant & 1 != 0,
            transposed: variant & 2 != 0, precision: variant & 4 != 0 ? .bf16 : .f32,
            xType: variant == 6 ? .bf16 : variant == 1 ? .f16 : .f32, yType: variant == 4 ? .bf16 : .f32,
            alpha: variant == 3 ? 0.5 : 1, beta: variant == 3 || variant == 5 ? 1 : 0
          ).check(on: backend)
        }
      }
    }
  }

  @Test(arguments: ProductKernels.all)
  func bitsDoNotDependOnTheNumberOfThreads(kernels: ProductKernels) {
    let backends = (1...3).map { kernels.backend(threads: $0) }
    for rows in [1, 5, 40, 530] {
      for variant in 0..<4 {
        let product = QuantizedProduct(
          rows: rows, out: 200, columns: 320, transposed: variant & 1 != 0, precision: variant & 2 != 0 ? .bf16 : .f32)
        let weight = product.fixture
        let x = product.input
        let results = backends.map { product.run(on: $0, weight, x).values.map(\.bitPattern) }
        #expect(results[0] == results[1] && results[0] == results[2], "\(kernels.testDescription) \(product)")
      }
    }
  }

  /// One-hot rows read single weights: they must be the decoded values to the last bit.
  @Test(arguments: ProductKernels.all)
  func decodedValuesAreExact(kernels: ProductKernels) {
    let backend = kernels.backend(threads: 1)
    for (columns, rows, blockSize) in [
      (64, 64, 32), (33, 33, 32), (128, 1, 32), (96, 2, 32), (288, 288, 32), (320, 1, 64), (320, 3, 64), (320, 7, 64),
    ] {
      QuantizedProduct(rows: rows, out: 50, columns: columns, blockSize: blockSize, doubleQuantized: true)
        .checkDecodedValues(on: backend)
    }
    // Across panels, with blocks that are a row's, or lie in two, or are longer than what is decoded at once.
    for (columns, blockSize) in [(576, 64), (160, 64), (288, 128), (640, 256), (48, 64), (352, 32)] {
      for out in [33, 70] {
        QuantizedProduct(
          rows: out, out: out, columns: columns, blockSize: blockSize, doubleQuantized: true, transposed: true
        ).checkDecodedValues(on: backend)
      }
    }
  }
}
