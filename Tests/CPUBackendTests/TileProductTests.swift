import CTileTwin
import Numerics
import Tensors
import Testing

@testable import CPUBackend

/// What products are tested with: each instruction set of this machine and, where it has AVX-512, the tiles of AMX in
/// plain C in the place of the products of pairs.
struct ProductKernels: Sendable, CustomTestStringConvertible {
  let set: InstructionSet
  let usesTileTwin: Bool

  static let all = InstructionSet.allCases.filter(\.isSupported).map { Self(set: $0, usesTileTwin: false) } + tiles
  static let tiles = [InstructionSet.avx512bf16, .avx512].filter(\.isSupported).prefix(1).map {
    Self(set: $0, usesTileTwin: true)
  }

  func backend(threads: Int) -> CPUBackend {
    guard usesTileTwin else { return CPUBackend(threadCount: threads, instructionSet: set) }
    var products = set.matmulKernels
    products.pairsBF16 = true
    products.multiplyPairs = { tt_multiply($0, $1, $2, $3, $4, $5, $6, $7, $8) }
    products.pairRows = 32
    return CPUBackend(threadCount: threads, instructionSet: set, products: products)
  }

  var testDescription: String { usesTileTwin ? "tiles in C, \(set)" : "\(set)" }
}

/// The product of packed panels by tiles (`cp_multiply_tiles`), with plain C for the instructions.
@Suite struct TileProductTests {
  private static let pitch = 256
  private static let panel = pitch * 32

  /// A row panel and column panels of pairs, and the sums before and after.
  private struct Case {
    let lanes: Int
    let columns: Int
    let words: Int
    var overwrite = true

    var panels: Int { (columns + 31) / 32 }

    /// Words beyond those of the product are NaN, which must not be read.
    func packed(_ lanes: Int, seed: Int, at place: (Int, Int) -> Int, count: Int) -> [Float] {
      var panel = [Float](repeating: .nan, count: count)
      var random = TestRandom(seed)
      for lane in 0..<lanes {
        for word in 0..<words {
          let pair = UInt32(bf16Bits(random.unit())) | UInt32(bf16Bits(random.unit())) << 16
          panel[place(lane, word)] = Float(bitPattern: pair)
        }
      }
      return panel
    }

    func row(_ lane: Int, _ word: Int) -> Int { lane * pitch + word }
    func column(_ lane: Int, _ word: Int) -> Int { lane / 32 * TileProductTests.panel + word * 32 + lane % 32 }
    func sum(_ row: Int, _ column: Int) -> Int { (column / 32 * 32 + row) * 32 + column % 32 }

    func run(_ a: [Float], _ b: [Float], _ old: [Float]) -> [Float] {
      var c = old
      tt_multiply(a, lanes, b, columns, panel, words, &c, overwrite, MatmulMode.pairs.rawValue)
      return c
    }

    func check() {
      let a = packed(lanes, seed: 1 + lanes, at: row, count: 32 * pitch)
      let b = packed(columns, seed: 2 + columns, at: column, count: panels * TileProductTests.panel)
      var random = TestRandom(3)
      let old = (0..<panels * 1024).map { _ in overwrite ? Float.nan : random.unit() }
      let c = run(a, b, old)
      var (got, want): ([Float], [(value: Double, magnitude: Double)]) = ([], [])
      for i in 0..<lanes {
        for j in 0..<columns {
          let previous = overwrite ? 0 : Double(old[sum(i, j)])
          var total = (value: previous, magnitude: abs(previous))
          for word in 0..<words {
            let (x, y) = (a[row(i, word)].bitPattern, b[column(j, word)].bitPattern)
            for (p, q) in [(x << 16, y << 16), (x & 0xffff_0000, y & 0xffff_0000)] {
              let term = Double(Float(bitPattern: p)) * Double(Float(bitPattern: q))
              total = (total.value + term, total.magnitude + abs(term))
            }
          }
          want.append(total)
          got.append(c[sum(i, j)])
        }
      }
      let error = worstError(got, want, k: 2 * words, roundoff: 1e-7)
      #expect(error <= 1, "\(self): error \(error)")
      let isUntouched = (lanes..<32).allSatisfy { row in
        (0..<panels * 32).allSatisfy { c[sum(row, $0)].bitPattern == old[sum(row, $0)].bitPattern }
      }
      #expect(isUntouched, "\(self): wrote beside its rows")
    }
  }

