import Numerics
import Tensors

/// Elements per chunk of a memory-bound pass: 64 KiB of f32, well above the cost of handing out a chunk.
private let grain = 16384

extension CPUBackend {
  /// Rows per chunk so that a chunk has about `grain` elements.
  func rowGrain(_ width: Int) -> Int { max(1, grain / max(1, width)) }

  /// One vector loop in parallel over contiguous operands, which converts dtypes on its way.
  /// - Throws: Nothing.
  public func accumulate(_ x: Tensor, scale a: Float, into y: Tensor, scale b: Float) throws {
    let (source, target) = (Shared(x.address), Shared(y.address))
    let (kernels, xType, yType) = (tables.rows, x.type, y.type)
    let (xSize, ySize) = (x.dtype.byteCount, y.dtype.byteCount)
    inElements(x.elementCount) { range in
      kernels.accumulate(
        source.value + range.lowerBound * xSize, xType, a, target.value + range.lowerBound * ySize, yType, b,
        range.count)
    }
  }

  /// Splits elements at multiples of 128: neither the four vectors that kernels take together nor the elements of
  /// sixteen blocks of random numbers, whose counters share their upper word, are divided between chunks.
  func inElements(_ count: Int, _ body: @Sendable (Range<Int>) -> Void) {
    let groups = (count + 127) / 128
    pool.forEachRange(groups, grain: grain / 128) { range, _ in
      body(range.lowerBound * 128..<min(count, range.upperBound * 128))
    }
  }

  /// Draws the mask anew from the position of each element, so that none is stored.
  ///
  /// The rounded probability is at most 1 - 2^-16.
  /// - Throws: Nothing.
  public func dropout(
    _ x: Tensor, probability: Float, stream: RandomStream, into y: Tensor, accumulate: Bool
  ) throws {
    let (source, target) = (Shared(x.address), Shared(y.address))
    let (kernels, type) = (tables.rows, x.type)
    let threshold = min((probability * 0x1p16).rounded(), 0x1p16 - 1)
    let scale = 1 / (1 - threshold * 0x1p-16)
    inElements(x.elementCount) { range in
      kernels.dropout(
        source.value, type, range.lowerBound, range.count, stream.seed, stream.stream, UInt32(threshold), scale,
        target.value, accumulate)
    }
  }

  /// Reads a row twice: for the sum of its squares in f32, then for the product.
  ///
  /// With `offset` 0 a bf16 x has x * rstd rounded to bf16 before the weight is applied, as in LlamaRMSNorm of
  /// transformers; otherwise there is no such rounding, as in Gemma2RMSNorm.
  /// - Throws: Nothing.
  public func rmsNorm(
    _ x: Tensor, weight: Tensor, offset: Float, epsilon: Float, into y: Tensor, rstd: Tensor
  ) throws {
    let width = weight.elementCount
    let (source, target, scales, weights) = (
      Shared(x.address), Shared(y.address), Shared(rstd.floatAddress), Shared(weight.address)
    )
    let (kernels, type, weightType, size) = (tables.rows, x.type, weight.type, x.dtype.byteCount)
    pool.forEachRange(x.elementCount / width, grain: rowGrain(width)) { range, _ in
      let first = range.lowerBound * width * size
      kernels.norm(
        source.value + first, type, weights.value, weightType, offset, range.count, width, epsilon,
        target.value + first, scales.value + range.lowerBound)
    }
  }

  /// Works on groups of 64 rows in parallel. The weight's gradient is summed in f32 for each group and over the groups
  /// in order, so that it does not depend on the threads.
  /// - Throws: `TensorError.outOfMemory` for the sums of the groups, f32 [groups, D].
  public func rmsNormBackward(
    _ dy: Tensor, _ x: Tensor, weight: Tensor, offset: Float, rstd: Tensor, into dx: Tensor, accumulate: Bool,
    dWeight: Tensor?
  ) throws {
    let width = weight.elementCount
    let rows = x.elementCount / width
    let (gradient, source, target, scales, weights) = (
      Shared(dy.address), Shared(x.address), Shared(dx.address), Shared(rstd.floatAddress), Shared(weight.address)
    )
    let (kernels, type, weightType, size) = (tables.rows, x.type, weight.type, x.dtype.byteCount)
    // The weight's gradient is summed over fixed groups of rows, so that it does not depend on the threads.
    let rowsPerGroup = 64
    let groups = (rows + rowsPerGroup - 1) / rowsPerGroup
    let partial = try dWeight.map { _ in try Tensor(full: [groups, width], value: 0, category: .workspace, on: self) }
    let partials = Shared(partial?.floatAddress)
    pool.run(groups) { group, _ in
      let first = group * rowsPerGroup
      let at = first * width * size
      kernels.normBackward(
        gradient.value + at, source.value + at, type, weights.value, weightType, offset, scales.value + first,
        min(rowsPerGroup, rows - first), width, target.value + at, accumulate,
        partials.value.map { $0 + group * width })
    }
    guard let dWeight, let partial, !pool.isRehearsal else { return }
    for group in 0..<groups {
      kernels.accumulate(partial.floatAddress + group * width, 0, 1, dWeight.address, 0, 1, width)
    }
  }

