import CPUBackend
import Foundation
import Numerics
import Tensors
import Testing

/// Row kernels against their definitions in double precision, on odd sizes, every instruction set and thread count.
@Suite struct RowTests {
  static let widths = [1, 7, 16, 33, 576, 1000]
  static let types: [DType] = [.f32, .bf16, .f16]

  @Test(arguments: widths.map { ($0, Float(0)) } + [(7, 1), (576, 1)], types)
  func rmsNormAndItsGradient(of c: (width: Int, offset: Float), type: DType) throws {
    let (rows, width, offset) = (67, c.width, c.offset)
    // The weight may be of another type than the activations.
    let weightType: DType = width % 3 == 1 ? .bf16 : type
    var threads = SameBits()
    for backend in backends {
      let x = try GuardedTensor(random: 1, [rows, width], type, scale: 3, on: backend)
      let weight = try GuardedTensor(random: 2, [width], weightType, on: backend)
      let dy = try GuardedTensor(random: 3, [rows, width], type, on: backend)
      let y = GuardedTensor(empty: [rows, width], type, on: backend)
      let rstd = GuardedTensor(empty: [rows], on: backend)
      let dx = try GuardedTensor(random: 4, [rows, width], type, on: backend)
      let dWeight = try GuardedTensor(zeros: [width], on: backend)
      let (xs, ws, gs, old) = (try x.values(), try weight.values(), try dy.values(), try dx.values())
      var (wantedY, wantedX, wantedW) = ([Double](), [Double](), [Double](repeating: 0, count: width))
      for r in 0..<rows {
        let row = (0..<width).map { Double(xs[r * width + $0]) }
        let scale = 1 / (row.reduce(0) { $0 + $1 * $1 } / Double(width) + 1e-5).squareRoot()
        let dot =
          (0..<width).reduce(0.0) {
            $0 + Double(gs[r * width + $1]) * Double(ws[$1] + offset) * row[$1]
          } / Double(width)
        for c in 0..<width {
          let (g, w) = (Double(gs[r * width + c]), Double(ws[c] + offset))
          wantedY.append(row[c] * scale * w)
          wantedX.append(Double(old[r * width + c]) + scale * (g * w - row[c] * scale * scale * dot))
          wantedW[c] += g * row[c] * scale
        }
      }
      try backend.rmsNorm(
        x.tensor, weight: weight.tensor, offset: offset, epsilon: 1e-5, into: y.tensor, rstd: rstd.tensor)
      try backend.rmsNormBackward(
        dy.tensor, x.tensor, weight: weight.tensor, offset: offset, rstd: rstd.tensor, into: dx.tensor,
        accumulate: true, dWeight: dWeight.tensor)
      // transformers rounds x * rstd to bf16 before the weight is applied, and so does the kernel; not with an offset.
      #expect(largestError(try y.values(), wantedY) < (offset == 0 ? 2 : 1) * tolerance(type))
      #expect(largestError(try dx.values(), wantedX) < tolerance(type))
      #expect(largestError(try dWeight.values(), wantedW) < 2e-5)
      try threads.check([y, rstd, dx, dWeight], on: backend)
      let alone = GuardedTensor(empty: [rows, width], type, on: backend)
      try backend.rmsNormBackward(
        dy.tensor, x.tensor, weight: weight.tensor, offset: offset, rstd: rstd.tensor, into: alone.tensor,
        accumulate: false, dWeight: nil)
      #expect(largestError(try alone.values(), zip(wantedX, old).map { $0 - Double($1) }) < tolerance(type))
      for tensor in [y, rstd, dx, dWeight, alone] { #expect(tensor.isIntact) }
    }
  }

  @Test(arguments: [1, 15, 16, 4099, 33_001].flatMap { n in Activation.allCases.map { (n, $0) } }, types)
  func gatedActivationsAndTheirGradients(of c: (count: Int, activation: Activation), type: DType) throws {
    let (count, activation) = c
    var threads = SameBits()
    for backend in backends {
      let gate = try GuardedTensor(random: 1, [count], type, scale: activation == .clampedSwish ? 12 : 6, on: backend)
      let up = try GuardedTensor(random: 2, [count], type, scale: activation == .clampedSwish ? 12 : 1, on: backend)
      let dy = try GuardedTensor(random: 3, [count], type, on: backend)
      let results = (0..<3).map { _ in GuardedTensor(empty: [count], type, on: backend) }
      try backend.gated(activation, gate: gate.tensor, up: up.tensor, into: results[0].tensor)
      try backend.gatedBackward(
        activation, dy.tensor, gate: gate.tensor, up: up.tensor, dGate: results[1].tensor, dUp: results[2].tensor)
      let (g, u, d) = (
        try gate.values().map(Double.init), try up.values().map(Double.init), try dy.values().map(Double.init)
      )
      var wanted = [[Double]](repeating: [], count: 3)
      for i in 0..<count {
        let isClamped = activation == .clampedSwish
        let (a, slope) = activation.definition(isClamped ? min(g[i], 7) : g[i])
        let partner = isClamped ? min(max(u[i], -7), 7) + 1 : u[i]
        wanted[0].append(a * partner)
        wanted[1].append(isClamped && g[i] > 7 ? 0 : d[i] * partner * slope)
        wanted[2].append(isClamped && abs(u[i]) > 7 ? 0 : d[i] * a)
      }
      for (result, values) in zip(results, wanted) {
        // The activation is rounded before the product, as in transformers.
        #expect(largestError(try result.values(), values) < 2 * tolerance(type))
        #expect(result.isIntact)
      }
      try threads.check(results, on: backend)
    }
  }

  @Test(arguments: [1, 16, 4099], [Float(0.5), 30])
  func softCapAndItsGradient(count: Int, cap: Float) throws {
    for backend in backends {
      let x = try GuardedTensor(random: 1, [count], scale: 60, on: backend)
      let dy = try GuardedTensor(random: 2, [count], on: backend)
      let (y, dx) = (GuardedTensor(empty: [count], on: backend), GuardedTensor(empty: [count], on: backend))
      try backend.softCap(x.tensor, cap, into: y.tensor)
      try backend.softCapBackward(dy.tensor, y.tensor, cap, into: dx.tensor)
      let t = try x.values().map { tanh(Double($0) / Double(cap)) }
      #expect(largestError(try y.values(), t.map { $0 * Double(cap) }) < 1e-6)
      #expect(largestError(try dx.values(), zip(try dy.values(), t).map { Double($0) * (1 - $1 * $1) }) < 2e-6)
      // Near zero the result keeps its relative precision.
      let small = try Tensor([1e-3 * cap, -0.2 * cap], on: backend)
      try backend.softCap(small, cap, into: small)
      let values = try small.floats()
      #expect(abs(Double(values[0]) / (tanh(1e-3) * Double(cap)) - 1) < 3e-7)
      #expect(abs(Double(values[1]) / (tanh(-0.2) * Double(cap)) - 1) < 3e-7)
      #expect(y.isIntact && dx.isIntact)
    }
  }

  // The last shape has more elements than one chunk of work.
  @Test(arguments: [(1, 2), (3, 32), (2, 64), (5, 18), (31, 64)], types)
  func ropeTurnsAndTurnsBack(shape: (heads: Int, headDim: Int), type: DType) throws {
    let (heads, headDim, rows, half) = (shape.heads, shape.headDim, 37, shape.headDim / 2)
    for backend in backends {
      let x = try GuardedTensor(random: 5, [rows, heads, headDim], type, on: backend)
      let angle = (0..<64 * half).map { Float($0 / half) * pow(10000, -Float($0 % half) / Float(half)) }
      let cosine = try Tensor(angle.map { cos($0) }, shape: [64, half], on: backend)
      let sine = try Tensor(angle.map { sin($0) }, shape: [64, half], on: backend)
      let places = (0..<rows).map { Int32(($0 * 11) % 64) }
      let positions = try Tensor(ids: places, shape: [rows], on: backend)
      let before = try x.values()
      var wanted: [Double] = []
      for r in 0..<rows {
        for h in 0..<heads {
          for c in 0..<headDim {
            let at = (r * heads + h) * headDim
            let a = Double(angle[Int(places[r]) * half + c % half])
            let partner = c < half ? -Double(before[at + c + half]) : Double(before[at + c - half])
            wanted.append(Double(before[at + c]) * cos(a) + partner * sin(a))
          }
        }
      }
      func turn(_ inverse: Bool) throws {
        try backend.rope(
          x.tensor, heads: heads, headDim: headDim, cosine: cosine, sine: sine, positions: positions, inverse: inverse)
      }
      try turn(false)
      #expect(largestError(try x.values(), wanted) < tolerance(type))
      try turn(true)
      #expect(largestError(try x.values(), before.map(Double.init)) < 2 * tolerance(type))
      #expect(x.isIntact)
    }
  }

  @Test(arguments: [1, 5, 17, 1003])
  func softmaxAndCrossEntropy(width: Int) throws {
    let rows = 19
    var threads = [SameBits(), SameBits(), SameBits()]
    for backend in backends {
      let x = try GuardedTensor(random: 7, [rows, width], scale: 30, on: backend)
      let dy = try GuardedTensor(random: 8, [rows, width], on: backend)
      let labels = (0..<rows).map { Int32($0 % 4 == 3 ? -100 : ($0 * 7) % width) }
      let (xs, gs) = (try x.values().map(Double.init), try dy.values().map(Double.init))
      var (logs, probabilities) = ([Double](), [Double]())
      for r in 0..<rows {
        let row = xs[r * width..<(r + 1) * width]
        let top = row.max()!
        let sum = log(row.reduce(0) { $0 + exp($1 - top) }) + top
        logs += row.map { $0 - sum }
        probabilities += row.map { exp($0 - sum) }
      }
      for logarithm in [false, true] {
        let y = GuardedTensor(empty: [rows, width], on: backend)
        let dx = GuardedTensor(empty: [rows, width], on: backend)
        try backend.softmax(x.tensor, into: y.tensor, logarithm: logarithm)
        try backend.softmaxBackward(dy.tensor, y.tensor, into: dx.tensor, logarithm: logarithm)
        var wanted: [Double] = []
        for r in 0..<rows {
          let at = r * width..<(r + 1) * width
          let dot = at.reduce(0.0) { $0 + gs[$1] * probabilities[$1] }
          let sum = at.reduce(0.0) { $0 + gs[$1] }
          wanted += at.map { logarithm ? gs[$0] - probabilities[$0] * sum : probabilities[$0] * (gs[$0] - dot) }
        }
        try threads[logarithm ? 1 : 0].check([y, dx], on: backend)
        #expect(largestError(try y.values(), logarithm ? logs : probabilities) < 4e-6)
        #expect(largestError(try dx.values(), wanted) < 1e-5)
        for tensor in [y, dx] { #expect(tensor.isIntact) }
      }
      let losses = GuardedTensor(empty: [rows], on: backend)
      let ids = try Tensor(ids: labels, shape: [rows], on: backend)
      try backend.crossEntropy(x.tensor, labels: ids, losses: losses.tensor, gradientScale: nil)
      #expect(try x.values().map(Double.init) == xs, "without a gradient the logits stay")
      let first = try losses.values()
      try backend.crossEntropy(x.tensor, labels: ids, losses: losses.tensor, gradientScale: 0.25)
      #expect(try losses.values() == first)
      let wantedLosses = (0..<rows).map { labels[$0] < 0 ? 0 : -logs[$0 * width + Int(labels[$0])] }
      let wantedGradients = (0..<rows * width).map { i -> Double in
        let label = labels[i / width]
        return label < 0 ? 0 : 0.25 * (probabilities[i] - (Int(label) == i % width ? 1 : 0))
      }
      #expect(largestError(try losses.values(), wantedLosses) < 4e-6)
      #expect(largestError(try x.values(), wantedGradients) < 4e-6)
      try threads[2].check([losses, x], on: backend)
      #expect(losses.isIntact && x.isIntact)
    }
  }

  @Test(arguments: [1, 16, 1031, 40_003], types)
  func dropoutKeepsWhatItsStreamSays(count: Int, type: DType) throws {
    let stream = RandomStream(seed: 9, purpose: "test", step: 3, module: "m")
    let threshold: UInt32 = 19661  // 0.3 * 2^16
    let keeps = (0..<count).map { i in
      let word = Philox.block(UInt64(i / 8), seed: stream.seed, stream: stream.stream)[i / 2 % 4]
      return (i % 2 == 0 ? word & 0xFFFF : word >> 16) >= threshold
    }
    for backend in backends {
      let x = try GuardedTensor(random: 11, [count], type, on: backend)
      let y = try GuardedTensor(random: 12, [count], type, on: backend)
      let (xs, ys) = (try x.values(), try y.values())
      let dropped = (0..<count).map { keeps[$0] ? Double(xs[$0]) / (1 - Double(threshold) / 0x1p16) : 0 }
      try backend.dropout(x.tensor, probability: 0.3, stream: stream, into: y.tensor, accumulate: true)
      #expect(largestError(try y.values(), (0..<count).map { Double(ys[$0]) + dropped[$0] }) < tolerance(type))
      try backend.dropout(x.tensor, probability: 0.3, stream: stream, into: y.tensor, accumulate: false)
      #expect(largestError(try y.values(), dropped) < tolerance(type))
      #expect(y.isIntact)
    }
  }

  /// Conversions and sums between every two types; subnormal values of bfloat16 among them, which the rounding
  /// instruction would take for zeros.
  @Test(arguments: [1, 17, 64, 16_411], types)
  func castAndAccumulate(count: Int, type: DType) throws {
    for backend in backends {
      for target in Self.types {
        let scale: Float = type == .f16 || target == .f16 ? 1 : 0x1p-128
        let x = try GuardedTensor(random: 21, [count], type, scale: scale, on: backend)
        let y = try GuardedTensor(random: 22, [count], target, scale: scale, on: backend)
        let (xs, ys) = (try x.values(), try y.values())
        let wanted = zip(xs, ys).map { x, y -> Double in (2 * Double(x) + Double(y) / 2) / Double(scale) }
        try backend.accumulate(x.tensor, scale: 2, into: y.tensor, scale: 0.5)
        // The smallest step of a subnormal bfloat16 is 2^-5 in units of 2^-128.
        let bound = scale < 1 && target == .bf16 ? 0x1p-6 * 1.01 : tolerance(target)
        let sums = try y.values().map { $0 / scale }
        #expect(largestError(sums, wanted) < bound)
        try backend.copy(x.tensor, into: y.tensor)
        let copied = xs.map { Double($0 / scale) }
        let copies = try y.values().map { $0 / scale }
        #expect(largestError(copies, copied) < bound)
        #expect(y.isIntact)
      }
    }
  }

  /// Ties go to even, subnormal values are rounded, what is too large becomes infinite: to the bit.
  @Test(arguments: [DType.bf16, .f16]) func conversionsRoundToNearestEven(type: DType) throws {
    // Every exponent, both signs, mantissas on and beside the middles of both types.
    var values: [Float] = [0, -0.0, .infinity, -.infinity, .leastNonzeroMagnitude]
    for exponent in UInt32(0)..<255 {
      for mantissa: UInt32 in [0, 0x1000, 0x3000, 0x5001, 0x8000, 0x18000, 0x17FFF, 0x18001, 0x7F_E000, 0x7F_FFFF] {
        let bits = exponent << 23 | mantissa
        values += [Float(bitPattern: bits), Float(bitPattern: bits | 0x8000_0000)]
      }
    }
    let wanted = values.map { type == .bf16 ? bf16Rounded($0) : Float(Float16($0)) }
    for backend in backends {
      let x = try GuardedTensor(values, [values.count], on: backend)
      let y = GuardedTensor(empty: [values.count], type, on: backend)
      try backend.copy(x.tensor, into: y.tensor)
      let wrong = zip(values, zip(try y.values(), wanted)).first { $1.0.bitPattern != $1.1.bitPattern }
      #expect(wrong == nil, "\(backend.instructionSet): \(wrong as Any)")
      let noNumber = try GuardedTensor([.nan], [1], type, on: backend)
      #expect(try noNumber.values()[0].isNaN)
    }
  }

  /// One row over all rows, and columns out of the middle of each row into the middle of others, between every two
  /// types.
  @Test(arguments: types, types)
  func rowsApartAreCopied(from type: DType, to target: DType) throws {
    for backend in backends {
      let x = try GuardedTensor(random: 31, [70, 300], type, on: backend)
      let y = GuardedTensor(empty: [70, 300], target, on: backend)
      try backend.copy(try x.tensor.narrowed(0, 3..<4).broadcasted(to: [70, 300]), into: y.tensor)
      let (xs, bound) = (try x.values(), tolerance(target))
      #expect(largestError(try y.values(), (0..<70 * 300).map { Double(xs[900 + $0 % 300]) }) < bound)
      let old = try y.values()
      try backend.copy(try x.tensor.narrowed(1, 7..<24), into: try y.tensor.narrowed(1, 283..<300))
      let wanted = (0..<70 * 300).map { $0 % 300 < 283 ? Double(old[$0]) : Double(xs[$0 - 276]) }
      #expect(largestError(try y.values(), wanted) < bound)
      #expect(y.isIntact)
      // Out of a tensor into itself.
      let before = try y.values()
      try backend.copy(try y.tensor.narrowed(1, 0..<290), into: try y.tensor.narrowed(1, 10..<300))
      #expect(try y.values() == (0..<70 * 300).map { $0 % 300 < 10 ? before[$0] : before[$0 - 10] })
    }
  }

  /// Results below the normal range are rounded, not lost, also sixty-four at a time.
  @Test func swigluKeepsSubnormalResults() throws {
    for backend in backends {
      let gate = try GuardedTensor(random: 1, [131], .bf16, on: backend)
      let up = try GuardedTensor(random: 2, [131], .bf16, scale: 0x1p-125, on: backend)
      let y = try GuardedTensor(zeros: [131], .bf16, on: backend)
      try backend.gated(.silu, gate: gate.tensor, up: up.tensor, into: y.tensor)
      let wanted = zip(try gate.values(), try up.values()).map { g, u -> Double in
        let silu = Double(g) / (1 + exp(-Double(g)))
        return silu * Double(u) * 0x1p125
      }
      // A subnormal's step is 2^-8 in units of 2^-125; silu was rounded to 2^-9 before.
      let got = try y.values().map { $0 * 0x1p125 }
      #expect(largestError(got, wanted) < 0x1p-8)
      #expect(y.isIntact)
    }
  }

  @Test(arguments: types)
  func embeddingGathersAndScatters(type: DType) throws {
    let (vocabulary, width, ids) = (11, 299, [3, 0, 10, 3, 3, 7].map(Int32.init))
    let rowType: DType = type == .bf16 ? .f32 : type
    for backend in backends {
      let table = try GuardedTensor(random: 1, [vocabulary, width], type, on: backend)
      let rows = GuardedTensor(empty: [ids.count, width], rowType, on: backend)
      let dTable = try GuardedTensor(zeros: [vocabulary, width], on: backend)
      let places = try Tensor(ids: ids, shape: [ids.count], on: backend)
      let values = try table.values()
      // Powers of two: a product with one has the bits of the row.
      for factors in [nil, [2, 0.5, -1, 4, 0.25, 8]] as [[Float]?] {
        let weights = try factors.map { try Tensor($0, on: backend) }
        try backend.zero(dTable.tensor)
        try backend.embedding(table.tensor, ids: places, weights: weights, into: rows.tensor)
        let parts = try [0..<2, 2..<2, 2..<ids.count].map { try rows.tensor.narrowed(0, $0) }
        try backend.embeddingBackward(parts, ids: places, weights: weights, into: dTable.tensor)
        let given = factors ?? ids.map { _ in 1 }
        #expect(
          try rows.values()
            == zip(ids, given).flatMap { id, factor in
              values[Int(id) * width..<(Int(id) + 1) * width].map { $0 * factor }
            })
        let times = (0..<vocabulary).map { id in
          zip(ids, given).reduce(0.0) { $0 + ($1.0 == id ? Double($1.1 * $1.1) : 0) }
        }
        let wanted = (0..<vocabulary * width).map { times[$0 / width] * Double(values[$0]) }
        #expect(largestError(try dTable.values(), wanted) < 1e-6)
        #expect(rows.isIntact && dTable.isIntact)
      }
    }
  }

  /// In f32 1 + 1e8 - 1e8 is 0, and 1 the other way round. Rows are so wide that those of an id would be of several
  /// workers.
  @Test func rowsOfAnIdAreAddedInTheirOrder() throws {
    let (width, ids) = (20_000, [1, 0, 1, 0, 1, 0].map(Int32.init))
    let values: [Float] = [1, 1, 1e8, 1e8, -1e8, -1e8]
    for backend in backends {
      let rows = try Tensor(values.flatMap { [Float](repeating: $0, count: width) }, shape: [6, width], on: backend)
      let dTable = try Tensor(full: [2, width], value: 0, on: backend)
      let parts = try [0..<3, 3..<6].map { try rows.narrowed(0, $0) }
      try backend.embeddingBackward(
        parts, ids: try Tensor(ids: ids, shape: [6], on: backend), weights: nil, into: dTable)
      #expect(try dTable.floats() == [Float](repeating: 0, count: 2 * width))
    }
  }

  @Test(arguments: types)
  func embeddingDotsAreOfTheChosenRows(type: DType) throws {
    for width in [1, 16, 63, 299] {
      let ids = [3, 0, 10, 3].map(Int32.init)
      for backend in backends {
        let table = try GuardedTensor(random: 1, [11, width], type, on: backend)
        let rows = try GuardedTensor(random: 2, [ids.count, width], type, on: backend)
        let dots = GuardedTensor(empty: [ids.count], on: backend)
        try backend.embeddingDots(
          table.tensor, ids: try Tensor(ids: ids, shape: [ids.count], on: backend), rows.tensor, into: dots.tensor)
        let (x, y) = (try table.values(), try rows.values())
        let wanted = ids.enumerated().map { row, id in
          (0..<width).reduce(0.0) { $0 + Double(x[Int(id) * width + $1]) * Double(y[row * width + $1]) }
        }
        #expect(largestError(try dots.values(), wanted) < 1e-6 * Double(width))
        #expect(dots.isIntact)
      }
    }
  }

  @Test func everyBackendHasTheSameBitsForAnyThreadCount() throws {
    for set in InstructionSet.allCases where set.isSupported {
      var first: (norm: Double, gradient: [Float])?
      for threads in [1, 2, 3, 7] {
        let backend = CPUBackend(threadCount: threads, instructionSet: set)
        let x = try GuardedTensor(random: 1, [301, 257], scale: 3, on: backend).tensor
        let weight = try GuardedTensor(random: 2, [257], on: backend).tensor
        let rstd = try Tensor(full: [301], value: 0, on: backend)
        let (y, dx) = (
          try Tensor(full: [301, 257], value: 0, on: backend), try Tensor(full: [301, 257], value: 0, on: backend)
        )
        let dWeight = try Tensor(full: [257], value: 0, on: backend)
        try backend.rmsNorm(x, weight: weight, offset: 0, epsilon: 1e-5, into: y, rstd: rstd)
        try backend.rmsNormBackward(
          y, x, weight: weight, offset: 0, rstd: rstd, into: dx, accumulate: false, dWeight: dWeight)
        let now = (norm: try backend.sumOfSquares([dx]), gradient: try dWeight.floats())
        if let first { #expect(now.norm == first.norm && now.gradient == first.gradient) } else { first = now }
      }
    }
  }
}

extension Activation {
  /// The activation and its derivative.
  func definition(_ g: Double) -> (value: Double, slope: Double) {
    switch self {
    case .silu, .clampedSwish:
      let gain = self == .silu ? 1 : 1.702
      let s = 1 / (1 + exp(-gain * g))
      return (g * s, s * (1 + gain * g * (1 - s)))
    case .gelu:
      let f = 0.5 * erfc(-g / 2.0.squareRoot())
      return (g * f, f + g * exp(-g * g / 2) / (2 * Double.pi).squareRoot())
    case .sigmoid:
      let s = 1 / (1 + exp(-g))
      return (s, s * (1 - s))
    case .geluTanh:
      let root = (2 / Double.pi).squareRoot()
      let t = tanh(root * (g + 0.044715 * g * g * g))
      return (0.5 * g * (1 + t), 0.5 * (1 + t) + 0.5 * g * (1 - t * t) * root * (1 + 3 * 0.044715 * g * g))
    }
  }
}
