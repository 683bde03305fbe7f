import CPUBackend
import Quantization
import Tensors

/// Dense and quantized matrix products, in GFLOP/s.
struct Products {
  let bench: Bench
  let limits: Limits

  private func limit(_ precision: DType) -> Double { precision == .bf16 ? limits.pairGFLOPS : limits.floatGFLOPS }

  /// C[m, n] = A[m, k] B[k, n], each operand transposed in memory where its flag says so.
  private func dense(
    _ label: String, _ m: Int, _ n: Int, _ k: Int, _ transposeA: Bool, _ transposeB: Bool, _ precision: DType
  ) throws {
    let form = "\(transposeA ? "T" : "N")\(transposeB ? "T" : "N")"
    let name = "\(label) \(precision.name) \(m) x \(k) x \(n) \(form)"
    guard bench.wants(name) else { return }
    let a = try bench.tensor(transposeA ? [k, m] : [m, k], precision)
    let b = try bench.tensor(transposeB ? [n, k] : [k, n], precision)
    let c = try bench.tensor([m, n], precision)
    try bench.row(name, work: 2e-9 * Double(m * n * k), unit: "GFLOP/s", limit: limit(precision)) {
      try bench.backend.matmul(
        a, transposeA: transposeA, b, transposeB: transposeB, alpha: 1, beta: 0, into: c, precision: precision)
    }
  }

  private func quantized(_ rows: Int, _ out: Int, _ columns: Int, _ transposed: Bool, _ precision: DType) throws {
    let name = "NF4 + DQ \(precision.name) \(rows) x \(columns) x \(out)\(transposed ? " dX" : "")"
    guard bench.wants(name) else { return }
    let weight = try FourBit.quantize(try bench.tensor([out, columns]), kind: .nf4, double: true, name: "w")
    let x = try bench.tensor([rows, transposed ? out : columns], precision)
    let y = try bench.tensor([rows, transposed ? columns : out], precision)
    try bench.row(name, work: 2e-9 * Double(rows * out * columns), unit: "GFLOP/s", limit: limit(precision)) {
      try bench.backend.quantizedMatmul(
        x, weight, transposed: transposed, alpha: 1, beta: 0, into: y, precision: precision)
    }
  }

  static let formats = [
    GGMLType.q8_0, .q4_0, .q4_K, .q6_K, .q5_K, .q5_0, .q4_1, .q5_1, .q3_K, .q2_K, .iq4_nl, .mxfp4,
  ]

  /// A weight in a block format of GGUF, of bytes that stand for ordinary numbers in each.
  func blockWeight(_ format: GGMLType, _ out: Int, _ columns: Int) throws -> BlockOperand {
    let count = out * columns / format.blockSize * format.blockBytes
    let bytes = try Tensor(full: [count], value: 0x25, dtype: .u8, on: bench.backend)
    return BlockOperand(format: format, shape: [out, columns], bytes: bytes)
  }

  private func blocks(
    _ format: GGMLType, _ rows: Int, _ out: Int, _ columns: Int, _ transposed: Bool, _ precision: DType
  ) throws {
    let name = "\(format.name) \(precision.name) \(rows) x \(columns) x \(out)\(transposed ? " dX" : "")"
    guard bench.wants(name) else { return }
    let weight = try blockWeight(format, out, columns)
    let x = try bench.tensor([rows, transposed ? out : columns], precision)
    let y = try bench.tensor([rows, transposed ? columns : out], precision)
    try bench.row(name, work: 2e-9 * Double(rows * out * columns), unit: "GFLOP/s", limit: limit(precision)) {
      try bench.backend.blockMatmul(x, weight, transposed: transposed, alpha: 1, beta: 0, into: y, precision: precision)
    }
  }

  /// Weights as a GGUF file has them, each shape beside the same in NF4.
  func runBlocks() throws {
    for precision in [DType.bf16, .f32] {
      for rows in [1, 4, 16, 128, 512] {
        for transposed in [false, true] {
          try quantized(rows, 4096, 11008, transposed, precision)
          for format in Self.formats { try blocks(format, rows, 4096, 11008, transposed, precision) }
        }
      }
    }
  }