  /// Rotates pairs of every head, rows in parallel.
  /// - Throws: Nothing.
  public func rope(
    _ x: Tensor, heads: Int, headDim: Int, cosine: Tensor, sine: Tensor, positions: Tensor, inverse: Bool
  ) throws {
    let width = heads * headDim
    let (target, cosines, sines, places) = (
      Shared(x.address), Shared(cosine.floatAddress), Shared(sine.floatAddress), Shared(positions.idAddress)
    )
    let (kernels, type, size, half) = (tables.rows, x.type, x.dtype.byteCount, cosine.shape[1])
    pool.forEachRange(x.elementCount / max(1, width), grain: rowGrain(width)) { range, _ in
      kernels.rope(
        target.value + range.lowerBound * width * size, type, range.count, heads, headDim, half, cosines.value,
        sines.value, places.value + range.lowerBound, inverse ? -1 : 1)
    }
  }

  /// One vector loop in parallel, in f32, rounded once to the dtype.
  /// - Throws: Nothing.
  public func gated(_ activation: Activation, gate: Tensor, up: Tensor, into y: Tensor) throws {
    let (gates, ups, target) = (Shared(gate.address), Shared(up.address), Shared(y.address))
    let (kernels, type, size) = (tables.rows, gate.type, gate.dtype.byteCount)
    inElements(gate.elementCount) { range in
      let offset = range.lowerBound * size
      kernels.gated(
        activation.rawValue, gates.value + offset, ups.value + offset, type, target.value + offset, range.count)
    }
  }

  /// One vector loop in parallel gives both gradients and computes the activation again.
  /// - Throws: Nothing.
  public func gatedBackward(
    _ activation: Activation, _ dy: Tensor, gate: Tensor, up: Tensor, dGate: Tensor, dUp: Tensor
  ) throws {
    let (gradient, gates, ups) = (Shared(dy.address), Shared(gate.address), Shared(up.address))
    let (gateTarget, upTarget) = (Shared(dGate.address), Shared(dUp.address))
    let (kernels, type, size) = (tables.rows, gate.type, gate.dtype.byteCount)
    inElements(gate.elementCount) { range in
      let offset = range.lowerBound * size
      kernels.gatedBackward(
        activation.rawValue, gradient.value + offset, gates.value + offset, ups.value + offset, type,
        gateTarget.value + offset, upTarget.value + offset, range.count)
    }
  }

  /// One vector loop in parallel, in f32, rounded once to the dtype.
  /// - Throws: Nothing.
  public func activated(_ activation: Activation, _ x: Tensor, into y: Tensor) throws {
    let (source, target) = (Shared(x.address), Shared(y.address))
    let (kernels, type, size) = (tables.rows, x.type, x.dtype.byteCount)
    inElements(x.elementCount) { range in
      let offset = range.lowerBound * size
      kernels.activated(activation.rawValue, source.value + offset, type, target.value + offset, range.count)
    }
  }

  /// One vector loop in parallel computes the activation's slope anew.
  /// - Throws: Nothing.
  public func activatedBackward(_ activation: Activation, _ dy: Tensor, _ x: Tensor, into dx: Tensor) throws {
    let (gradient, source, target) = (Shared(dy.address), Shared(x.address), Shared(dx.address))
    let (kernels, type, size) = (tables.rows, x.type, x.dtype.byteCount)
    inElements(x.elementCount) { range in
      let offset = range.lowerBound * size
      kernels.activatedBackward(
        activation.rawValue, gradient.value + offset, source.value + offset, type, target.value + offset, range.count)
    }
  }

  /// One vector loop in parallel.
  /// - Throws: Nothing.
  public func softCap(_ x: Tensor, _ cap: Float, into y: Tensor) throws {
    let (source, target) = (Shared(x.floatAddress), Shared(y.floatAddress))
    let kernels = tables.rows
    inElements(x.elementCount) { range in
      kernels.softCap(source.value + range.lowerBound, cap, target.value + range.lowerBound, range.count)
    }
  }

  /// One vector loop in parallel.
  /// - Throws: Nothing.
  public func softCapBackward(_ dy: Tensor, _ y: Tensor, _ cap: Float, into dx: Tensor) throws {
    let (gradient, result, target) = (Shared(dy.floatAddress), Shared(y.floatAddress), Shared(dx.floatAddress))
    let kernels = tables.rows
    inElements(y.elementCount) { range in
      let first = range.lowerBound
      kernels.softCapBackward(gradient.value + first, result.value + first, cap, target.value + first, range.count)
    }
  }

  /// Rows in parallel, each in one thread: its maximum, the sum of exponentials, then the quotients.
  /// - Throws: Nothing.
  public func softmax(_ x: Tensor, into y: Tensor, logarithm: Bool) throws {
    let width = x.shape.last ?? 1
    let (source, target) = (Shared(x.floatAddress), Shared(y.floatAddress))
    let kernels = tables.rows
    pool.forEachRange(x.elementCount / max(1, width), grain: rowGrain(width)) { range, _ in
      let offset = range.lowerBound * width
      kernels.softmax(source.value + offset, target.value + offset, range.count, width, logarithm)
    }
  }

