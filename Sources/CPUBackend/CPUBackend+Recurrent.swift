import Numerics
import Tensors

extension CPUBackend {
  /// Works on blocks of rows in parallel.
  /// - Throws: `TensorError.badDType` for segments that are not integers.
  public func causalConvolution(_ x: Tensor, weight: Tensor, segments: Tensor, into y: Tensor) throws {
    let blocks = try rowBlocks(segments)
    let (source, target, weights) = (Shared(x.address), Shared(y.address), Shared(weight.floatAddress))
    let (taps, channels) = (weight.shape[0], weight.shape[1])
    let (kernels, type, size) = (tables.recurrent, x.type, x.dtype.byteCount)
    pool.run(blocks.count) { index, _ in
      let (sequence, rows) = blocks[index]
      let at = sequence.lowerBound * channels * size
      kernels.convolution(
        source.value + at, type, weights.value, taps, channels, rows.lowerBound, rows.count, target.value + at)
    }
  }

  /// The gradients of the sums before SiLU are kept in f32 [T, C]. Those of the weights are summed over the rows in
  /// order.
  /// - Throws: `TensorError.outOfMemory` for these gradients; `TensorError.badDType` for segments that are not
  ///   integers.
  public func causalConvolutionBackward(
    _ dy: Tensor, _ x: Tensor, weight: Tensor, segments: Tensor, dx: Tensor, dWeight: Tensor?
  ) throws {
    let blocks = try rowBlocks(segments)
    let partial = try Tensor(empty: x.shape, category: .workspace, on: self)
    let (source, gradient, target) = (Shared(x.address), Shared(dy.address), Shared(dx.address))
    let (weights, slopes) = (Shared(weight.floatAddress), Shared(partial.floatAddress))
    let (taps, channels) = (weight.shape[0], weight.shape[1])
    let (kernels, type, size) = (tables.recurrent, x.type, x.dtype.byteCount)
    pool.run(blocks.count) { index, _ in
      let (sequence, rows) = blocks[index]
      let at = sequence.lowerBound * channels
      kernels.convolutionSlopes(
        gradient.value + at * size, source.value + at * size, type, weights.value, taps, channels, rows.lowerBound,
        rows.count, slopes.value + at)
    }
    pool.run(blocks.count) { index, _ in
      let (sequence, rows) = blocks[index]
      let at = sequence.lowerBound * channels
      kernels.convolutionInputs(
        slopes.value + at, weights.value, taps, channels, sequence.count, rows.lowerBound, rows.count,
        target.value + at * size, type)
    }
    guard let dWeight else { return }
    try zero(dWeight)
    let sequences = try borders(of: segments)
    let sums = Shared(dWeight.floatAddress)
    let width = 64
    pool.run((channels + width - 1) / width) { index, _ in
      for sequence in sequences {
        let at = sequence.lowerBound * channels
        kernels.convolutionWeights(
          slopes.value + at, source.value + at * size, type, taps, channels, sequence.count, index * width,
          min(width, channels - index * width), sums.value)
      }
    }
    withExtendedLifetime(partial) {}
  }

  /// Runs one job per key head and sequence, which takes its chunks of 64 tokens one after the other.
  /// - Throws: `TensorError.outOfMemory` for the scratch of the threads; `TensorError.badDType` for segments that are
  ///   not integers.
  public func deltaRule(
    _ x: Tensor, decay: Tensor, beta: Tensor, _ shape: DeltaRuleShape, state: Tensor?, into out: Tensor
  ) throws {
    let jobs = DeltaJobs(x, decay, beta, shape, out)
    let sequences = try borders(of: shape.segments)
    let scratch = try workerScratch.reserve(jobs.scratchCount(sequences, backward: false))
    let states = Shared(state?.floatAddress)
    let kernels = tables.recurrent
    let stateCount = jobs.members * shape.keyDim * shape.valueDim
    try pool.runUnlessInterrupted(sequences.count * shape.keyHeads) { index, worker in
      let head = index % jobs.shape.keyHeads
      var task = jobs.task(head, sequences[index / jobs.shape.keyHeads], scratch[worker])
      task.state = states.value.map { $0 + head * stateCount }
      withUnsafePointer(to: task) { kernels.forward($0) }
    }
  }

