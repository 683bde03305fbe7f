import Numerics
import Tensors
import Testing

@testable import CPUBackend

private let formats = GGMLType.allCases.filter(\.isBlocked)

/// A matrix of random blocks whose last byte is followed by a page without access, and its values by the definition.
private struct BlockFixture {
  private let pages: GuardPages
  private let values: [Float]
  private let rows: BlockRows<GuardPages>
  let format: GGMLType
  let shape: [Int]

  /// How the blocks lie in the file.
  enum Arrangement: CaseIterable {
    case inOrder, reordered, alternating, apart

    func isOf(_ format: GGMLType) -> Bool { self != .apart || format == .mxfp4 }
  }

  init(_ format: GGMLType, out: Int, columns: Int, _ arrangement: Arrangement = .inOrder) {
    let blocks = out * columns / format.blockSize
    let pages = GuardPages(byteCount: blocks * format.blockBytes)
    var random = TestRandom(out * 31 + columns)
    let bytes = pages.values(of: UInt8.self)
    for i in 0..<pages.byteCount { bytes[i] = UInt8(random.next() & 255) }
    // Scales that no sum leaves the range of floats with; the rest of a block may be anything.
    let places: [Int] =
      switch format {
      case .q2_K: [80, 82]
      case .q3_K: [108]
      case .q6_K: [208]
      case .q4_1, .q5_1, .q4_K, .q5_K: [0, 2]
      case .mxfp4: []
      default: [0]
      }
    for block in 0..<blocks {
      for place in places {
        (pages.base + block * format.blockBytes + place).copyMemory(
          from: [Float16(random.unit() * 0.01)], byteCount: 2)
      }
      if format == .mxfp4 { bytes[block * format.blockBytes] = UInt8(110 + random.next() % 16) }
    }
    var stored = [Float](repeating: 0, count: out * columns)
    BlockDecoder.run(format, pages.base, blocks: blocks, into: &stored)
    (self.format, shape) = (format, [out, columns])
    switch arrangement {
    case .inOrder: (self.pages, rows, values) = (pages, .inOrder, stored)
    case .reordered:
      let order = (0..<out).map { Int32(($0 * 7 + 3) % out) }
      values = order.flatMap { stored[Int($0) * columns..<Int($0 + 1) * columns] }
      (self.pages, rows) = (pages, .reordered(order))
    case .alternating:
      let pitch = pages.byteCount / out
      let halves = [GuardPages(byteCount: (out + 1) / 2 * pitch), GuardPages(byteCount: out / 2 * pitch)]
      for row in 0..<out {
        (halves[row % 2].base + row / 2 * pitch).copyMemory(from: pages.base + row * pitch, byteCount: pitch)
      }
      (self.pages, rows, values) = (halves[0], .alternating(with: halves[1]), stored)
    case .apart:
      let (codes, scales) = (GuardPages(byteCount: 16 * blocks), GuardPages(byteCount: blocks))
      for block in 0..<blocks {
        let from = bytes + 17 * block
        scales.values(of: UInt8.self)[block] = from[0]
        func code(_ element: Int) -> UInt8 { from[1 + element % 16] >> (element / 16 * 4) & 15 }
        for j in 0..<16 { codes.values(of: UInt8.self)[16 * block + j] = code(2 * j) | code(2 * j + 1) << 4 }
      }
      (self.pages, rows, values) = (codes, .scaledApart(by: scales), stored)
    }
  }

  func operand(on backend: CPUBackend) throws -> BlockOperand {
    func view(_ pages: GuardPages) throws -> Tensor {
      let bytes = UnsafeRawBufferPointer(start: pages.base, count: pages.byteCount)
      return Tensor(storage: try backend.adopt(FileBytes(bytes, owner: pages)), dtype: .u8, shape: [bytes.count])
    }
    return BlockOperand(format: format, shape: shape, bytes: try view(pages), rows: try rows.map(view))
  }

  subscript(row: Int, column: Int) -> Float { values[row * shape[1] + column] }
}

