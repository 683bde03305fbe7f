import CPUBackend
import Quantization
import Tensors
import Testing

@testable import Autograd

/// Linear layers that share their input, computed as one staged product, against the rules for plain products.
@Suite struct LinearRuleTests {
  private struct Layer {
    var out: Int
    var rank: Int
    var isQuantized = true
    var hasBias = false
    var dropout: Float = 0
  }

  private static let groups: [[Layer]] = [
    [Layer(out: 70, rank: 16), Layer(out: 33, rank: 16), Layer(out: 45, rank: 16)],
    [Layer(out: 130, rank: 5, isQuantized: false, hasBias: true), Layer(out: 40, rank: 0, hasBias: true)],
    [Layer(out: 64, rank: 20, dropout: 0.3), Layer(out: 37, rank: 3), Layer(out: 9, rank: 7, dropout: 0.5)],
    [Layer(out: 600, rank: 17)],
  ]

  private func tensor(_ shape: [Int], _ seed: UInt64, on backend: CPUBackend, scale: Float = 1) throws -> Tensor {
    try Tensor(sample(shape, seed: seed, low: -scale, high: scale).floats(), shape: shape, on: backend)
  }

  /// Outputs and gradients (dx, dA, dB, dBias) of a group, by the staged product or by plain rules.
  private func results(
    _ group: [Layer], tokens: Int, width: Int, on backend: CPUBackend, isReference: Bool, unused: Int?,
    precision: DType = .f32
  ) throws -> [[Float]] {
    let x = try tensor([tokens, width], 1, on: backend)
    x.requiresGradient = true
    var leaves = [x]
    var layers: [LinearLayer] = []
    for (index, layer) in group.enumerated() {
      let seed = UInt64(10 * index + 2)
      var dense = try tensor([layer.out, width], seed, on: backend, scale: 0.3)
      var weight = LinearWeight.dense(dense)
      if layer.isQuantized {
        let operand = try FourBit.quantize(dense, kind: .nf4, double: true, name: "w")
        weight = .quantized(operand)
        dense = try Tensor(empty: operand.shape, on: backend)
        try backend.dequantize4(operand, into: dense)
      }
      let bias = layer.hasBias ? try tensor([layer.out], seed + 1, on: backend) : nil
      var branch: LowRank?
      if layer.rank > 0 {
        branch = LowRank(
          a: try tensor([layer.rank, width], seed + 2, on: backend, scale: 0.2),
          b: try tensor([layer.out, layer.rank], seed + 3, on: backend, scale: 0.2), scaling: 0.7,
          dropout: layer.dropout, stream: RandomStream(seed: 5, purpose: "mask", step: index))
      }
      for leaf in [bias, branch?.a, branch?.b].compactMap({ $0 }) {
        leaf.requiresGradient = true
        leaves.append(leaf)
      }
      layers.append(LinearLayer(weight: isReference ? .dense(dense) : weight, bias: bias, branch: branch))
    }
    let outputs =
      try isReference ? layers.map { try plain(x, $0) } : linear(x, layers, precision: precision)
    let used = outputs.indices.filter { $0 != unused }.map { outputs[$0] }
    let joined = try concatenate(used, axis: 1)
    let seed = try tensor(joined.shape, 99, on: backend)
    try joined.backward(seed: seed)
    return try used.map { try $0.floats() } + leaves.map { try $0.gradient?.floats() ?? [] }
  }

  private func plain(_ x: Tensor, _ layer: LinearLayer) throws -> Tensor {
    guard case .dense(let weight) = layer.weight else { throw TensorError.noGraph(operation: "test") }
    var y = try matmul(x, try transpose(weight, 0, 1))
    if let bias = layer.bias { y = try binary(.add, y, bias) }
    guard let branch = layer.branch else { return y }
    var input = x
    if branch.dropout > 0 {
      let mask = try Tensor(empty: x.shape, on: x.backend)
      try x.backend.dropout(
        try Tensor(full: x.shape, value: 1, on: x.backend), probability: branch.dropout, stream: branch.stream,
        into: mask, accumulate: false)
      input = try binary(.multiply, x, mask)
    }
    let low = try matmul(try matmul(input, try transpose(branch.a, 0, 1)), try transpose(branch.b, 0, 1))
    let factor = try Tensor(full: [1], value: Double(branch.scaling), on: x.backend)
    return try binary(.add, y, try binary(.multiply, low, factor))
  }

