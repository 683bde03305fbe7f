import Tensors

// What comes behind a matrix that holds several projections, and an activation without a gate.

/// The parts of each row of x[T, groups * sum(widths)] as tensors of their own.
///
/// A row is `groups` groups one after the other, and a group holds `widths[i]` elements of part i after those of the
/// parts before it; part i is [T, groups * widths[i]], contiguous. The gradients are put back in place, zero for a part
/// that none reaches.
/// - Throws: `TensorError.innerDimensions` when the columns are not that many, `.badShape` for an x that is not
///   contiguous, `.outOfMemory`; what the device reports.
public func splitColumns(_ x: Tensor, groups: Int = 1, widths: [Int]) throws -> [Tensor] {
  let total = widths.reduce(0, +)
  let x = try x.contiguousRows(columns: groups * total, operation: "split", other: [groups] + widths)
  let rows = x.elementCount / (groups * total)
  let starts = widths.indices.map { widths[..<$0].reduce(0, +) }
  func column(_ index: Int, of whole: Tensor) throws -> Tensor {
    try whole.viewed([rows, groups, total]).narrowed(2, starts[index]..<starts[index] + widths[index])
  }
  let parts = try widths.indices.map { index in
    let part = try Tensor(empty: [rows, groups * widths[index]], dtype: x.dtype, on: x.backend)
    try x.backend.copy(try column(index, of: x), into: try part.viewed([rows, groups, widths[index]]))
    return part
  }
  let (shape, dtype, backend) = (x.shape, x.dtype, x.backend)
  record("split", inputs: [x], outputs: parts) { gradients in
    let dx = try Tensor(empty: shape, dtype: dtype, on: backend)
    for (index, gradient) in gradients.enumerated() {
      let target = try column(index, of: dx)
      if let gradient {
        try backend.copy(try gradient.contiguous().viewed(target.shape), into: target)
      } else {
        try backend.fill(target, 0)
      }
    }
    return [dx]
  }
  return parts
}

/// a(x) of a feed-forward layer without a gate, elementwise; the dtype of x stays.
/// - Throws: `TensorError.outOfMemory`; what the device reports.
public func activated(_ activation: Activation, _ x: Tensor) throws -> Tensor {
  let (x, backend) = (try x.contiguous(), x.backend)
  let y = try Tensor(empty: x.shape, dtype: x.dtype, on: backend)
  try backend.activated(activation, x, into: y)
  guard isRecording(x) else { return y }
  let saved = x.detached()
  func again() throws -> Tensor {
    let y = try Tensor(empty: saved.shape, dtype: saved.dtype, on: backend)
    try backend.activated(activation, saved, into: y)
    return y
  }
  record("activated", inputs: [x], output: y, recompute: again) { dy in
    let dx = try Tensor(empty: saved.shape, dtype: saved.dtype, on: backend)
    try backend.activatedBackward(activation, dy.contiguous(), saved, into: dx)
    return [dx]
  }
  return y
}

/// cap * tanh(x / cap) of f32 elements (Gemma 2).
/// - Throws: `TensorError.outOfMemory`; what the device reports.
public func softCapped(_ x: Tensor, _ cap: Float) throws -> Tensor {
  let y = try Tensor(empty: x.shape, on: x.backend)
  try x.backend.softCap(try x.contiguous(), cap, into: y)
  let saved = y.detached()
  record("soft_cap", inputs: [x], output: y) { dy in
    let dx = try Tensor(empty: saved.shape, on: saved.backend)
    try dx.backend.softCapBackward(dy.contiguous(), saved, cap, into: dx)
    return [dx]
  }
  return y
}
