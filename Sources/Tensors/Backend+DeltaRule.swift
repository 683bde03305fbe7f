import Glibc

extension Backend {
  /// Goes token by token through copies of the operands on the host.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.badDType` when the segments are not integers; what the device
  ///   reports.
  public func deltaRule(
    _ x: Tensor, decay: Tensor, beta: Tensor, _ shape: DeltaRuleShape, state: Tensor?, into out: Tensor
  ) throws {
    let host = HostDeltaRule(try x.floats(), try decay.floats(), try beta.floats(), shape)
    var result = [Float](repeating: 0, count: out.elementCount)
    var states = try state?.floats() ?? [Float](repeating: 0, count: shape.valueHeads * host.stateCount)
    for head in 0..<shape.valueHeads {
      let place = head * host.stateCount..<(head + 1) * host.stateCount
      for (start, end) in try borders(shape.segments) {
        var s = state == nil ? [Float](repeating: 0, count: host.stateCount) : Array(states[place])
        for row in start..<end {
          let token = host.token(row, head)
          host.step(token, &s)
          for j in 0..<shape.valueDim {
            var sum: Float = 0
            for i in 0..<shape.keyDim { sum += token.query[i] * s[i * shape.valueDim + j] }
            result[row * shape.valueWidth + head * shape.valueDim + j] = sum
          }
        }
        if state != nil { states.replaceSubrange(place, with: s) }
      }
    }
    try copy(try Tensor(result, shape: out.shape, category: .workspace, on: self), into: out)
    if let state { try copy(try Tensor(states, shape: state.shape, category: .workspace, on: self), into: state) }
  }

  /// Goes token by token through copies of the operands on the host, back through the states that the way there left.
  /// - Throws: `TensorError.outOfMemory`; `TensorError.badDType` when the segments are not integers; what the device
  ///   reports.
  public func deltaRuleBackward(
    _ dOut: Tensor, _ x: Tensor, decay: Tensor, beta: Tensor, _ shape: DeltaRuleShape, dx: Tensor, dDecay: Tensor,
    dBeta: Tensor
  ) throws {
    let host = HostDeltaRule(try x.floats(), try decay.floats(), try beta.floats(), shape)
    let gradient = try dOut.floats()
    var dInput = [Float](repeating: 0, count: x.elementCount)
    var (dDecays, dBetas) = (host.decay.map { _ in Float(0) }, host.beta.map { _ in Float(0) })
    for head in 0..<shape.valueHeads {
      for (start, end) in try borders(shape.segments) {
        var states = [[Float](repeating: 0, count: host.stateCount)]
        for row in start..<end {
          var s = states[states.count - 1]
          host.step(host.token(row, head), &s)
          states.append(s)
        }
        var dState = [Float](repeating: 0, count: host.stateCount)
        for row in (start..<end).reversed() {
          let at = row * shape.valueWidth + head * shape.valueDim
          let d = host.gradients(
            Array(gradient[at..<at + shape.valueDim]), host.token(row, head), before: states[row - start],
            after: states[row - start + 1], &dState)
          dDecays[row * shape.valueHeads + head] = d.decay
          dBetas[row * shape.valueHeads + head] = d.beta
          host.add(d.query, d.key, d.value, row, head, to: &dInput)
        }
      }
    }
    for (values, target) in [(dInput, dx), (dDecays, dDecay), (dBetas, dBeta)] {
      try copy(try Tensor(values, shape: target.shape, category: .workspace, on: self), into: target)
    }
  }
}

/// The operands of a gated delta rule on the host.
private struct HostDeltaRule {
  let x, decay, beta: [Float]
  let shape: DeltaRuleShape
  var stateCount: Int { shape.keyDim * shape.valueDim }

  struct Token {
    /// Brought to the length 1; the query scaled.
    let query, key, value: [Float]
    let decay, beta: Float
  }

  init(_ x: [Float], _ decay: [Float], _ beta: [Float], _ shape: DeltaRuleShape) {
    (self.x, self.decay, self.beta, self.shape) = (x, decay, beta, shape)
  }