  /// 32 rows are the fewest that share; 700 are two blocks of resident rows; a width of 1100 is several blocks of the
  /// contraction, one of 96 has rows that are no whole quantization blocks, and beside one of 240 a part of 20 words
  /// does not fit into the panel.
  @Test(arguments: InstructionSet.allCases.filter(\.isSupported))
  func matchesPlainRules(instructionSet: InstructionSet) throws {
    let backends = [1, 3].map { CPUBackend(threadCount: $0, instructionSet: instructionSet) }
    for (tokens, width) in [(32, 96), (85, 1100), (700, 96), (9, 64), (40, 240)] {
      for (number, group) in Self.groups.enumerated() {
        for unused in group.count > 1 ? [nil, 1] : [nil] {
          let want = try results(
            group, tokens: tokens, width: width, on: backends[0], isReference: true, unused: unused)
          let got = try backends.map {
            try results(group, tokens: tokens, width: width, on: $0, isReference: false, unused: unused)
          }
          let place = "\(instructionSet) group \(number), \(tokens) x \(width)"
          #expect(got[0] == got[1], "\(place): bits depend on the number of threads")
          for (index, (got, want)) in zip(got[0], want).enumerated() {
            #expect(got.count == want.count, "\(place): result \(index) is missing")
            let largest = want.map(abs).max() ?? 0
            let error = zip(got, want).map { abs($0 - $1) }.max() ?? 0
            #expect(error <= 2e-5 * largest, "\(place), result \(index): \(error) of \(largest)")
          }
        }
      }
    }
  }

  /// With operands rounded to bfloat16 (relative 2^-9 each) the sums differ by far less than 2^-6 of the largest; a
  /// term left out, or one read from the wrong place, by more.
  @Test(arguments: InstructionSet.allCases.filter(\.isSupported))
  func bfloat16ProductsStayClose(instructionSet: InstructionSet) throws {
    let backends = [1, 3].map { CPUBackend(threadCount: $0, instructionSet: instructionSet) }
    for (tokens, width) in [(33, 96), (85, 1100), (9, 64)] {
      for (number, group) in Self.groups.enumerated() {
        let want = try results(
          group, tokens: tokens, width: width, on: backends[0], isReference: true, unused: nil)
        let got = try backends.map {
          try results(
            group, tokens: tokens, width: width, on: $0, isReference: false, unused: nil, precision: .bf16)
        }
        let place = "\(instructionSet) group \(number), \(tokens) x \(width)"
        #expect(got[0] == got[1], "\(place): bits depend on the number of threads")
        for (index, (got, want)) in zip(got[0], want).enumerated() {
          let largest = want.map(abs).max() ?? 0
          let error = zip(got, want).map { abs($0 - $1) }.max() ?? 0
          #expect(
            got.count == want.count && error <= 0x1p-6 * largest, "\(place), result \(index): \(error) of \(largest)")
        }
      }
    }
  }

  /// The products of bf16 precision round their operands only: far closer to f32 than bf16 results would be.
  @Test func bfloat16RoundsOperandsOnly() throws {
    let x = try sample([80, 128])
    let weight = try sample([50, 128], seed: 2, low: -0.1, high: 0.1)
    let branch = LowRank(
      a: try sample([8, 128], seed: 3), b: try sample([50, 8], seed: 4), scaling: 2,
      stream: RandomStream(seed: 1, purpose: "none"))
    let layer = LinearLayer(weight: .dense(weight), branch: branch)
    let exact = try linear(x, [layer], precision: .f32)[0].floats()
    let rounded = try linear(x, [layer], precision: .bf16)[0].floats()
    let error = zip(exact, rounded).map { abs($0 - $1) }.max() ?? 0
    // Relative 2^-9 per operand, four roundings, sums of random signs.
    #expect(error > 0 && error < 0x1p-8 * (exact.map(abs).max() ?? 0), "\(error)")
  }

  @Test func widthsMustAgree() throws {
    let x = try sample([70, 16])
    let layers = [
      LinearLayer(weight: .dense(try sample([4, 16]))), LinearLayer(weight: .dense(try sample([4, 17]))),
    ]
    #expect(throws: TensorError.innerDimensions(operation: "linear", lhs: [70, 16], rhs: [4, 17])) {
      try linear(x, layers, precision: .f32)
    }
  }
}