  func runDense() throws {
    for precision in [DType.bf16, .f32] {
      try dense("product", 512, 4096, 4096, false, true, precision)
      try dense("product", 512, 4096, 4096, false, false, precision)
      try dense("product", 512, 4096, 4096, true, false, precision)
      try dense("product", 2048, 11008, 4096, false, true, precision)
      try dense("product", 2048, 11008, 4096, false, false, precision)
      try dense("product", 512, 1536, 576, false, true, precision)
      try dense("product", 512, 5632, 2048, false, true, precision)
    }
  }

  func runQuantized() throws {
    for precision in [DType.bf16, .f32] {
      for rows in [1, 4, 16, 128, 512] {
        try quantized(rows, 4096, 11008, false, precision)
        try quantized(rows, 4096, 11008, true, precision)
      }
      try dense("product", 512, 4096, 11008, false, true, precision)
      try quantized(512, 576, 1536, false, precision)
      try quantized(512, 1536, 576, true, precision)
    }
  }

  /// The two products of the output layer of SmolLM2 for chunks of rows: logits, and the gradient of the hidden states.
  func runHead() throws {
    let (vocabulary, width) = (49152, 576)
    for precision in [DType.bf16, .f32] {
      for rows in [128, 256, 512] {
        let name = "head \(precision.name) \(rows) rows"
        guard bench.wants(name) else { continue }
        let head = try bench.tensor([vocabulary, width], .bf16)
        let hidden = try bench.tensor([rows, width], precision)
        let logits = try bench.tensor([rows, vocabulary])
        let work = 2e-9 * Double(rows * vocabulary * width)
        try bench.row(name + " logits", work: work, unit: "GFLOP/s", limit: limit(precision)) {
          try bench.backend.matmul(
            hidden, transposeA: false, head, transposeB: true, alpha: 1, beta: 0, into: logits, precision: precision)
        }
        try bench.row(name + " gradient", work: work, unit: "GFLOP/s", limit: limit(precision)) {
          try bench.backend.matmul(
            logits, transposeA: false, head, transposeB: false, alpha: 1, beta: 0, into: hidden, precision: precision)
        }
      }
    }
  }

  /// The six products of a rank-16 adapter of a 576 x 1536 layer with 512 tokens.
  func runAdapters() throws {
    for precision in [DType.bf16, .f32] {
      try dense("adapter x A^T", 512, 16, 576, false, true, precision)
      try dense("adapter h B^T", 512, 1536, 16, false, true, precision)
      try dense("adapter dB", 1536, 16, 512, true, false, precision)
      try dense("adapter dh", 512, 16, 1536, false, false, precision)
      try dense("adapter dA", 16, 576, 512, true, false, precision)
      try dense("adapter dx", 512, 576, 16, false, false, precision)
    }
  }

  /// The layers of one expert of Qwen3-30B-A3B in NF4 with adapters of rank 8: its two inputs, which share x, forward
  /// and backward. An expert has 16 to 64 rows of a step.
  func runLayers() throws {
    let (out, columns, rank) = (768, 2048, 8)
    for precision in [DType.bf16, .f32] {
      for rows in [4, 8, 12, 16, 24, 32, 48, 512] {
        let name = "layers \(precision.name) \(rows) rows"
        guard bench.wants(name) else { continue }
        let layers = try (0..<2).map { _ in
          LinearOperands(
            weight: .quantized(
              try FourBit.quantize(try bench.tensor([out, columns]), kind: .nf4, double: true, name: "w")),
            lowRank: LowRank(a: try bench.tensor([rank, columns]), b: try bench.tensor([out, rank]), scaling: 1))
        }
        let x = try bench.tensor([rows, columns], precision)
        let dx = try bench.tensor([rows, columns], precision)
        let dLow = try bench.tensor([rows, 2 * rank])
        let outputs = try layers.map { _ in
          LinearOutput(y: try bench.tensor([rows, out], precision), low: try bench.tensor([rows, rank]))
        }
        let gradients = try layers.indices.map {
          LinearGradient(
            dy: try bench.tensor([rows, out], precision), dLow: try dLow.narrowed(1, $0 * rank..<($0 + 1) * rank))
        }
        let work = 4e-9 * Double(rows * (out * columns + rank * (out + columns)))
        try bench.row(name + " forward", work: work, unit: "GFLOP/s", limit: limit(precision)) {
          try bench.backend.linear(x, layers, into: outputs, precision: precision)
        }
        try bench.row(name + " backward", work: work, unit: "GFLOP/s", limit: limit(precision)) {
          try bench.backend.linearBackward(gradients, layers, into: dx, precision: precision)
        }
      }
    }
  }
}