  /// Where query, key and value of a head begin.
  private func places(_ row: Int, _ head: Int) -> (query: Int, key: Int, value: Int) {
    let keyHead = head * shape.keyHeads / shape.valueHeads
    let query = row * shape.width + keyHead * shape.keyDim
    let keys = shape.keyHeads * shape.keyDim
    return (query, query + keys, row * shape.width + 2 * keys + head * shape.valueDim)
  }

  private func inverseLength(_ place: Int) -> Float {
    1 / (x[place..<place + shape.keyDim].reduce(0) { $0 + $1 * $1 } + DeltaRuleShape.epsilon).squareRoot()
  }

  func token(_ row: Int, _ head: Int) -> Token {
    let place = places(row, head), index = row * shape.valueHeads + head
    func scaled(_ start: Int, _ factor: Float) -> [Float] { x[start..<start + shape.keyDim].map { $0 * factor } }
    return Token(
      query: scaled(place.query, inverseLength(place.query) * shape.queryScale),
      key: scaled(place.key, inverseLength(place.key)),
      value: Array(x[place.value..<place.value + shape.valueDim]), decay: decay[index], beta: beta[index])
  }

  /// What the state holds under a key: S^T k.
  private func read(_ s: [Float], _ key: [Float]) -> [Float] {
    var sums = [Float](repeating: 0, count: shape.valueDim)
    for i in 0..<shape.keyDim {
      for j in 0..<shape.valueDim { sums[j] += s[i * shape.valueDim + j] * key[i] }
    }
    return sums
  }

  func step(_ token: Token, _ s: inout [Float]) {
    let factor = exp(token.decay)
    for index in s.indices { s[index] *= factor }
    let held = read(s, token.key)
    for i in 0..<shape.keyDim {
      for j in 0..<shape.valueDim {
        s[i * shape.valueDim + j] += token.key[i] * token.beta * (token.value[j] - held[j])
      }
    }
  }

  /// Of one token, from the gradient of its output and of the state behind it, which becomes that of the state before.
  func gradients(
    _ dOut: [Float], _ token: Token, before: [Float], after: [Float], _ dState: inout [Float]
  ) -> (query: [Float], key: [Float], value: [Float], decay: Float, beta: Float) {
    let (rows, columns) = (shape.keyDim, shape.valueDim)
    let factor = exp(token.decay)
    let decayed = before.map { $0 * factor }
    let difference = zip(token.value, read(decayed, token.key)).map { $0 - $1 }
    var (dQuery, dKey) = ([Float](repeating: 0, count: rows), [Float](repeating: 0, count: rows))
    var dWritten = [Float](repeating: 0, count: columns)
    for i in 0..<rows {
      for j in 0..<columns {
        let index = i * columns + j
        dState[index] += token.query[i] * dOut[j]
        dQuery[i] += after[index] * dOut[j]
        dKey[i] += dState[index] * token.beta * difference[j]
        dWritten[j] += dState[index] * token.key[i]
      }
    }
    let dBeta = zip(dWritten, difference).reduce(0) { $0 + $1.0 * $1.1 }
    let dValue = dWritten.map { $0 * token.beta }
    var dDecay: Float = 0
    for i in 0..<rows {
      for j in 0..<columns {
        let index = i * columns + j
        dKey[i] -= decayed[index] * dValue[j]
        dState[index] -= token.key[i] * dValue[j]
        dDecay += dState[index] * decayed[index]
        dState[index] *= factor
      }
    }
    return (dQuery, dKey, dValue, dDecay, dBeta)
  }

  /// Adds the gradients of a token to those of its row, through the lengths.
  func add(_ dQuery: [Float], _ dKey: [Float], _ dValue: [Float], _ row: Int, _ head: Int, to dx: inout [Float]) {
    let place = places(row, head)
    for (start, gradient, scale) in [(place.query, dQuery, shape.queryScale), (place.key, dKey, 1)] {
      let factor = inverseLength(start)
      let along = gradient.indices.reduce(Float(0)) { $0 + gradient[$1] * x[start + $1] } * factor * factor
      for i in gradient.indices { dx[start + i] += scale * factor * (gradient[i] - x[start + i] * along) }
    }
    for j in dValue.indices { dx[place.value + j] += dValue[j] }
  }
}
