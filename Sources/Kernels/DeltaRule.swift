import CPlatform
import Numerics

extension Kernels {
  /// The outputs of a group of heads over a sequence.
  @inline(never)
  static func deltaForward(_ address: UnsafeRawPointer) {
    let task = address.assumingMemoryBound(to: DeltaTask.self).pointee
    let chunk = DeltaChunk(task)
    let size = task.type == 0 ? 4 : 2
    for member in 0..<task.members {
      let state = chunk.states + member &* chunk.stateCount
      DeltaChunk.vectors(chunk.stateCount) { j in storeFloats(state + j, splat(0)) }
      if let old = task.state { copyState(chunk, old + member &* task.keyDim &* task.valueDim, state, out: false) }
    }
    var first = 0
    while first < task.count {
      let n = min(RecurrentKernels.chunk, task.count &- first)
      chunk.loadKeys(first, n)
      for member in 0..<task.members {
        let state = chunk.states + member &* chunk.stateCount
        chunk.solve(member, first, n, state)
        smallProduct(
          chunk.qs, chunk.values, chunk.q, chunk.keys, 1, state, chunk.values, n, task.keyDim, chunk.values,
          adds: false)
        chunk.scaleRows(chunk.qs, chunk.grown, n, chunk.o)
        smallProduct(
          chunk.o, chunk.values, chunk.p, 64, 1, chunk.u, chunk.values, n, n, chunk.values, adds: true)
        chunk.store(
          chunk.o, chunk.values, n, task.valueDim, task.out + member &* task.valueDim &* size, task.outStride, first)
        chunk.advance(state, n)
      }
      first &+= n
    }
    guard let old = task.state else { return }
    for member in 0..<task.members {
      copyState(
        chunk, old + member &* task.keyDim &* task.valueDim, chunk.states + member &* chunk.stateCount, out: true)
    }
  }

  /// Between [keyDim, valueDim] and scratch, whose rows are padded.
  @inline(never)
  private static func copyState(
    _ chunk: DeltaChunk, _ plain: DeltaChunk.Floats, _ padded: DeltaChunk.Floats, out: Bool
  ) {
    for row in 0..<chunk.task.keyDim {
      let (a, b) = (plain + row &* chunk.task.valueDim, padded + row &* chunk.values)
      @inline(always) func step(_ j: Int, _ rest: Int) {
        if out {
          putElement16(a, 0, j, rest, loadFloats(b + j))
        } else {
          storeFloats(b + j, element16(a, 0, j, rest))
        }
      }
      forEachVector(chunk.task.valueDim, step)
    }
  }

  /// The gradients of a group of heads over a sequence: once forward for the states at the starts of chunks, then chunk
  /// by chunk from the last.
  @inline(never)
  static func deltaBackward(_ address: UnsafeRawPointer) {
    let task = address.assumingMemoryBound(to: DeltaTask.self).pointee
    let chunk = DeltaChunk(task)
    let (group, count) = (task.members &* chunk.stateCount, chunk.stateCount)
    let gradients = chunk.states
    let states = chunk.states + group
    DeltaChunk.vectors(2 &* group) { j in storeFloats(gradients + j, splat(0)) }
    var first = 0
    while first &+ RecurrentKernels.chunk < task.count {
      chunk.loadKeys(first, RecurrentKernels.chunk)
      let place = states + first / RecurrentKernels.chunk &* group
      for member in 0..<task.members {
        let (old, new) = (place + member &* count, place + (group &+ member &* count))
        chunk.solve(member, first, RecurrentKernels.chunk, old)
        DeltaChunk.vectors(count) { j in storeFloats(new + j, loadFloats(old + j)) }
        chunk.advance(new, RecurrentKernels.chunk)
      }
      first &+= RecurrentKernels.chunk
    }
    while first >= 0 {
      let n = min(RecurrentKernels.chunk, task.count &- first)
      chunk.loadKeys(first, n)
      DeltaChunk.vectors(RecurrentKernels.chunk &* chunk.keys) { j in
        storeFloats(chunk.dq + j, splat(0))
        storeFloats(chunk.dk + j, splat(0))
      }
      for member in 0..<task.members {
        let state = states + (first / RecurrentKernels.chunk &* group &+ member &* count)
        chunk.solve(member, first, n, state)
        chunk.backward(member, first, n, state, gradients + member &* count)
      }
      chunk.storeKeyGradients(first, n)
      first &-= RecurrentKernels.chunk
    }
  }
}