/// Most rows that take dot products.
private func dotRows(_ precision: DType, _ backend: CPUBackend) -> Int {
  let kernels = backend.matmulState.kernels
  return kernels.blocks.dotRows(CPUBackend.mode(precision, pairs: kernels.dotPairsBF16))
}

private struct BlockProduct {
  var rows: Int
  var transposed = false
  var precision: DType = .f32
  var xType: DType = .f32
  var yType: DType = .f32
  var alpha: Float = 1
  var beta: Float = 0

  private func x(_ weight: BlockFixture, _ backend: CPUBackend) throws -> GuardedTensor {
    try GuardedTensor(random: 5 + rows, [rows, weight.shape[transposed ? 0 : 1]], xType, on: backend)
  }

  func run(_ weight: BlockFixture, on backend: CPUBackend) throws -> GuardedTensor {
    let shape = [rows, weight.shape[transposed ? 1 : 0]]
    let y =
      try beta == 0
      ? GuardedTensor(empty: shape, yType, on: backend) : GuardedTensor(random: 3, shape, yType, on: backend)
    let x = try x(weight, backend)
    try backend.blockMatmul(
      x.tensor, try weight.operand(on: backend), transposed: transposed, alpha: alpha, beta: beta, into: y.tensor,
      precision: precision)
    #expect(y.isIntact && x.isIntact, "\(backend.instructionSet) \(weight.format) \(self): wrote outside")
    return y
  }

  func check(_ weight: BlockFixture, on backend: CPUBackend) throws {
    let got = try run(weight, on: backend).values()
    let (x, k) = (try x(weight, backend).values(), weight.shape[transposed ? 0 : 1])
    let n = weight.shape[transposed ? 1 : 0]
    let old = try GuardedTensor(random: 3, [rows, n], yType, on: backend).values()
    // A few rows multiply codes, which are exact, and x in bf16.
    let isDot = !transposed && rows <= dotRows(precision, backend)
    let isExact = precision == .bf16 && isDot
    let want = naiveProduct(
      m: rows, n: n, k: k, alpha: alpha, beta: beta, old: old, precision: isExact ? .f32 : precision,
      a: { isExact ? bf16Rounded(x[$0 * k + $1]) : x[$0 * k + $1] },
      b: { transposed ? weight[$0, $1] : weight[$1, $0] })
    let roundoff = yType == .f32 ? 1e-7 : 1.0 / 256
    // Sums of codes are larger than sums of weights where a minimum is taken off.
    let error = worstError(got, want, k: k, roundoff: roundoff) / (isDot ? 8 : 1)
    #expect(error <= 1, "\(backend.instructionSet) \(weight.format) \(self): error \(error)")
  }
}

@Suite struct BlockKernelTests {
  /// The vector decoders of every instruction set give the bits of the definition, which FormatsTests compares with
  /// those of ggml.
  @Test(arguments: formats)
  func decodedRowsAreExact(format: GGMLType) throws {
    for backend in backends {
      for arrangement in BlockFixture.Arrangement.allCases where arrangement.isOf(format) {
        let weight = BlockFixture(format, out: 5, columns: 3 * format.blockSize, arrangement)
        let operand = try weight.operand(on: backend)
        let width = weight.shape[1]
        let want = (0..<5 * width).map { weight[$0 / width, $0 % width] }
        let all = GuardedTensor(empty: weight.shape, on: backend)
        try backend.decodeBlocks(operand, ids: nil, into: all.tensor)
        #expect(try all.values().map(\.bitPattern) == want.map(\.bitPattern), "\(backend.instructionSet)")
        #expect(all.isIntact)
        let some = GuardedTensor(empty: [3, width], .bf16, on: backend)
        try backend.decodeBlocks(operand, ids: try Tensor(ids: [4, 0, 4], on: backend), into: some.tensor)
        let rows = [4, 0, 4].flatMap { row in (0..<width).map { bf16Rounded(weight[row, $0]) } }
        #expect(try some.values() == rows, "\(backend.instructionSet)")
      }
    }
  }

