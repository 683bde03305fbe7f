/// What a device must be able to do: coarse operations in destination-passing form.
///
/// Outputs are allocated by the caller and have the right shape (the callers in Autograd and Models check shapes
/// and throw; a backend may assume). Calls are queued in order; `synchronize` waits. Unless said otherwise operands
/// are contiguous, float operands are f32, bf16 or f16, arithmetic and accumulation are f32. T counts rows
/// (tokens), D columns (features).
public protocol Backend: AnyObject, Sendable {
  /// The name of the device in messages and reports, for example `cpu`.
  var name: String { get }
  /// The books of the blocks that this backend allocated, with the limit.
  var memory: MemoryLedger { get }

  /// A block of at least `byteCount` bytes, aligned to 64, contents undefined.
  /// - Throws: `TensorError.outOfMemory` over the limit of `memory`, or when the device has no such block.
  func allocate(byteCount: Int, category: MemoryCategory) throws -> Storage
  /// A block with the bytes of a mapped file: a view of them where the device can compute on the file's pages, by
  /// default a copy.
  /// - Throws: `TensorError.outOfMemory`; what the device reports when the copy fails.
  func adopt(_ file: FileBytes) throws -> Storage
  /// Returns when all queued calls are done.
  func synchronize()

  // MARK: What programs ask of a device

  /// The instructions its kernels were made for, as reports name them.
  var kernelName: String { get }
  /// Whether products of bf16 values cost less than those of f32: false where their operands are rounded in software.
  var multipliesBFloat16: Bool { get }
  /// Host threads that compute: 1 where the device has workers of its own.
  var threadCount: Int { get }
  /// Exchanges the threads; results do not depend on their number. Not while an operation runs.
  /// - Throws: `TensorError.unsupported` by a device with workers of its own.
  func setThreadCount(_ count: Int) throws(TensorError)
  /// Bytes of host memory that blocks in use or kept for reuse and scratch occupy, as far as they were written.
  var residentByteCount: Int { get }

  // MARK: The door between tensors and the host
  //
  // The only way to the bytes of a tensor, which is contiguous (also a part of its storage) and, where it is written,
  // not a view of a file. Each waits for pending work on the tensor. Another thread than the one that computes may
  // come in too, with tensors that no operation uses meanwhile.

  /// Copies the elements of a tensor to `bytes`, of which there are `tensor.byteCount`.
  /// - Throws: what the device reports when the copy fails.
  func read(_ tensor: Tensor, into bytes: UnsafeMutableRawBufferPointer) throws(TensorError)
  /// Copies `bytes`, `tensor.byteCount` of them, to the elements of a tensor.
  /// - Throws: what the device reports when the copy fails.
  func write(_ bytes: UnsafeRawBufferPointer, to tensor: Tensor) throws(TensorError)
  /// Sets all bytes of a tensor to 0.
  /// - Throws: what the device reports when that fails.
  func zero(_ tensor: Tensor) throws(TensorError)
  /// Calls `body` with the elements of a tensor in host memory, aligned to 64 unless the tensor is a part: by default
  /// a copy.
  /// - Throws: what `body` throws, and what the device reports when the copy fails.
  func withHostBytes<R>(
    of tensor: Tensor, _ body: (UnsafeRawBufferPointer) throws(TensorError) -> R
  ) throws(TensorError) -> R
  /// Calls `body` with the elements of a tensor in host memory, which it may change: by default a copy, which goes back
  /// unless `body` throws.
  /// - Throws: what `body` throws, and what the device reports when a copy fails.
  func withMutableHostBytes<R>(
    of tensor: Tensor, _ body: (UnsafeMutableRawBufferPointer) throws(TensorError) -> R
  ) throws(TensorError) -> R

  // MARK: Data movement

