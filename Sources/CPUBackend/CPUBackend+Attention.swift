import Numerics
import Tensors

extension CPUBackend {
  /// Runs one job per head and block of query rows of a sequence, those that see most keys first.
  ///
  /// Each job keeps a running softmax over blocks of keys, so no row of scores exists as a whole.
  /// - Throws: `TensorError.outOfMemory` for the scratch of the threads; `TensorError.badDType` for segments that are
  ///   not integers.
  public func attention(
    _ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape, into out: Tensor, lse: Tensor
  ) throws {
    let starts = try shape.segments.integers()
    let jobs = Geometry(q, k, v, out, shape)
    let tokens = q.shape[0]
    let scratch = try workerScratch.reserve(jobs.scratchCount(queryCount: 0))
    let rowSums = Shared(lse.floatAddress)
    let kernels = tables.attention
    let chunks = jobs.queryChunks(starts)
    try pool.runUnlessInterrupted(chunks.count * shape.heads) { index, worker in
      let (segment, rows) = chunks[index / shape.heads]
      let head = index % shape.heads
      var task = jobs.task(head: head, segment: segment, queries: rows, scratch: scratch[worker])
      task.lse = rowSums.value + head * tokens + segment.lowerBound + rows.lowerBound
      withUnsafePointer(to: task) { kernels.forward($0) }
    }
  }

  /// Runs one job per head over all query rows, or, for one row and a cache too long for the caches of a core, one per
  /// group of heads, which reads its keys and values once; the log-sum-exps are not kept.
  /// - Throws: `TensorError.outOfMemory` for the scratch of the threads.
  public func cachedAttention(
    _ q: Tensor, keys: Tensor, values: Tensor, length: Int, start: Int, _ shape: AttentionShape, into out: Tensor
  ) throws {
    let jobs = Geometry(q, keys, values, out, shape)
    let scratch = try workerScratch.reserve(jobs.scratchCount(queryCount: 0))
    let kernels = tables.attention
    let count = q.shape[0]
    let group = shape.heads / shape.kvHeads
    let isShared =
      count == 1 && group <= AttentionKernels.mostMembers
      && length * shape.headDim * q.dtype.byteCount >= Self.sharedKeyBytes
    let members = isShared ? group : 1
    let tasks = shape.heads / members
    let isAlone = count * length * shape.heads * shape.headDim <= Self.productsAlone
    let parts = isAlone ? 1 : tasks
    // Neighbouring heads share their keys and values.
    try pool.runUnlessInterrupted(parts, inShares: true) { part, worker in
      for index in tasks * part / parts..<tasks * (part + 1) / parts {
        var task = jobs.task(
          head: index * members, segment: 0..<count, queries: 0..<count, scratch: scratch[worker])
        task.memberCount = members
        task.sinks = jobs.sinks.map { $0 + index * members }
        task.keyCount = length
        task.queryOffset = start
        withUnsafePointer(to: task) { kernels.forward($0) }
      }
    }
  }

  /// So many products of queries with keys take less time than a second thread needs to see them.
  static let productsAlone = 1 << 15

  /// Keys of a head of so many bytes, with as many of values, do not stay in the caches of a core from head to head.
  static let sharedKeyBytes = 256 << 10