  /// So do those of a device without kernels for blocks.
  @Test(arguments: formats)
  func theFormOfOtherDevicesIsExact(format: GGMLType) throws {
    let backend = backends[0]
    for arrangement in BlockFixture.Arrangement.allCases where arrangement.isOf(format) {
      let weight = BlockFixture(format, out: 4, columns: 2 * format.blockSize, arrangement)
      let operand = try weight.operand(on: backend)
      let rows = try Tensor(empty: [2, weight.shape[1]], on: backend)
      try backend.composedDecodeBlocks(operand, ids: try Tensor(ids: [3, 2], on: backend), into: rows)
      #expect(try rows.floats() == [3, 2].flatMap { row in (0..<weight.shape[1]).map { weight[row, $0] } })
    }
  }

  /// Panels hold those bits too, rounded as the mode says, in each layout and from any block or part of one on.
  @Test(arguments: formats)
  func packedPanelsAreExact(format: GGMLType) throws {
    for backend in backends where backend.pool.threadCount == 1 {
      let kernels = backend.tiling(.f32).kernels
      let (width, pitch) = (kernels.columns, MatmulKernels.panelStride)
      let buffer = GuardPages(byteCount: 4 * MatmulKernels.scratchCount)
      let panels = GuardPages(byteCount: 4 * 256 * pitch)
      let (scratch, target) = (buffer.values(of: Float.self), panels.values(of: Float.self))
      for arrangement in BlockFixture.Arrangement.allCases where arrangement.isOf(format) {
        let weight = BlockFixture(format, out: 37, columns: 1024, arrangement)
        let operand = try weight.operand(on: backend)
        for mode in [MatmulMode.float, .rounded, .pairs] where mode != .pairs || kernels.pairsBF16 {
          func word(_ index: Int, _ value: (Int) -> Float) -> UInt32 {
            switch mode {
            case .float: value(index).bitPattern
            case .rounded: bf16Rounded(value(index)).bitPattern
            case .pairs: UInt32(bf16Bits(value(2 * index))) | UInt32(bf16Bits(value(2 * index + 1))) << 16
            }
          }
          func check(_ what: String, _ isRight: Bool) {
            #expect(isRight, "\(backend.instructionSet) \(format) \(arrangement) \(mode) \(what)")
          }
          let perWord = mode == .pairs ? 2 : 1
          for (first, count) in [(0, 256), (256, 32), (512, 256), (768, 224), (0, 256 * perWord)] {
            for (rows, laneStride, wordStride) in [(7, pitch, 1), (width - 3, 1, width)] {
              kernels.blocks.packRows(
                UnsafeRawPointer(operand.pointers), 3, rows, first, count, target, laneStride, wordStride,
                mode.rawValue, scratch)
              let isRight = (0..<rows * count / perWord).allSatisfy { i in
                let (lane, step) = (i % rows, i / rows)
                let want = word(step) { column in weight[3 + lane, first + column] }
                return target[lane * laneStride + step * wordStride].bitPattern == want
              }
              check("rows, \(first) \(count) \(laneStride)", isRight)
            }
          }
          // Whole blocks of 256, halves, and halves with a part of the other.
          let wide = [(0, 256), (32, 224), (0, 192), (384, 128), (128, 32)].map { ($0 / width, $1 / width) }
          for (first, count) in [(0, 4), (4, 4), (8, 3), (3, 1), (5, 4), (7, 2)] + wide {
            kernels.blocks.packColumns(
              UnsafeRawPointer(operand.pointers), 2, 33, first * width, count * width, target, pitch * width,
              mode.rawValue)
            let (lanes, words) = (count * width, (33 + perWord - 1) / perWord)
            let isRight = (0..<lanes * words).allSatisfy { i in
              let (lane, step) = (i % lanes, i / lanes)
              let place = lane / width * pitch * width + step * width + lane % width
              let want = word(step) { row in row < 33 ? weight[2 + row, first * width + lane] : 0 }
              return target[place].bitPattern == want
            }
            check("columns, \(first) \(count)", isRight)
          }
          #expect(buffer.isIntact && panels.isIntact)
        }
      }
    }
  }

