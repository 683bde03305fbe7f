import Foundation
import Numerics
import Tensors
import Testing

@testable import CPUBackend

/// Attention by its definition, in double precision: every row of scores is written out.
private struct AttentionTwin {
  let (heads, kvHeads, headDim, window): (Int, Int, Int, Int)
  let starts: [Int]
  let scale: Double
  var softCap = 0.0
  var sinks: [Double]?

  /// Queries, keys and values [T, heads, headDim]; gives the output and, for `dOut`, the three gradients.
  func run(_ q: [Double], _ k: [Double], _ v: [Double], _ dOut: [Double]) -> (
    out: [Double], dq: [Double], dk: [Double], dv: [Double]
  ) {
    var out = [Double](repeating: 0, count: q.count)
    var (dq, dk, dv) = (out, [Double](repeating: 0, count: k.count), [Double](repeating: 0, count: k.count))
    for (first, end) in zip(starts, starts.dropFirst()) {
      for t in first..<end {
        let oldest = window > 0 ? max(first, t - window + 1) : first
        for h in 0..<heads {
          let query = (t * heads + h) * headDim
          func key(_ s: Int) -> Int { (s * kvHeads + h / (heads / kvHeads)) * headDim }
          var scores = (oldest...t).map { s in (0..<headDim).reduce(0.0) { $0 + q[query + $1] * k[key(s) + $1] } * scale
          }
          if softCap > 0 { scores = scores.map { softCap * tanh($0 / softCap) } }
          let top = max(scores.max()!, sinks?[h] ?? -.infinity)
          let sum = scores.reduce(sinks.map { exp($0[h] - top) } ?? 0) { $0 + exp($1 - top) }
          let p = scores.map { exp($0 - top) / sum }
          for (i, s) in (oldest...t).enumerated() {
            for c in 0..<headDim { out[query + c] += p[i] * v[key(s) + c] }
          }
          let dot = (0..<headDim).reduce(0.0) { $0 + dOut[query + $1] * out[query + $1] }
          for (i, s) in (oldest...t).enumerated() {
            let dp = (0..<headDim).reduce(0.0) { $0 + dOut[query + $1] * v[key(s) + $1] }
            let slope = softCap > 0 ? 1 - scores[i] * scores[i] / (softCap * softCap) : 1
            let ds = p[i] * (dp - dot) * slope * scale
            for c in 0..<headDim {
              dv[key(s) + c] += p[i] * dOut[query + c]
              dq[query + c] += ds * k[key(s) + c]
              dk[key(s) + c] += ds * q[query + c]
            }
          }
        }
      }
    }
    return (out, dq, dk, dv)
  }
}

@Suite struct AttentionTests {
  struct Case: CustomTestStringConvertible {
    var heads: Int
    var kvHeads: Int
    var headDim: Int
    var lengths: [Int]
    var window = 0
    var softCap: Float = 0
    var sinks: [Float]?
    var testDescription: String {
      "\(heads)/\(kvHeads) heads of \(headDim), sequences \(lengths), window \(window), cap \(softCap), "
        + "sinks \(sinks ?? [])"
    }
  }

  static let cases = [
    Case(heads: 1, kvHeads: 1, headDim: 32, lengths: [1]),
    Case(heads: 3, kvHeads: 1, headDim: 64, lengths: [65, 1, 63]),
    Case(heads: 4, kvHeads: 2, headDim: 40, lengths: [130, 17]),
    Case(heads: 2, kvHeads: 2, headDim: 128, lengths: [97]),
    Case(heads: 2, kvHeads: 1, headDim: 256, lengths: [66]),
    Case(heads: 2, kvHeads: 1, headDim: 32, lengths: [150, 40], window: 33),
    Case(heads: 1, kvHeads: 1, headDim: 17, lengths: [70], window: 1),
    // The 129th query is a task of its own; a window of more than one block.
    Case(heads: 2, kvHeads: 1, headDim: 48, lengths: [129, 2, 257], window: 100),
    Case(heads: 2, kvHeads: 1, headDim: 40, lengths: [130, 17], softCap: 3),
    Case(heads: 2, kvHeads: 2, headDim: 32, lengths: [70, 1], sinks: [-1, 4]),
    Case(heads: 2, kvHeads: 1, headDim: 64, lengths: [131], window: 20, softCap: 5, sinks: [2, 0]),
  ]