  /// Runs one job per head and sequence, which computes the weights again from `lse`.
  ///
  /// Each query head sums dk and dv in f32 [heads, T, headDim] of its own. The heads of a group are then added in order
  /// and rounded once, so the result does not depend on the number of threads.
  /// - Throws: `TensorError.outOfMemory` for these sums and the scratch of the threads; `TensorError.badDType` for
  ///   segments that are not integers.
  public func attentionBackward(
    _ dOut: Tensor, _ q: Tensor, _ k: Tensor, _ v: Tensor, out: Tensor, lse: Tensor, _ shape: AttentionShape,
    dq: Tensor, dk: Tensor, dv: Tensor
  ) throws {
    let starts = try shape.segments.integers()
    let jobs = Geometry(q, k, v, out, shape)
    let tokens = q.shape[0]
    let (heads, groups, headDim) = (shape.heads, shape.heads / shape.kvHeads, shape.headDim)
    let segments = zip(starts, starts.dropFirst()).map { $0..<$1 }
    let longest = segments.map(\.count).max() ?? 0
    let scratch = try workerScratch.reserve(jobs.scratchCount(queryCount: longest))
    // Each query head sums its own gradients of keys and values; the heads of a group are added in order afterwards.
    let partial = try Tensor(empty: [2, heads, tokens, headDim], category: .workspace, on: self)
    let sums = Shared(partial.floatAddress)
    let (gradient, dQueries, rowSums) = (Shared(dOut.address), Shared(dq.address), Shared(lse.floatAddress))
    let kernels = tables.attention
    let size = q.dtype.byteCount
    try pool.runUnlessInterrupted(segments.count * heads) { index, worker in
      let segment = segments[index / heads]
      let head = index % heads
      var task = jobs.task(head: head, segment: segment, queries: 0..<segment.count, scratch: scratch[worker])
      let offset = (segment.lowerBound * heads + head) * headDim * size
      task.dOut = UnsafeRawPointer(gradient.value + offset)
      task.dq = dQueries.value + offset
      task.lse = rowSums.value + head * tokens + segment.lowerBound
      task.dk = sums.value + (head * tokens + segment.lowerBound) * headDim
      task.dv = sums.value + ((heads + head) * tokens + segment.lowerBound) * headDim
      withUnsafePointer(to: task) { kernels.backward($0) }
    }
    let targets = Shared((dk.address, dv.address))
    let rows = tables.rows
    let (type, kvHeads) = (dk.type, shape.kvHeads)
    pool.forEachRange(tokens, grain: 32) { range, _ in
      for token in range {
        for head in 0..<kvHeads {
          for (which, target) in [targets.value.0, targets.value.1].enumerated() {
            let first = sums.value + ((which * heads + head * groups) * tokens + token) * headDim
            for member in 1..<max(1, groups) {
              rows.accumulate(first + member * tokens * headDim, 0, 1, first, 0, 1, headDim)
            }
            rows.cast(first, 0, target + (token * kvHeads + head) * headDim * size, type, headDim)
          }
        }
      }
    }
  }
}

/// Addresses and strides of one attention call.
private struct Geometry: @unchecked Sendable {
  let q, k, v: UnsafeRawPointer
  let out: UnsafeMutableRawPointer
  let sinks: UnsafePointer<Float>?
  let type: Int32
  let size: Int
  let shape: AttentionShape

  init(_ q: Tensor, _ k: Tensor, _ v: Tensor, _ out: Tensor, _ shape: AttentionShape) {
    self.q = UnsafeRawPointer(q.address)
    self.k = UnsafeRawPointer(k.address)
    self.v = UnsafeRawPointer(v.address)
    self.out = out.address
    self.sinks = shape.sinks.map { UnsafePointer($0.floatAddress) }
    self.type = q.type
    self.size = q.dtype.byteCount
    self.shape = shape
  }

  func scratchCount(queryCount: Int) -> Int {
    AttentionKernels.scratchCount(headDim: shape.headDim, queryCount: queryCount)
  }

  /// Blocks of query rows of each segment, those that see most keys first, so that its last jobs are short.
  func queryChunks(_ starts: [Int]) -> [(Range<Int>, Range<Int>)] {
    zip(starts, starts.dropFirst()).flatMap { start, end in
      stride(from: 0, to: end - start, by: 2 * AttentionKernels.block).reversed().map { row in
        (start..<end, row..<min(end - start, row + 2 * AttentionKernels.block))
      }
    }
  }

  /// Query rows of one head against the keys of their segment.
  func task(
    head: Int, segment: Range<Int>, queries: Range<Int>, scratch: UnsafeMutablePointer<Float>
  ) -> AttentionTask {
    let (heads, kvHeads, headDim) = (shape.heads, shape.kvHeads, shape.headDim)
    let row = ((segment.lowerBound + queries.lowerBound) * heads + head) * headDim * size
    let key = (segment.lowerBound * kvHeads + head * kvHeads / heads) * headDim * size
    var task = AttentionTask(
      q: q + row, k: k + key, v: v + key, out: out + row, lse: nil, type: type, queryStride: heads * headDim,
      keyStride: kvHeads * headDim, headDim: headDim, queryCount: queries.count, keyCount: segment.count,
      queryOffset: queries.lowerBound, window: shape.window, scale: shape.scale, scratch: scratch)
    task.softCap = shape.softCap
    if let sinks { task.sink = sinks[head] }
    return task
  }
}
