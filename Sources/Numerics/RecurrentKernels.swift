/// The gated delta rule of one key head and the value heads that share it, over one sequence, for the kernels. Strides
/// count elements; what is said of value heads lies for those of the group one after the other.
package struct DeltaTask: @unchecked Sendable {
  /// First rows of query, key and values, and the distance of rows.
  package var q: UnsafeRawPointer
  package var k: UnsafeRawPointer
  package var v: UnsafeRawPointer
  package var stride: Int
  /// DType of q, k, v, out, dOut and the gradients of q, k, v.
  package var type: Int32
  package var keyDim: Int
  package var valueDim: Int
  /// Value heads of the group.
  package var members: Int
  package var count: Int
  /// Decays and betas of the group, f32, with the distance of rows.
  package var decay: UnsafePointer<Float>
  package var beta: UnsafePointer<Float>
  package var headStride: Int
  package var queryScale: Float
  package var epsilon: Float
  /// Output of the group, or the gradient of it, with the distance of rows.
  package var out: UnsafeMutableRawPointer
  package var outStride: Int
  /// f32 [members, keyDim, valueDim], read and overwritten; nil begins with zeros.
  package var state: UnsafeMutablePointer<Float>?
  /// Gradients, which lie as their operands do.
  package var dq: UnsafeMutableRawPointer?
  package var dk: UnsafeMutableRawPointer?
  package var dv: UnsafeMutableRawPointer?
  package var dDecay: UnsafeMutablePointer<Float>?
  package var dBeta: UnsafeMutablePointer<Float>?
  /// `RecurrentKernels.scratchCount` floats.
  package var scratch: UnsafeMutablePointer<Float>

  package init(
    q: UnsafeRawPointer, k: UnsafeRawPointer, v: UnsafeRawPointer, stride: Int, type: Int32, keyDim: Int,
    valueDim: Int, members: Int, count: Int, decay: UnsafePointer<Float>, beta: UnsafePointer<Float>, headStride: Int,
    queryScale: Float, epsilon: Float, out: UnsafeMutableRawPointer, outStride: Int,
    scratch: UnsafeMutablePointer<Float>
  ) {
    (self.q, self.k, self.v, self.stride, self.type) = (q, k, v, stride, type)
    (self.keyDim, self.valueDim, self.members, self.count) = (keyDim, valueDim, members, count)
    (self.decay, self.beta, self.headStride) = (decay, beta, headStride)
    (self.queryScale, self.epsilon) = (queryScale, epsilon)
    (self.out, self.outStride, self.scratch) = (out, outStride, scratch)
  }
}

/// The functions of recurrent layers in one instruction-set build. `type` is a DType raw value; arithmetic is f32. x is
/// the first row of a sequence, [n, C]; rows first..<first + count are worked on. Weights are f32 [K, C].
package struct RecurrentKernels: Sendable {
  /// y = silu(sum of weight[j] * x[t - K + 1 + j]): (x, type, weight, K, C, first, count, y)
  package typealias Convolution =
    @convention(c) (
      UnsafeRawPointer, Int32, UnsafePointer<Float>, Int, Int, Int, Int, UnsafeMutableRawPointer
    ) -> Void
  /// The gradient of those sums, f32: (dy, x, type, weight, K, C, first, count, slopes)
  package typealias ConvolutionSlopes =
    @convention(c) (
      UnsafeRawPointer, UnsafeRawPointer, Int32, UnsafePointer<Float>, Int, Int, Int, Int, UnsafeMutablePointer<Float>
    ) -> Void
  /// dx from the slopes: (slopes, weight, K, C, n, first, count, dx, type)
  package typealias ConvolutionInputs =
    @convention(c) (
      UnsafePointer<Float>, UnsafePointer<Float>, Int, Int, Int, Int, Int, UnsafeMutableRawPointer, Int32
    ) -> Void
  /// dWeight += of columns first..<first + count over all rows: (slopes, x, type, K, C, n, first, count, dWeight)
  package typealias ConvolutionWeights =
    @convention(c) (
      UnsafePointer<Float>, UnsafeRawPointer, Int32, Int, Int, Int, Int, Int, UnsafeMutablePointer<Float>
    ) -> Void
  /// Takes the address of a `DeltaTask`.
  package typealias Run = @convention(c) (UnsafeRawPointer) -> Void

  package var convolution: Convolution
  package var convolutionSlopes: ConvolutionSlopes
  package var convolutionInputs: ConvolutionInputs
  package var convolutionWeights: ConvolutionWeights
  package var forward: Run
  package var backward: Run

  /// Tokens of a chunk, whose mutual products are a matrix.
  @inlinable package static var chunk: Int { 64 }

  /// Floats of scratch. The way back keeps the states at the starts of all chunks.
  package static func scratchCount(
    keyDim: Int, valueDim: Int, members: Int, count: Int, backward: Bool
  ) -> Int {
    let (keys, values) = ((keyDim + 15) & ~15, (valueDim + 15) & ~15)
    let chunks = backward ? (count + chunk - 1) / chunk : 1
    return chunk * (5 * keys + 11 * values + 7 * chunk + 8) + keys * values * (members * (chunks + 1) + 2)
  }

  package init(
    convolution: @escaping Convolution, convolutionSlopes: @escaping ConvolutionSlopes,
    convolutionInputs: @escaping ConvolutionInputs, convolutionWeights: @escaping ConvolutionWeights,
    forward: @escaping Run, backward: @escaping Run
  ) {
    self.convolution = convolution
    self.convolutionSlopes = convolutionSlopes
    self.convolutionInputs = convolutionInputs
    self.convolutionWeights = convolutionWeights
    self.forward = forward
    self.backward = backward
  }
}