  /// Copies with any strides on both sides, converting the dtype: floats are rounded to nearest even, floats become
  /// integers toward zero, clamped to their range, NaN as 0.
  /// - Throws: `TensorError.shapeMismatch` when the shapes differ; what the device reports.
  func copy(_ source: Tensor, into target: Tensor) throws
  /// Sets all elements to a value, converted as by `copy`; any dtype and strides.
  /// - Throws: what the device reports.
  func fill(_ target: Tensor, _ value: Double) throws
  /// Element i = low + (high - low) * u with u in [0, 1) the upper 24 bits of word i of the Philox stream, then rounded
  /// to the dtype, or the largest number of the dtype below `high` where that would give `high`.
  /// - Throws: what the device reports.
  func fillUniform(_ target: Tensor, low: Double, high: Double, stream: RandomStream) throws
  /// Elements 2i and 2i + 1 are normal, by Box-Muller from words 2i and 2i + 1 of the Philox stream: mean + deviation *
  /// sqrt(-2 ln u1) times cos and sin of 2 pi u2.
  /// - Throws: what the device reports.
  func fillNormal(_ target: Tensor, mean: Double, deviation: Double, stream: RandomStream) throws

  // MARK: Elementwise and reductions

  /// y = f(x) of each element; x of any dtype is taken as f32, y is f32.
  /// - Throws: what the device reports.
  func unary(_ operation: UnaryOperation, _ x: Tensor, into y: Tensor) throws
  /// y = f(a, b) of each element. Operands of any dtype and strides broadcast to the shape of `y`; f32 result.
  /// - Throws: `TensorError.shapeMismatch` when an operand does not broadcast to `y`; what the device reports.
  func binary(_ operation: BinaryOperation, _ a: Tensor, _ b: Tensor, into y: Tensor) throws
  /// y = a * x + b * y on equal shapes, float dtypes may differ; y is not read when b is 0.
  /// - Throws: what the device reports.
  func accumulate(_ x: Tensor, scale a: Float, into y: Tensor, scale b: Float) throws
  /// Reduces the middle of f32 [outer, count, inner] to [outer, inner], f32; `argmax` gives positions from 0, i64. The
  /// count is at least 1, of sums also 0.
  /// - Throws: what the device reports.
  func reduce(_ operation: Reduction, _ x: Tensor, outer: Int, count: Int, inner: Int, into y: Tensor) throws
  /// x *= factor, f32 [1], which is not read back to the host; x of any float dtype, unchanged by a factor of 1.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func scale(_ x: Tensor, by factor: Tensor) throws
  /// Sum of squares of all elements of contiguous tensors in double precision: of each tensor in a fixed order, then of
  /// all in theirs. There is no f64 tensor, so `sum`, i64 [1], holds the bits of the double; see `Tensor.doubles`.
  /// - Throws: what the device reports.
  func sumOfSquares(_ tensors: [Tensor], into sum: Tensor) throws
  /// y (+)= keep ? x / (1 - p) : 0 with p rounded to a multiple of 2^-16; element i keeps when the i-th 16-bit number
  /// of the Philox stream, the lower half of each word first, is at least p * 2^16. A p above 1 - 2^-16 counts as that.
  /// - Throws: what the device reports.
  func dropout(_ x: Tensor, probability: Float, stream: RandomStream, into y: Tensor, accumulate: Bool) throws

  // MARK: Products