extension DeltaChunk {
  /// Gradients of one member in a chunk that `solve` has gone through, from the gradient of the state behind it, which
  /// becomes that of the state before it. Those of queries and keys are added to `dq` and `dk`.
  @inline(never)
  fileprivate func backward(_ member: Int, _ first: Int, _ n: Int, _ state: Floats, _ dState: Floats) {
    let size = task.type == 0 ? 4 : 2
    load(
      UnsafeRawPointer(task.out) + member &* task.valueDim &* size, task.outStride, first, n, task.valueDim, values, o)
    transpose(state, keys, values, sTransposed)
    transpose(dState, keys, values, dsTransposed)
    transpose(u, RecurrentKernels.chunk, values, uTransposed)
    smallProduct(qs, values, q, keys, 1, state, values, n, task.keyDim, values, adds: false)
    // r becomes the gradient of u, then that of the right side of its equations.
    smallProduct(x, values, k, keys, 1, dState, values, n, task.keyDim, values, adds: false)
    scaleRows(x, rest, n, r)
    smallProduct(r, values, p, 1, 64, o, values, n, n, values, adds: true)
    solveTransposed(n)
    smallProduct(ru, 64, r, values, 1, uTransposed, 64, n, task.valueDim, 64, adds: false)
    smallProduct(ou, 64, o, values, 1, uTransposed, 64, n, task.valueDim, 64, adds: false)
    rowGradients(n)
    pairGradients(n)
    let last = grown[n &- 1]
    dg[n &- 1] += last * dot(state, dState, stateCount)
    // dq and dk, first from pairs, then by way of the state.
    smallProduct(dq, keys, ou, 64, 1, k, keys, n, n, keys, adds: true)
    smallProduct(dq, keys, z, values, 1, sTransposed, keys, n, task.valueDim, keys, adds: true)
    smallProduct(dk, keys, ru, 64, 1, k, keys, n, n, keys, adds: true)
    smallProduct(dk, keys, ru, 1, 64, k, keys, n, n, keys, adds: true)
    smallProduct(dk, keys, ou, 1, 64, q, keys, n, n, keys, adds: true)
    smallProduct(dk, keys, y, values, 1, sTransposed, keys, n, task.valueDim, keys, adds: true)
    scaleRows(u, rest, n, x)
    smallProduct(dk, keys, x, values, 1, dsTransposed, keys, n, task.valueDim, keys, adds: true)
    Self.vectors(stateCount) { j in storeFloats(dState + j, splat(last) * loadFloats(dState + j)) }
    smallProduct(dState, values, q, 1, keys, z, values, task.keyDim, n, values, adds: true)
    smallProduct(dState, values, k, 1, keys, y, values, task.keyDim, n, values, adds: true)
    storeHeadGradients(member, first, n)
  }

  /// (1 + L)^T r = r in place, by blocks of 16 rows from the last.
  @inline(never)
  private func solveTransposed(_ n: Int) {
    var end = n
    while end > 0 {
      let block = (end &- 1) & ~15
      smallProduct(
        r + block &* values, values, negative + (end &* 64 &+ block), 1, 64, r + end &* values, values, end &- block,
        n &- end, values, adds: true)
      var row = end &- 2
      while row >= block {
        for later in row &+ 1..<end { addRow(r + row &* values, negative[later &* 64 &+ row], r + later &* values) }
        row &-= 1
      }
      end = block
    }
  }