  @Test(arguments: formats)
  func productsMatchTheNaiveTwin(format: GGMLType) throws {
    let size = format.blockSize
    let small = [(70, 128), (33, 64), (31, 576), (45, 32), (1, 96)]
    let shapes = size == 32 ? small : [(70, 256), (33, 768), (34, 1024), (1, 512)]
    for backend in backends.filter({ $0.threadCount == 3 }) + ProductKernels.tiles.map({ $0.backend(threads: 3) }) {
      for (out, columns) in shapes {
        let arrangement: BlockFixture.Arrangement =
          out == 33 ? .reordered : out == 45 ? .alternating : out > 30 && format == .mxfp4 ? .apart : .inOrder
        let weight = BlockFixture(format, out: out, columns: columns, arrangement)
        let some = out == 34 ? [5, 17] : [1, 2, 6, 9, 40]
        for rows in Array(1...9) + [16, 17, 40, 259] where some.contains(rows) || out == 33 {
          for variant in 0..<8 {
            try BlockProduct(
              rows: rows, transposed: variant & 2 != 0, precision: variant & 4 != 0 ? .bf16 : .f32,
              xType: variant == 6 ? .bf16 : variant == 1 ? .f16 : .f32, yType: variant == 4 ? .bf16 : .f32,
              alpha: variant == 3 ? 0.5 : 1, beta: variant == 3 || variant == 5 ? 1 : 0
            ).check(weight, on: backend)
          }
        }
      }
    }
  }

  @Test func bitsDoNotDependOnTheNumberOfThreads() throws {
    for format in [GGMLType.q4_0, .q4_K, .q6_K] {
      let weight = BlockFixture(format, out: 200, columns: 512)
      for rows in [1, 5, 16, 40, 530] {
        for variant in 0..<4 {
          var same = SameBits()
          let product = BlockProduct(
            rows: rows, transposed: variant & 1 != 0, precision: variant & 2 != 0 ? .bf16 : .f32)
          for backend in backends { try same.check([try product.run(weight, on: backend)], on: backend) }
        }
      }
    }
  }

