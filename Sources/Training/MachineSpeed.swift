import Glibc
import Models
import Quantization
import Tensors

/// How fast this machine does what a step consists of: the calibration behind a plan's time, about 0.1 s in all.
///
/// Each kind of work is done on small operands of the model's own widths, after a first call that is not counted. What
/// the sum leaves out (dispatch, the loop around it, memory that is touched first) is small beside the spread of a
/// shared machine.
package struct MachineSpeed: Sendable {
  /// Operations per second.
  package private(set) var quantized = 1.0
  package private(set) var dense = 1.0
  package private(set) var lowRank = 1.0
  package private(set) var attention = 1.0
  /// Elements per second that dropout masks.
  package private(set) var masking = 1.0
  /// Bytes per second of passes between the products.
  package private(set) var passing = 1.0

  private static let tokens = 256
  /// Bytes read and written per element of an AdamW update.
  private static let updateByteCount = 28.0

  /// Measures `backend` with the widths, types and ranks of `model`, which may be header-only.
  /// - Throws: `TensorError.outOfMemory`.
  package init(_ model: LanguageModel, on backend: any Backend) throws {
    let bench = Bench(backend: backend, precision: model.computeType)
    try measureProducts(of: model, bench)
    try measureAttention(of: model, bench)
    try measurePasses(bench)
  }

  private mutating func measureProducts(of model: LanguageModel, _ bench: Bench) throws {
    let (backend, precision, tokens) = (bench.backend, bench.precision, MachineSpeed.tokens)
    let width = min(1024, model.spec.hiddenSize)
    let inner = min(1024, model.spec.intermediateSize)
    let x = try bench.filled([tokens, width], precision)
    let y = try Tensor(empty: [tokens, inner], dtype: precision, category: .workspace, on: backend)
    let weight = try bench.filled([inner, width], precision)
    let operations = 4 * tokens * width * inner
    dense = try bench.rate(operations) {
      try backend.matmul(
        x, transposeA: false, weight, transposeB: true, alpha: 1, beta: 0, into: y, precision: precision)
      try backend.matmul(
        y, transposeA: false, weight, transposeB: false, alpha: 1, beta: 0, into: x, precision: precision)
    }
    quantized = dense
    if let format = MachineSpeed.commonFormat(of: model, width: width) {
      let bytes = try bench.filled([inner * width / format.blockSize * format.blockBytes], .u8)
      let operand = BlockOperand(format: format, shape: [inner, width], bytes: bytes)
      quantized = try bench.rate(operations) {
        try backend.blockMatmul(x, operand, transposed: false, alpha: 1, beta: 0, into: y, precision: precision)
        try backend.blockMatmul(y, operand, transposed: true, alpha: 1, beta: 0, into: x, precision: precision)
      }
    } else if model.modules.contains(where: { $0.quantization != nil }) {
      let operand = try FourBit.quantize(
        weight, kind: .nf4, blockSize: model.options.blockSize, double: model.options.doubleQuantization,
        name: "calibration", category: .workspace)
      quantized = try bench.rate(operations) {
        try backend.quantizedMatmul(x, operand, transposed: false, alpha: 1, beta: 0, into: y, precision: precision)
        try backend.quantizedMatmul(y, operand, transposed: true, alpha: 1, beta: 0, into: x, precision: precision)
      }
    }
    let rank = model.adapters.compactMap(\.lowRank).first?.rank ?? 8
    let (a, low) = (try bench.filled([rank, width], .f32), try bench.filled([tokens, rank], .f32))
    lowRank = try bench.rate(4 * tokens * width * rank) {
      try backend.matmul(x, transposeA: false, a, transposeB: true, alpha: 1, beta: 0, into: low, precision: precision)
      try backend.matmul(low, transposeA: false, a, transposeB: false, alpha: 1, beta: 1, into: x, precision: precision)
    }
  }

  /// The block format of most kept weights among those that rows of `width` elements can have; nil without one.
  private static func commonFormat(of model: LanguageModel, width: Int) -> GGMLType? {
    var counts: [GGMLType: Int] = [:]
    for module in model.modules {
      guard let format = module.blockFormat, width % format.blockSize == 0 else { continue }
      counts[format, default: 0] += module.parameterCount
    }
    return counts.max { ($0.value, $0.key.rawValue) < ($1.value, $1.key.rawValue) }?.key
  }

  private mutating func measureAttention(of model: LanguageModel, _ bench: Bench) throws {
    let (backend, tokens) = (bench.backend, MachineSpeed.tokens)
    let (heads, headDim) = (min(8, model.spec.headCount), model.spec.headDimension)
    let shape = AttentionShape(
      heads: heads, kvHeads: heads, headDim: headDim, segments: try Tensor(ids: [0, Int32(tokens)], on: backend))
    let states = try (0..<8).map { _ in try bench.filled([tokens, heads * headDim], bench.precision) }
    let sums = try bench.filled([heads, tokens], .f32)
    attention = try bench.rate(7 * tokens * tokens * heads * headDim) {
      try backend.attention(states[0], states[1], states[2], shape, into: states[3], lse: sums)
      try backend.attentionBackward(
        states[4], states[0], states[1], states[2], out: states[3], lse: sums, shape, dq: states[5], dk: states[6],
        dv: states[7])
    }
  }

  private mutating func measurePasses(_ bench: Bench) throws {
    let backend = bench.backend
    let wide = try bench.filled([1 << 21], bench.precision)
    let other = try bench.filled([1 << 21], bench.precision)
    passing = try bench.rate(3 * wide.byteCount) { try backend.accumulate(wide, scale: 1, into: other, scale: 1) }
    let stream = RandomStream(seed: 0, purpose: "calibration")
    masking = try bench.rate(wide.elementCount) {
      try backend.dropout(wide, probability: 0.1, stream: stream, into: other, accumulate: false)
    }
  }

  /// Seconds that the work of a step takes here.
  package func seconds(_ work: StepWork) -> Double {
    work.quantized / quantized + work.dense / dense + work.lowRank / lowRank + work.attention / attention
      + work.masked / masking + (work.passing + MachineSpeed.updateByteCount * work.updates) / passing
  }
}

/// Where work is timed.
private struct Bench {
  let backend: any Backend
  let precision: DType

  func filled(_ shape: [Int], _ dtype: DType) throws -> Tensor {
    try Tensor(full: shape, value: dtype == .u8 ? 0x5A : 0.01, dtype: dtype, category: .workspace, on: backend)
  }

  /// `amount` per second: the best of two calls after one that is not counted.
  func rate(_ amount: Int, _ body: () throws -> Void) rethrows -> Double {
    var best = Double.infinity
    for attempt in 0..<3 {
      let start = Bench.now()
      try body()
      backend.synchronize()
      if attempt > 0 { best = min(best, Bench.now() - start) }
    }
    return Double(amount) / max(best, 1e-9)
  }

  private static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
}