  @Test(arguments: cases, [DType.f32, .bf16, .f16])
  func forwardAndBackwardEqualTheDefinition(of c: Case, type: DType) throws {
    let tokens = c.lengths.reduce(0, +)
    let starts = c.lengths.reduce(into: [0]) { $0.append($0.last! + $1) }
    let queryShape = [tokens, c.heads, c.headDim], keyShape = [tokens, c.kvHeads, c.headDim]
    var threads = SameBits()
    for backend in backends {
      let q = try GuardedTensor(random: 1, queryShape, type, scale: 2, on: backend)
      let k = try GuardedTensor(random: 2, keyShape, type, scale: 2, on: backend)
      let v = try GuardedTensor(random: 3, keyShape, type, on: backend)
      let dOut = try GuardedTensor(random: 4, queryShape, type, on: backend)
      let out = GuardedTensor(empty: queryShape, type, on: backend)
      let dq = GuardedTensor(empty: queryShape, type, on: backend)
      let dk = GuardedTensor(empty: keyShape, type, on: backend)
      let dv = GuardedTensor(empty: keyShape, type, on: backend)
      let lse = GuardedTensor(empty: [c.heads, tokens], on: backend)
      let shape = AttentionShape(
        heads: c.heads, kvHeads: c.kvHeads, headDim: c.headDim,
        segments: try Tensor(ids: starts.map(Int32.init), shape: [starts.count], on: backend), window: c.window,
        softCap: c.softCap, sinks: try c.sinks.map { try Tensor($0, on: backend) })
      try backend.attention(q.tensor, k.tensor, v.tensor, shape, into: out.tensor, lse: lse.tensor)
      try backend.attentionBackward(
        dOut.tensor, q.tensor, k.tensor, v.tensor, out: out.tensor, lse: lse.tensor, shape, dq: dq.tensor,
        dk: dk.tensor, dv: dv.tensor)
      let twin = AttentionTwin(
        heads: c.heads, kvHeads: c.kvHeads, headDim: c.headDim, window: c.window, starts: starts,
        scale: Double(shape.scale), softCap: Double(c.softCap), sinks: c.sinks?.map(Double.init))
      let wanted = twin.run(
        try q.values().map(Double.init), try k.values().map(Double.init), try v.values().map(Double.init),
        try dOut.values().map(Double.init))
      // The backward pass reads the rounded output, whose error the row's dot product carries on.
      let bound = type == .f32 ? 2e-5 : 2 * tolerance(type)
      for (got, values) in [(out, wanted.out), (dq, wanted.dq), (dk, wanted.dk), (dv, wanted.dv)] {
        #expect(largestError(try got.values(), values) < bound)
        #expect(got.isIntact)
      }
      #expect(lse.isIntact)
      try threads.check([out, dq, dk, dv, lse], on: backend)
    }
  }

  /// The scratch memory of a task is as large as `scratchCount` says, and has guard pages of its own.
  @Test(arguments: [1, 17, 32, 40, 128, 256], [DType.f32, .bf16])
  func scratchHoldsWhatTheKernelsNeed(headDim: Int, type: DType) throws {
    let tokens = 67
    for backend in backends where backend.pool.threadCount == 1 {
      let tensors = try (0..<6).map {
        try GuardedTensor(random: $0, [tokens, headDim], type, on: backend)
      }
      let lse = GuardedTensor(empty: [tokens], on: backend)
      let sums = try (0..<2).map { _ in try GuardedTensor(zeros: [tokens, headDim], on: backend) }
      let address = tensors.map(\.tensor.address)
      func scratch(_ queries: Int) -> GuardPages {
        GuardPages(byteCount: 4 * AttentionKernels.scratchCount(headDim: headDim, queryCount: queries))
      }
      let kernels = KernelTables(backend.instructionSet).attention
      let rowSums = lse.tensor.address.assumingMemoryBound(to: Float.self)
      let (short, long) = (scratch(0), scratch(tokens))
      var task = AttentionTask(
        q: address[0], k: address[1], v: address[2], out: address[3], lse: rowSums, type: type.rawValue,
        queryStride: headDim, keyStride: headDim, headDim: headDim, queryCount: tokens, keyCount: tokens,
        queryOffset: 0, window: 0, scale: 1, scratch: short.values(of: Float.self))
      withUnsafePointer(to: task) { kernels.forward($0) }
      task.scratch = long.values(of: Float.self)
      task.dOut = UnsafeRawPointer(address[4])
      task.dq = address[5]
      task.dk = sums[0].tensor.address.assumingMemoryBound(to: Float.self)
      task.dv = sums[1].tensor.address.assumingMemoryBound(to: Float.self)
      withUnsafePointer(to: task) { kernels.backward($0) }
      task.queryCount = 1
      task.scratch = short.values(of: Float.self)
      withUnsafePointer(to: task) { kernels.forward($0) }
      // Named once more, because only addresses of them went into the task.
      #expect((tensors + sums + [lse]).allSatisfy(\.isIntact) && short.isIntact && long.isIntact)
    }
  }