  /// Rows in parallel, each in one thread: the sum over the row, then dx.
  /// - Throws: Nothing.
  public func softmaxBackward(_ dy: Tensor, _ y: Tensor, into dx: Tensor, logarithm: Bool) throws {
    let width = y.shape.last ?? 1
    let (gradient, result, target) = (Shared(dy.floatAddress), Shared(y.floatAddress), Shared(dx.floatAddress))
    let kernels = tables.rows
    pool.forEachRange(y.elementCount / max(1, width), grain: rowGrain(width)) { range, _ in
      let offset = range.lowerBound * width
      kernels.softmaxBackward(
        gradient.value + offset, result.value + offset, target.value + offset, range.count, width, logarithm)
    }
  }

  /// Rows in parallel, each in one thread. A label of V or more is not caught: it reads, and with a
  /// gradient writes, past the row.
  /// - Throws: Nothing.
  public func crossEntropy(_ logits: Tensor, labels: Tensor, losses: Tensor, gradientScale: Float?) throws {
    let width = logits.shape[1]
    let (rows, targets, results) = (
      Shared(logits.floatAddress), Shared(labels.idAddress), Shared(losses.floatAddress)
    )
    let kernels = tables.rows
    pool.forEachRange(logits.shape[0], grain: rowGrain(width)) { range, _ in
      kernels.crossEntropy(
        rows.value + range.lowerBound * width, range.count, width, targets.value + range.lowerBound,
        results.value + range.lowerBound, gradientScale ?? 0, gradientScale != nil)
    }
  }

  /// Converts rows in parallel. An id outside the table is not caught.
  /// - Throws: Nothing.
  public func embedding(_ table: Tensor, ids: Tensor, weights: Tensor?, into rows: Tensor) throws {
    let width = table.shape[1]
    let (source, indexes, target) = (Shared(table.address), Shared(ids.idAddress), Shared(rows.address))
    let factors = weights.map { Shared($0.floatAddress) }
    let (kernels, from, to) = (tables.rows, table.dtype, rows.dtype)
    pool.forEachRange(ids.elementCount, grain: rowGrain(width)) { range, _ in
      for row in range {
        let x = source.value + Int(indexes.value[row]) * width * from.byteCount
        let y = target.value + row * width * to.byteCount
        if let factors {
          kernels.accumulate(x, from.rawValue, factors.value[row], y, to.rawValue, 0, width)
        } else {
          kernels.cast(x, from.rawValue, y, to.rawValue, width)
        }
      }
    }
  }

  /// Rows in parallel, each in one thread.
  /// - Throws: Nothing.
  public func embeddingDots(_ table: Tensor, ids: Tensor, _ rows: Tensor, into y: Tensor) throws {
    let width = table.shape[1]
    let (source, indexes, partner, target) = (
      Shared(table.address), Shared(ids.idAddress), Shared(rows.address), Shared(y.floatAddress)
    )
    let (kernels, type, bytes) = (tables.rows, table.type, width * table.dtype.byteCount)
    pool.forEachRange(ids.elementCount, grain: rowGrain(width)) { range, _ in
      for row in range {
        target.value[row] = kernels.dot(
          source.value + Int(indexes.value[row]) * bytes, partner.value + row * bytes, type, width)
      }
    }
  }

  /// The rows of one id follow each other, and a worker adds all rows of the ids that begin in its range: a sum depends
  /// on no thread, and is at hand for all of its rows.
  /// - Throws: Nothing.
  public func embeddingBackward(_ parts: [Tensor], ids: Tensor, weights: Tensor?, into dTable: Tensor) throws {
    guard !pool.isRehearsal, let first = parts.first else { return }
    let width = dTable.shape[1]
    let (type, size, target) = (first.type, first.dtype.byteCount, Shared(dTable.floatAddress))
    let rows = parts.flatMap { part in
      (0..<part.shape[0]).map { Shared(UnsafeRawPointer(part.address) + $0 * width * size) }
    }
    let factors = weights.map { Shared($0.floatAddress) }
    // An id above its place: each is at most 31 bits.
    let order = rows.indices.map { Int(ids.idAddress[$0]) << 32 | $0 }.sorted()
    let kernels = tables.rows
    @Sendable func isFirstOfItsID(_ place: Int) -> Bool {
      place == 0 || order[place] >> 32 != order[place - 1] >> 32
    }
    pool.forEachRange(order.count, grain: max(1, grain / max(1, width))) { range, _ in
      guard var place = range.first(where: isFirstOfItsID) else { return }
      while place < order.count, place < range.upperBound || !isFirstOfItsID(place) {
        let (id, row) = (order[place] >> 32, order[place] & 0xffff_ffff)
        kernels.accumulate(rows[row].value, type, factors?.value[row] ?? 1, target.value + id * width, 0, 1, width)
        place += 1
      }
    }
  }
}