  /// Runs one job per key head and sequence, which goes forward for the states at the starts of its chunks, kept in its
  /// scratch, and back. The value heads of a group add to the gradients of query and key in order.
  /// - Throws: `TensorError.outOfMemory` for the scratch of the threads; `TensorError.badDType` for segments that are
  ///   not integers.
  public func deltaRuleBackward(
    _ dOut: Tensor, _ x: Tensor, decay: Tensor, beta: Tensor, _ shape: DeltaRuleShape, dx: Tensor, dDecay: Tensor,
    dBeta: Tensor
  ) throws {
    let jobs = DeltaJobs(x, decay, beta, shape, dOut)
    let sequences = try borders(of: shape.segments)
    let scratch = try workerScratch.reserve(jobs.scratchCount(sequences, backward: true))
    let targets = DeltaJobs(dx, dDecay, dBeta, shape, dOut)
    let kernels = tables.recurrent
    try pool.runUnlessInterrupted(sequences.count * shape.keyHeads) { index, worker in
      let (head, sequence) = (index % jobs.shape.keyHeads, sequences[index / jobs.shape.keyHeads])
      var task = jobs.task(head, sequence, scratch[worker])
      let target = targets.task(head, sequence, scratch[worker])
      task.dq = UnsafeMutableRawPointer(mutating: target.q)
      task.dk = UnsafeMutableRawPointer(mutating: target.k)
      task.dv = UnsafeMutableRawPointer(mutating: target.v)
      task.dDecay = UnsafeMutablePointer(mutating: target.decay)
      task.dBeta = UnsafeMutablePointer(mutating: target.beta)
      withUnsafePointer(to: task) { kernels.backward($0) }
    }
  }

  /// The sequences that hold tokens.
  private func borders(of segments: Tensor) throws -> [Range<Int>] {
    let starts = try segments.integers()
    return zip(starts, starts.dropFirst()).map { $0..<$1 }.filter { !$0.isEmpty }
  }

  /// Blocks of 32 rows of each sequence, counted from its start.
  private func rowBlocks(_ segments: Tensor) throws -> [(sequence: Range<Int>, rows: Range<Int>)] {
    try borders(of: segments).flatMap { sequence in
      stride(from: 0, to: sequence.count, by: 32).map { (sequence, $0..<min($0 + 32, sequence.count)) }
    }
  }
}

/// Addresses and strides of one call of the delta rule.
private struct DeltaJobs: @unchecked Sendable {
  let x: UnsafeMutableRawPointer
  let decay, beta: UnsafeMutablePointer<Float>
  let out: UnsafeMutableRawPointer
  let type: Int32
  let size: Int
  let shape: DeltaRuleShape

  init(_ x: Tensor, _ decay: Tensor, _ beta: Tensor, _ shape: DeltaRuleShape, _ out: Tensor) {
    (self.x, self.decay, self.beta, self.out) = (x.address, decay.floatAddress, beta.floatAddress, out.address)
    (type, size, self.shape) = (x.type, x.dtype.byteCount, shape)
  }

  /// Value heads that share a key head.
  var members: Int { shape.valueHeads / shape.keyHeads }

  func scratchCount(_ sequences: [Range<Int>], backward: Bool) -> Int {
    RecurrentKernels.scratchCount(
      keyDim: shape.keyDim, valueDim: shape.valueDim, members: members, count: sequences.map(\.count).max() ?? 0,
      backward: backward)
  }

  func task(_ head: Int, _ sequence: Range<Int>, _ scratch: UnsafeMutablePointer<Float>) -> DeltaTask {
    let row = x + sequence.lowerBound * shape.width * size
    let (keys, first) = (shape.keyHeads * shape.keyDim, head * members)
    let numbers = sequence.lowerBound * shape.valueHeads + first
    return DeltaTask(
      q: row + head * shape.keyDim * size, k: row + (keys + head * shape.keyDim) * size,
      v: row + (2 * keys + first * shape.valueDim) * size, stride: shape.width, type: type, keyDim: shape.keyDim,
      valueDim: shape.valueDim, members: members, count: sequence.count, decay: decay + numbers, beta: beta + numbers,
      headStride: shape.valueHeads, queryScale: shape.queryScale, epsilon: DeltaRuleShape.epsilon,
      out: out + (sequence.lowerBound * shape.valueWidth + first * shape.valueDim) * size,
      outStride: shape.valueWidth, scratch: scratch)
  }
}