  /// What a row of x gives does not depend on the rows beside it, nor on where a strip of x ends.
  @Test(arguments: formats)
  func rowsOfABatchHaveTheBitsTheyHaveAlone(format: GGMLType) throws {
    let columns = format.blockSize == 32 ? 1536 + 96 : 1536
    for backend in backends where backend.pool.threadCount == 1 {
      let arrangement: BlockFixture.Arrangement = format == .mxfp4 ? .apart : .alternating
      let weight = try BlockFixture(format, out: 35, columns: columns, arrangement).operand(on: backend)
      for precision in [DType.f32, .bf16] {
        let most = dotRows(precision, backend)
        let x = try GuardedTensor(random: 8, [most, columns], on: backend).values()
        func product(_ rows: Range<Int>) throws -> [UInt32] {
          let part = Array(x[rows.lowerBound * columns..<rows.upperBound * columns])
          let x = try GuardedTensor(part, [rows.count, columns], on: backend)
          let y = GuardedTensor(empty: [rows.count, 35], on: backend)
          try backend.blockMatmul(
            x.tensor, weight, transposed: false, alpha: 1, beta: 0, into: y.tensor, precision: precision)
          return try y.values().map(\.bitPattern)
        }
        let alone = try (0..<most).map { try product($0..<$0 + 1) }
        for rows in 2...most {
          #expect(
            try product(0..<rows) == alone[..<rows].flatMap { $0 },
            "\(backend.instructionSet) \(format) \(precision) \(rows) rows")
        }
      }
    }
  }

  /// Layers that share their input take the same decoded tiles: the bits of each layer by itself.
  @Test func layersTogetherAreThoseByThemselves() throws {
    for backend in backends {
      let weights = [BlockFixture(.q4_K, out: 48, columns: 256), BlockFixture(.q8_0, out: 40, columns: 256)]
      let x = try GuardedTensor(random: 4, [50, 256], on: backend)
      let layers = try weights.map { LinearOperands(weight: .blocks(try $0.operand(on: backend))) }
      let together = weights.map { GuardedTensor(empty: [50, $0.shape[0]], on: backend) }
      try backend.linear(x.tensor, layers, into: together.map { LinearOutput(y: $0.tensor) }, precision: .f32)
      for (layer, y) in zip(layers, together) {
        let alone = GuardedTensor(empty: y.tensor.shape, on: backend)
        try backend.linear(x.tensor, [layer], into: [LinearOutput(y: alone.tensor)], precision: .f32)
        #expect(try alone.values() == y.values())
      }
    }
  }

  /// Few rows through layers in several forms, one with a branch, are one region: the bits of each product by itself,
  /// one after the other, whatever the number of threads.
  @Test func fewRowsTogetherAreProductsByThemselves() throws {
    let fixtures = [
      BlockFixture(.q4_0, out: 70, columns: 256), BlockFixture(.q4_0, out: 33, columns: 256, .reordered),
      BlockFixture(.q6_K, out: 9, columns: 256),
    ]
    for rows in [1, 2, 5, 8] {
      for (precision, type) in [(DType.f32, DType.f32), (.bf16, .bf16)] {
        var same = SameBits()
        for backend in backends {
          func random(_ seed: Int, _ shape: [Int]) throws -> Tensor {
            try GuardedTensor(random: seed, shape, on: backend).tensor.copied()
          }
          let codes = try quantized(try random(7, [40, 256]))
          let branch = LowRank(a: try random(8, [16, 256]), b: try random(9, [70, 16]), scaling: 0.5)
          let weights: [LinearWeight] =
            try fixtures.map { .blocks(try $0.operand(on: backend)) }
            + [.dense(try random(6, [37, 256])), .quantized(codes)]
          let layers = weights.enumerated().map { LinearOperands(weight: $1, lowRank: $0 == 0 ? branch : nil) }
          let x = try GuardedTensor(random: 4, [rows, 256], type, on: backend)
          func outputs() throws -> ([GuardedTensor], [LinearOutput]) {
            let y = try weights.map { try GuardedTensor(random: 5, [rows, $0.shape[0]], type, on: backend) }
            let low = GuardedTensor(empty: [rows, 16], on: backend)
            return (
              y + [low],
              y.indices.map { LinearOutput(y: y[$0].tensor, addsToOld: $0 == 1, low: $0 == 0 ? low.tensor : nil) }
            )
          }
          let (together, both) = try outputs()
          try backend.linear(x.tensor, layers, into: both, precision: precision)
          let (alone, each) = try outputs()
          try backend.composedLinear(x.tensor, layers, into: each, precision: precision)
          for (index, (got, want)) in zip(together, alone).enumerated() {
            #expect(try got.values() == want.values(), "\(backend.instructionSet), \(rows) rows, layer \(index)")
            #expect(got.isIntact, "\(backend.instructionSet), layer \(index): wrote outside")
          }
          try same.check(together, on: backend)
        }
      }
    }
  }

  /// A matrix in NF4.
  private func quantized(_ dense: Tensor) throws -> QuantizedOperand {
    let count = dense.elementCount
    let codes = try Tensor(empty: [count / 2], dtype: .u8, on: dense.backend)
    let absmax = try Tensor(empty: [count / 64], on: dense.backend)
    try dense.backend.quantize4(
      dense, kind: .nf4, blockSize: 64, codes: codes, absmax: absmax,
      firstBad: try Tensor(empty: [1], dtype: .i64, on: dense.backend))
    let levels = (0..<16).map { Float($0) / 8 - 1 }
    return QuantizedOperand(
      kind: .nf4, shape: dense.shape, blockSize: 64, codes: codes, codebook: try Tensor(levels, on: dense.backend),
      absmax: absmax, nested: nil)
  }
}
