// Products of a linear layer in terms of plain ones: the forms of a device without fused kernels.

extension Backend {
  /// Decodes the whole weight to workspace of dtype `precision` before the product.
  /// - Throws: `TensorError.outOfMemory`, `TensorError.badShape`; what `dequantize4` and `matmul` throw.
  public func quantizedMatmul(
    _ x: Tensor, _ weight: QuantizedOperand, transposed: Bool, alpha: Float, beta: Float, into y: Tensor,
    precision: DType
  ) throws {
    let dense = try Tensor(empty: weight.shape, dtype: precision, category: .workspace, on: self)
    try dequantize4(weight, into: dense)
    try matmul(
      x, transposeA: false, dense, transposeB: !transposed, alpha: alpha, beta: beta, into: y, precision: precision)
  }

  /// Layer by layer: the product with W, then that with A, then that with B added to y.
  /// - Throws: what `matmul` and `quantizedMatmul` throw, such as `TensorError.outOfMemory`.
  public func linear(
    _ x: Tensor, _ layers: [LinearOperands], into outputs: [LinearOutput], precision: DType
  ) throws {
    try composedLinear(x, layers, into: outputs, precision: precision)
  }

  /// Layer by layer: the product with W, then that with B, then that with A added to dx.
  /// - Throws: what `matmul` and `quantizedMatmul` throw, such as `TensorError.outOfMemory`.
  public func linearBackward(
    _ gradients: [LinearGradient], _ layers: [LinearOperands], into dx: Tensor?, precision: DType
  ) throws {
    try composedLinearBackward(gradients, layers, into: dx, precision: precision)
  }

  /// `linear` layer by layer.
  package func composedLinear(
    _ x: Tensor, _ layers: [LinearOperands], into outputs: [LinearOutput], precision: DType
  ) throws {
    for (layer, output) in zip(layers, outputs) {
      try layer.weight.multiply(
        x, transposed: false, beta: output.addsToOld ? 1 : 0, into: output.y, precision: precision)
      guard let low = output.low, let branch = layer.lowRank else { continue }
      if !output.lowIsGiven {
        try matmul(
          x, transposeA: false, branch.a, transposeB: true, alpha: branch.scaling, beta: 0, into: low,
          precision: precision)
      }
      try matmul(
        low, transposeA: false, branch.b, transposeB: true, alpha: 1, beta: 1, into: output.y, precision: precision)
    }
  }

  /// `linearBackward` layer by layer.
  package func composedLinearBackward(
    _ gradients: [LinearGradient], _ layers: [LinearOperands], into dx: Tensor?, precision: DType
  ) throws {
    for (index, (layer, gradient)) in zip(layers, gradients).enumerated() {
      if let dx {
        try layer.weight.multiply(
          gradient.dy, transposed: true, beta: index == 0 ? 0 : 1, into: dx, precision: precision)
      }
      guard let dLow = gradient.dLow, let branch = layer.lowRank else { continue }
      try matmul(
        gradient.dy, transposeA: false, branch.b, transposeB: false, alpha: branch.scaling, beta: 0, into: dLow,
        precision: precision)
      guard let dx, gradient.reachesInput else { continue }
      try matmul(
        dLow, transposeA: false, branch.a, transposeB: false, alpha: 1, beta: 1, into: dx, precision: precision)
    }
  }
}