  /// Some rows at a time against the cache, one row as in generation among them.
  @Test(
    arguments: [(64, 0, 0), (64, 20, 0), (40, 0, 4), (17, 1, 0), (256, 70, 0)] as [(Int, Int, Float)],
    [DType.f32, .bf16, .f16])
  func theCacheGivesTheSameRows(shape s: (headDim: Int, window: Int, softCap: Float), type: DType) throws {
    // The case with a cap has sinks too.
    let sinks: [Float]? = s.softCap > 0 ? [1, -2, 3, 0] : nil
    let (tokens, heads, kvHeads) = (131, 4, 2)
    for backend in backends {
      let q = try GuardedTensor(random: 1, [tokens, heads, s.headDim], type, scale: 2, on: backend)
      let k = try GuardedTensor(random: 2, [tokens, kvHeads, s.headDim], type, scale: 2, on: backend)
      let v = try GuardedTensor(random: 3, [tokens, kvHeads, s.headDim], type, on: backend)
      let shape = AttentionShape(
        heads: heads, kvHeads: kvHeads, headDim: s.headDim,
        segments: try Tensor(ids: [0, Int32(tokens)], shape: [2], on: backend), window: s.window,
        softCap: s.softCap, sinks: try sinks.map { try Tensor($0, on: backend) })
      let twin = AttentionTwin(
        heads: heads, kvHeads: kvHeads, headDim: s.headDim, window: s.window, starts: [0, tokens],
        scale: Double(shape.scale), softCap: Double(s.softCap), sinks: sinks?.map(Double.init))
      let wanted = twin.run(
        try q.values().map(Double.init), try k.values().map(Double.init), try v.values().map(Double.init),
        [Double](repeating: 0, count: tokens * heads * s.headDim)
      ).out
      for rows in [0..<1, 5..<6, 63..<64, 64..<91, 90..<91, 130..<131] {
        let some = GuardedTensor(empty: [rows.count, heads, s.headDim], type, on: backend)
        try backend.cachedAttention(
          q.tensor.narrowed(0, rows), keys: k.tensor.narrowed(0, 0..<rows.upperBound),
          values: v.tensor.narrowed(0, 0..<rows.upperBound), length: rows.upperBound, start: rows.lowerBound, shape,
          into: some.tensor)
        let width = heads * s.headDim
        let part = Array(wanted[rows.lowerBound * width..<rows.upperBound * width])
        #expect(largestError(try some.values(), part) < (type == .f32 ? 4e-6 : 2 * tolerance(type)))
        #expect(some.isIntact)
      }
    }
  }

  /// Heads of a group that go through a long cache together give the bits of each head alone.
  @Test(arguments: [DType.f32, .bf16]) func aGroupOfHeadsGivesTheBitsOfEach(type: DType) throws {
    let (heads, kvHeads, headDim) = (6, 2, 64)
    let length = CPUBackend.sharedKeyBytes / (headDim * type.byteCount) + 37
    for backend in backends {
      let q = try GuardedTensor(random: 1, [1, heads, headDim], type, scale: 2, on: backend)
      let k = try GuardedTensor(random: 2, [length, kvHeads, headDim], type, scale: 2, on: backend)
      let v = try GuardedTensor(random: 3, [length, kvHeads, headDim], type, on: backend)
      let sinks: [Float] = [1, -2, 3, 0, 5, -1]
      func attend(_ heads: Range<Int>, _ keys: Range<Int>) throws -> [Float] {
        let shape = AttentionShape(
          heads: heads.count, kvHeads: keys.count, headDim: headDim,
          segments: try Tensor(ids: [0, 1], shape: [2], on: backend), window: 0, softCap: 20,
          sinks: try Tensor(Array(sinks[heads]), on: backend))
        let out = GuardedTensor(empty: [1, heads.count, headDim], type, on: backend)
        try backend.cachedAttention(
          q.tensor.narrowed(1, heads).contiguous(), keys: k.tensor.narrowed(1, keys).contiguous(),
          values: v.tensor.narrowed(1, keys).contiguous(), length: length, start: length - 1, shape, into: out.tensor)
        #expect(out.isIntact)
        return try out.values()
      }
      let each = try (0..<heads).flatMap { try attend($0..<$0 + 1, $0 / 3..<$0 / 3 + 1) }
      #expect(try attend(0..<heads, 0..<kvHeads) == each)
    }
  }
}