  /// c[m, n] = alpha * op(a) op(b) + beta * c on matrices of any float dtypes, whose rows may be apart. `precision`
  /// bf16 rounds the operands, sums stay f32; c is not read when beta is 0.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func matmul(
    _ a: Tensor, transposeA: Bool, _ b: Tensor, transposeB: Bool, alpha: Float, beta: Float, into c: Tensor,
    precision: DType) throws
  /// Products that do not depend on each other and write to different elements.
  /// - Throws: as `matmul`.
  func matmuls(_ products: [MatrixProduct], precision: DType) throws
  /// y[T, out] = alpha * x[T, in] W^T + beta * y, or with `transposed` dx[T, in] = alpha * dy[T, out] W + beta * dx.
  /// `precision` bf16 rounds x and the decoded W, sums stay f32; y is not read when beta is 0.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func quantizedMatmul(
    _ x: Tensor, _ weight: QuantizedOperand, transposed: Bool, alpha: Float, beta: Float, into y: Tensor,
    precision: DType) throws

  /// The same with a W in a block format.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func blockMatmul(
    _ x: Tensor, _ weight: BlockOperand, transposed: Bool, alpha: Float, beta: Float, into y: Tensor, precision: DType
  ) throws

  /// Linear layers that share their input x [T, in]: y_i = x W_i^T + h_i B_i^T with h_i = scaling_i x A_i^T, which is
  /// kept for the backward pass. See `LinearOutput`.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func linear(_ x: Tensor, _ layers: [LinearOperands], into outputs: [LinearOutput], precision: DType) throws
  /// dx = sum over the layers of dy_i W_i + g_i A_i with g_i = scaling_i dy_i B_i, which is kept for the gradients of
  /// the branches; only the latter without `dx`. See `LinearGradient`.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func linearBackward(
    _ gradients: [LinearGradient], _ layers: [LinearOperands], into dx: Tensor?, precision: DType) throws

  // MARK: Quantization

  /// 4-bit blockwise quantization to codes u8 [(n + 1) / 2] and maxima f32 [blocks], with an even block size.
  /// `firstBad`, i64 [1], gets -1, or the index of the first element that is not finite; then codes and maxima are
  /// undefined.
  /// - Throws: what the device reports.
  func quantize4(
    _ x: Tensor, kind: FourBitKind, blockSize: Int, codes: Tensor, absmax: Tensor, firstBad: Tensor) throws
  /// y = codebook[code] * absmax of the block, rounded to the float dtype of y.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func dequantize4(_ operand: QuantizedOperand, into y: Tensor) throws
  /// 8-bit quantization of f32 values against the signed dynamic map (exact nearest entry): codes u8 [n], maxima f32
  /// [blocks].
  /// - Throws: what the device reports.
  func quantize8(_ x: Tensor, blockSize: Int, codes: Tensor, absmax: Tensor) throws
  /// y = map[code] * absmax + offset in f32 with a map of 256 entries.
  /// - Throws: what the device reports.
  func dequantize8(codes: Tensor, absmax: Tensor, map: Tensor, blockSize: Int, offset: Float, into y: Tensor) throws

  /// Row t of y = row ids[t] of the matrix, or all rows in order without `ids`, i32; rounded to the float dtype of y.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func decodeBlocks(_ operand: BlockOperand, ids: Tensor?, into y: Tensor) throws

  // MARK: Decoder

  /// rows[t] = table[ids[t]], times weights[t] (f32) where there are any, with ids i32, which must be rows of the
  /// table; the float dtypes may differ.
  /// - Throws: what the device reports.
  func embedding(_ table: Tensor, ids: Tensor, weights: Tensor?, into rows: Tensor) throws
  /// dTable[ids[t]] += row t of all `parts`, one after another, times weights[t] (f32) where there are any. The parts
  /// have one dtype, ids are i32 and dTable is f32. Rows of one id are added in their order.
  /// - Throws: what the device reports.
  func embeddingBackward(_ parts: [Tensor], ids: Tensor, weights: Tensor?, into dTable: Tensor) throws
  /// y[t] = the sum over the columns of table[ids[t]] * rows[t], f32 [T], with ids i32; table and rows have one float
  /// dtype. It is what `embedding` with weights gives the weights as a gradient.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func embeddingDots(_ table: Tensor, ids: Tensor, _ rows: Tensor, into y: Tensor) throws
  /// y = x * rstd * (offset + weight) with rstd = 1 / sqrt(mean(x^2) + eps), kept in `rstd` [T],
  /// f32; y has the dtype of x. In bf16 x * rstd is rounded before the weight when the offset is 0, as in transformers'
  /// LlamaRMSNorm.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func rmsNorm(_ x: Tensor, weight: Tensor, offset: Float, epsilon: Float, into y: Tensor, rstd: Tensor) throws
  /// dx += (or =) the gradient; dWeight f32 [D] += when given.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func rmsNormBackward(
    _ dy: Tensor, _ x: Tensor, weight: Tensor, offset: Float, rstd: Tensor, into dx: Tensor, accumulate: Bool,
    dWeight: Tensor?) throws
  /// y = (x - mean) * rstd * weight + bias of each row with rstd = 1 / sqrt(mean((x - mean)^2) + eps); mean and rstd
  /// are kept, f32 [T]. Weight and bias are f32, y has the dtype of x.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func layerNorm(
    _ x: Tensor, weight: Tensor, bias: Tensor, epsilon: Float, into y: Tensor, mean: Tensor, rstd: Tensor) throws
  /// dx = the gradient; `sums`, f32 [2, D], gets that of the weight, then that of the bias, when given.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func layerNormBackward(
    _ dy: Tensor, _ x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, into dx: Tensor, sums: Tensor?) throws
  /// Multiplies the pairs (i, i + h) with i < h of each head of [T, heads, headDim] in place by the rotations whose
  /// cosines and sines stand in the rows of the f32 tables [rows, h] that `positions`, i32 [T], names; `inverse` by
  /// their transposes (Su et al. 2021). h is at most headDim / 2; what lies behind the first 2h elements stays.
  /// - Throws: what the device reports.
  func rope(
    _ x: Tensor, heads: Int, headDim: Int, cosine: Tensor, sine: Tensor, positions: Tensor, inverse: Bool) throws
  /// y = a(gate) * up with the activation a, elementwise; see `Activation.clampedSwish` for what that does to both. In
  /// bf16 a(gate) is rounded before the product.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func gated(_ activation: Activation, gate: Tensor, up: Tensor, into y: Tensor) throws
  /// dGate = dy * a'(gate) * up and dUp = dy * a(gate), elementwise; 0 of what the activation bounds.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func gatedBackward(
    _ activation: Activation, _ dy: Tensor, gate: Tensor, up: Tensor, dGate: Tensor, dUp: Tensor) throws
  /// y = a(x) with the activation a, elementwise.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func activated(_ activation: Activation, _ x: Tensor, into y: Tensor) throws
  /// dx = dy * a'(x), elementwise.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func activatedBackward(_ activation: Activation, _ dy: Tensor, _ x: Tensor, into dx: Tensor) throws
  /// y = cap * tanh(x / cap) of f32 elements; y may be x.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func softCap(_ x: Tensor, _ cap: Float, into y: Tensor) throws
  /// dx = dy * (1 - (y / cap)^2) with y the result of `softCap`; dx may be dy or y.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func softCapBackward(_ dy: Tensor, _ y: Tensor, _ cap: Float, into dx: Tensor) throws
  /// out = softmax(s) v of each head and sequence, with s = scale * q k^T where a query sees a key: in its own
  /// sequence, not after it, within the window. q and out are [T, heads, headDim], k and v [T, kvHeads, headDim];
  /// `lse`, f32 [heads, T], keeps the row log-sum-exps for the backward pass.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; `TensorError.badDType` when the segments
  ///   are not integers; what the device reports.
  func attention(_ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape, into out: Tensor, lse: Tensor) throws
  /// Gradients of `attention` from dOut, its operands and results; dq, dk and dv are overwritten.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; `TensorError.badDType` when the segments
  ///   are not integers; what the device reports.
  func attentionBackward(
    _ dOut: Tensor, _ q: Tensor, _ k: Tensor, _ v: Tensor, out: Tensor, lse: Tensor, _ shape: AttentionShape,
    dq: Tensor, dk: Tensor, dv: Tensor) throws
  /// Queries at positions start..<start+T against a cache of `length` keys [capacity, kvHeads, headDim].
  /// The segments are not read.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func cachedAttention(
    _ q: Tensor, keys: Tensor, values: Tensor, length: Int, start: Int, _ shape: AttentionShape, into out: Tensor)
    throws
  /// A causal convolution of each channel with SiLU behind it: y[t, c] = silu(sum over j of weight[j, c] * x[t - K + 1
  /// + j, c]), where rows before the start of the sequence are 0. x and y are [T, C] of one float dtype, weight is f32
  /// [K, C].
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; `TensorError.badDType` when the segments
  ///   are not integers; what the device reports.
  func causalConvolution(_ x: Tensor, weight: Tensor, segments: Tensor, into y: Tensor) throws
  /// Gradients of `causalConvolution` from dy and its operands; dx and, where given, dWeight, f32 [K, C], are
  /// overwritten.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; `TensorError.badDType` when the segments
  ///   are not integers; what the device reports.
  func causalConvolutionBackward(
    _ dy: Tensor, _ x: Tensor, weight: Tensor, segments: Tensor, dx: Tensor, dWeight: Tensor?) throws
  /// The gated delta rule of each value head and sequence: a state S, f32 [keyDim, valueDim] and zero at first, goes by
  /// each token with its query q and key k, both brought to the length 1, its value v, its decay g <= 0 and its beta b:
  ///
  /// S' = exp(g) S, S = S' + k (b (v - S'^T k))^T, out = S^T q / sqrt(keyDim).
  ///
  /// x is [T, width] (see `DeltaRuleShape`), out [T, valueWidth] of its dtype; g and b are f32 [T, valueHeads].
  /// `state`, f32 [valueHeads, keyDim, valueDim], is where the only sequence begins, and is left where it ends.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; `TensorError.badDType` when the segments
  ///   are not integers; what the device reports.
  func deltaRule(
    _ x: Tensor, decay: Tensor, beta: Tensor, _ shape: DeltaRuleShape, state: Tensor?, into out: Tensor) throws
  /// Gradients of `deltaRule` without a state, from dOut and its operands; dx, dDecay and dBeta are overwritten.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; `TensorError.badDType` when the segments
  ///   are not integers; what the device reports.
  func deltaRuleBackward(
    _ dOut: Tensor, _ x: Tensor, decay: Tensor, beta: Tensor, _ shape: DeltaRuleShape, dx: Tensor, dDecay: Tensor,
    dBeta: Tensor) throws
  /// Row-wise softmax over the last dimension in f32, or its logarithm.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func softmax(_ x: Tensor, into y: Tensor, logarithm: Bool) throws
  /// dx = y * (dy - sum(dy * y)) of each row with y the softmax, or dy - exp(y) * sum(dy) with y its logarithm; f32.
  /// - Throws: `TensorError.outOfMemory` when there is no room for workspace; what the device reports.
  func softmaxBackward(_ dy: Tensor, _ y: Tensor, into dx: Tensor, logarithm: Bool) throws
  /// losses[t] = -log softmax(logits[t])[labels[t]], 0 where the label is negative; with `gradientScale` the logits
  /// are overwritten by scale * (softmax - onehot), by 0 where the label is negative. Logits f32 [T, D], labels i32 [T]
  /// below D, losses f32 [T].
  /// - Throws: what the device reports.
  func crossEntropy(_ logits: Tensor, labels: Tensor, losses: Tensor, gradientScale: Float?) throws

  // MARK: Optimizers

  /// One fused update of an f32 parameter and its state in place, with the f32 gradient times `gradientScale`; `step`
  /// counts from 1. See `OptimizerUpdate`.
  /// - Throws: what the device reports.
  func update(
    _ update: OptimizerUpdate, parameter: Tensor, gradient: Tensor, state: [Tensor], step: Int, gradientScale: Float)
    throws
}
