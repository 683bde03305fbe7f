import CPUBackend
import Quantization
import Tensors

/// Attention in GFLOP/s; passes over memory in GB/s read and written; optimizers in M elements/s.
struct Passes {
  let bench: Bench
  let limits: Limits

  /// Causal halves are counted: 2 products forward, 5 backward.
  func runAttention() throws {
    for (heads, kvHeads, tokens, headDim) in [(32, 32, 1024, 128), (9, 3, 512, 64), (9, 3, 4096, 64)] {
      for dtype in [DType.bf16, .f32] {
        let name = "attention \(dtype.name) \(heads)/\(kvHeads) heads, \(tokens) tokens, \(headDim)"
        guard bench.wants(name) else { continue }
        let segments = try Tensor(ids: [0, Int32(tokens)], on: bench.backend)
        let shape = AttentionShape(heads: heads, kvHeads: kvHeads, headDim: headDim, segments: segments)
        let q = try bench.tensor([tokens, heads * headDim], dtype)
        let (k, v) = (
          try bench.tensor([tokens, kvHeads * headDim], dtype), try bench.tensor([tokens, kvHeads * headDim], dtype)
        )
        let (out, dq) = (try bench.tensor(q.shape, dtype), try bench.tensor(q.shape, dtype))
        let (dk, dv) = (try bench.tensor(k.shape, dtype), try bench.tensor(k.shape, dtype))
        let lse = try bench.tensor([heads, tokens])
        let product = 1e-9 * Double(heads * tokens * tokens * headDim)
        let limit = dtype == .bf16 ? limits.pairGFLOPS : limits.floatGFLOPS
        try bench.row(name + " forward", work: 2 * product, unit: "GFLOP/s", limit: limit) {
          try bench.backend.attention(q, k, v, shape, into: out, lse: lse)
        }
        try bench.row(name + " forward + backward", work: 7 * product, unit: "GFLOP/s", limit: limit) {
          try bench.backend.attention(q, k, v, shape, into: out, lse: lse)
          try bench.backend.attentionBackward(
            q, q, k, v, out: out, lse: lse, shape, dq: dq, dk: dk, dv: dv)
        }
      }
    }
  }

  func runOptimizers() throws {
    let count = 20_000_000
    for (name, kernel) in [
      ("AdamW 32-bit", OptimizerUpdate.Kernel.adamW), ("AdamW 8-bit", .adamW8), ("Lion 32-bit", .lion),
      ("Lion 8-bit", .lion8), ("SGD", .sgd),
    ] {
      guard bench.wants(name) else { continue }
      let (p, g) = (try bench.tensor([count]), try bench.tensor([count]))
      let state = try (0..<4).map { _ in try Tensor(full: [count], value: 0, on: bench.backend) }
      let update = OptimizerUpdate(kernel, learningRate: 1e-3, weightDecay: 0.01)
      try bench.row(name, work: 1e-6 * Double(count), unit: "M elements/s") {
        try bench.backend.update(
          update, parameter: p, gradient: g, state: state, step: 3, gradientScale: 1)
      }
    }
  }

  func runQuantization() throws {
    let shape = [4096, 11008]
    let count = Double(shape[0] * shape[1])
    for dtype in [DType.f32, .bf16] {
      let name = "NF4 \(dtype.name)"
      guard bench.wants("quantize \(name)") || bench.wants("dequantize \(name)") else { continue }
      let x = try bench.tensor(shape, dtype)
      let bytes = 1e-9 * count * Double(dtype.byteCount)
      for double in [false, true] {
        let label = name + (double ? " + DQ" : "")
        try bench.row("quantize \(label)", work: bytes, unit: "GB/s in", limit: limits.readGBps) {
          _ = try FourBit.quantize(x, kind: .nf4, double: double, name: "x")
        }
        let packed = try FourBit.quantize(x, kind: .nf4, double: double, name: "x")
        let y = try bench.tensor(shape, dtype)
        try bench.row("dequantize \(label)", work: bytes, unit: "GB/s out", limit: limits.copyGBps) {
          try bench.backend.dequantize4(packed, into: y)
        }
      }
    }
  }

  /// The operations around the products, on sizes outside the caches.
  func runRows() throws {
    for dtype in [DType.bf16, .f32] {
      let (rows, width) = (dtype == .bf16 ? 8192 : 4096, 4096)
      let (x, y, z) = (
        try bench.tensor([rows, width], dtype), try bench.tensor([rows, width], dtype),
        try bench.tensor([rows, width], dtype)
      )
      let (u, w) = (try bench.tensor([rows, width], dtype), try bench.tensor([rows, width], dtype))
      let weight = try bench.tensor([width])
      let rstd = try bench.tensor([rows])
      let bytes = 1e-9 * Double(rows * width * dtype.byteCount)
      let backend = bench.backend
      func row(_ name: String, streams: Double, _ body: () throws -> Void) throws {
        try bench.row("\(name) \(dtype.name)", work: streams * bytes, unit: "GB/s", limit: limits.copyGBps, body)
      }
      try row("RMSNorm", streams: 2) {
        try backend.rmsNorm(x, weight: weight, offset: 0, epsilon: 1e-5, into: y, rstd: rstd)
      }
      try row("RMSNorm backward", streams: 3) {
        try backend.rmsNormBackward(
          y, x, weight: weight, offset: 0, rstd: rstd, into: z, accumulate: false, dWeight: nil)
      }
      try row("SwiGLU", streams: 3) { try backend.gated(.silu, gate: x, up: y, into: z) }
      try row("SwiGLU backward", streams: 5) { try backend.gatedBackward(.silu, z, gate: x, up: y, dGate: u, dUp: w) }
      try row("residual", streams: 3) { try backend.accumulate(x, scale: 1, into: y, scale: 1) }
      let positions = try Tensor(ids: (0..<Int32(rows)).map { $0 }, on: backend)
      let (cosine, sine) = (try bench.tensor([rows, 64]), try bench.tensor([rows, 64]))
      try row("rotary", streams: 2) {
        try backend.rope(x, heads: 32, headDim: 128, cosine: cosine, sine: sine, positions: positions, inverse: false)
      }
      // In a cache, as the input of a layer is: the random numbers cost more than the memory.
      let (small, kept) = (try bench.tensor([512, 1536], dtype), try bench.tensor([512, 1536], dtype))
      let stream = RandomStream(seed: 1, stream: 2)
      try bench.row("dropout \(dtype.name)", work: 1e-6 * Double(small.elementCount), unit: "M elements/s") {
        try backend.dropout(small, probability: 0.1, stream: stream, into: kept, accumulate: false)
      }
    }
    let (tokens, vocabulary) = (256, 49152)
    let logits = try bench.tensor([tokens, vocabulary])
    let losses = try bench.tensor([tokens])
    let labels = try Tensor(ids: (0..<Int32(tokens)).map { $0 }, on: bench.backend)
    let entropyBytes = 1e-9 * Double(tokens * vocabulary * 8)
    try bench.row("cross-entropy with gradient", work: entropyBytes, unit: "GB/s", limit: limits.copyGBps) {
      try bench.backend.crossEntropy(logits, labels: labels, losses: losses, gradientScale: 1)
    }
  }
}