  @Test func everyNumberOfLanesAndWords() {
    for lanes in 1...32 { Case(lanes: lanes, columns: 1 + 37 * lanes % 64, words: 1 + 29 * lanes % 200).check() }
    for columns in 1...64 { Case(lanes: 1 + 13 * columns % 32, columns: columns, words: 1 + columns % 40).check() }
    for words in 1...200 {
      Case(lanes: 17 + words % 16, columns: 17 + words % 20, words: words, overwrite: words % 2 == 0).check()
    }
    Case(lanes: 32, columns: 128, words: 256, overwrite: false).check()
  }

  /// The product of one pair each, (x, odd) and (y, odd), added to a sum.
  @Test func specialNumbersAreThoseOfTheInstruction() {
    func product(_ x: Float, _ y: Float, _ old: Float, odd: Float = 0) -> Float {
      let one = Case(lanes: 1, columns: 1, words: 1, overwrite: false)
      func pair(_ x: Float) -> Float { Float(bitPattern: UInt32(bf16Bits(x)) | UInt32(bf16Bits(odd)) << 16) }
      var (a, b) = ([Float](repeating: 0, count: 32 * Self.pitch), [Float](repeating: 0, count: Self.panel))
      (a[0], b[0]) = (pair(x), pair(y))
      return one.run(a, b, [old] + [Float](repeating: 0, count: 1023))[0]
    }
    #expect(product(3, -0.5, 2) == 0.5)
    #expect(product(.infinity, 2, -1) == .infinity)
    #expect(product(.infinity, 0, 1).isNaN && product(.nan, 1, 1).isNaN && product(1, 1, .nan).isNaN)
    #expect(product(0x1p127, 4, 0) == .infinity)
    // Subnormal numbers are zeros, as operands, as sums before and as results.
    #expect(product(0x1p-130, 0x1p20, 1) == 1)
    #expect(product(0x1p-70, 0x1p-70, 0) == 0)
    #expect(product(0, 0, 0x1p-130) == 0)
    #expect(product(0x1.8p-126, -1, 0x1p-126) == 0)
    // The sum of products is rounded before it is added: 1 + 2^-30.
    #expect(product(1, 1, -1, odd: 0x1p-15) == 0)
    #expect(product(1, 1, -1, odd: 0x1p-10) == 0x1p-20)
  }

  /// A layer with a low-rank branch, whose short contraction lies beside others in a row panel.
  @Test(arguments: ProductKernels.tiles)
  fileprivate func branchesAreAdded(kernels: ProductKernels) throws {
    let (tokens, width, rank, out) = (75, 70, 5, 45)
    for threads in [1, 3] {
      let backend = kernels.backend(threads: threads)
      let x = try GuardedTensor(random: 1, [tokens, width], .bf16, on: backend)
      let weight = try GuardedTensor(random: 2, [out, width], .bf16, on: backend)
      let a = try GuardedTensor(random: 3, [rank, width], on: backend)
      let b = try GuardedTensor(random: 4, [out, rank], on: backend)
      let y = GuardedTensor(empty: [tokens, out], on: backend)
      let low = GuardedTensor(empty: [tokens, rank], on: backend)
      let layer = LinearOperands(
        weight: .dense(weight.tensor), lowRank: LowRank(a: a.tensor, b: b.tensor, scaling: 0.5))
      try backend.linear(x.tensor, [layer], into: [LinearOutput(y: y.tensor, low: low.tensor)], precision: .bf16)
      let (xs, ws, ls) = (try x.values(), try weight.values(), try low.values())
      let (rows, columns) = (try a.values().map(bf16Rounded), try b.values().map(bf16Rounded))
      let branch = (0..<tokens * rank).map { i in
        (0..<width).reduce(0.0) { $0 + 0.5 * Double(xs[i / rank * width + $1] * rows[i % rank * width + $1]) }
      }
      #expect(largestError(ls, branch) < 1e-5)
      let want = (0..<tokens * out).map { i in
        let product = (0..<width).reduce(0.0) { $0 + Double(xs[i / out * width + $1] * ws[i % out * width + $1]) }
        return (0..<rank).reduce(product) {
          $0 + Double(bf16Rounded(ls[i / out * rank + $1]) * columns[i % out * rank + $1])
        }
      }
      #expect(largestError(try y.values(), want) < 1e-5)
      #expect(y.isIntact && low.isIntact)
    }
  }
}