  /// What follows row by row: `v` becomes the gradient of the values, `y` that of K S, `z` that of Q S; `dg` and
  /// `dBeta` begin.
  @inline(never)
  private func rowGradients(_ n: Int) {
    let last = n &- 1
    for row in 0..<n { (dg[row], dBeta[row]) = (0, 0) }
    for row in 0..<n {
      let at = row &* values
      var (bySize, held, shown, written) = (splat(0), splat(0), splat(0), splat(0))
      Self.vectors(values) { j in
        let solved = loadFloats(r + at + j)
        let dValue = splat(beta[row]) * solved
        let dHeld = splat(-grown[row]) * dValue
        let dShown = splat(grown[row]) * loadFloats(o + at + j)
        storeFloats(v + at + j, dValue)
        storeFloats(y + at + j, dHeld)
        storeFloats(z + at + j, dShown)
        bySize = madd(solved, loadFloats(w + at + j), bySize)
        held = madd(dHeld, loadFloats(ks + at + j), held)
        shown = madd(dShown, loadFloats(qs + at + j), shown)
        written = madd(loadFloats(u + at + j), loadFloats(x + at + j), written)
      }
      dBeta[row] = mm_sum(bySize)
      let later = rest[row] * mm_sum(written)
      dg[row] += mm_sum(held) + mm_sum(shown) - later
      dg[last] += later
    }
  }

  /// What follows from products of two tokens: `ru` becomes the gradient of k_i . k_j, `ou` that of q_i . k_j.
  @inline(never)
  private func pairGradients(_ n: Int) {
    for row in 0..<n {
      ru[row &* 65] = 0
      var (bySize, decays) = (splat(0), splat(0))
      Self.vectors(64) { j in
        let at = row &* 64 &+ j
        let (decay, byPair) = (loadFloats(d + at), loadFloats(ru + at))
        let (dQuery, dKey) = (loadFloats(ou + at) * decay, splat(0) - byPair * decay)
        // Both times the factor that depends on the decay.
        let change = madd(byPair, loadFloats(negative + at), loadFloats(ou + at) * loadFloats(p + at))
        bySize = madd(dKey, loadFloats(kk + at), bySize)
        decays = decays + change
        storeFloats(dg + j, loadFloats(dg + j) - change)
        storeFloats(ou + at, dQuery)
        storeFloats(ru + at, dKey * splat(beta[row]))
      }
      dBeta[row] += mm_sum(bySize)
      dg[row] += mm_sum(decays)
    }
  }

  /// Decays reach all tokens behind them.
  @inline(never)
  private func storeHeadGradients(_ member: Int, _ first: Int, _ n: Int) {
    let size = task.type == 0 ? 4 : 2
    if let dv = task.dv {
      store(v, values, n, task.valueDim, dv + member &* task.valueDim &* size, task.stride, first)
    }
    guard let dDecay = task.dDecay, let dBetas = task.dBeta else { return }
    var sum: Float = 0
    var row = n &- 1
    while row >= 0 {
      let at = (first &+ row) &* task.headStride &+ member
      sum += dg[row]
      dDecay[at] = sum
      dBetas[at] = dBeta[row]
      row &-= 1
    }
  }

  /// Through the lengths: of y = x / |x| the gradient is (dy - y (y . dy)) / |x|.
  @inline(never)
  fileprivate func storeKeyGradients(_ first: Int, _ n: Int) {
    guard let dQueries = task.dq, let dKeys = task.dk else { return }
    for row in 0..<n {
      let at = row &* keys
      throughLength(dq + at, q + at, qLength[row], task.queryScale)
      throughLength(dk + at, k + at, kLength[row], 1)
    }
    store(dq, keys, n, task.keyDim, dQueries, task.stride, first)
    store(dk, keys, n, task.keyDim, dKeys, task.stride, first)
  }

  @inline(__always)
  private func throughLength(_ gradient: Floats, _ row: Floats, _ factor: Float, _ scale: Float) {
    let along = dot(gradient, row, keys) / (scale * scale)
    Self.vectors(keys) { j in
      let rest = loadFloats(gradient + j) - splat(along) * loadFloats(row + j)
      storeFloats(gradient + j, splat(factor * scale) * rest)
    }
  }
}
