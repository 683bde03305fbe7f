import Numerics
import Tensors

// Linear layers with their low-rank branches as one product: the shared input is packed once, B is added to the tile
// that W fills, and backward the contraction runs through all layers and branches before dx is stored.

extension CPUBackend {
  /// With fewer rows the products of the layers are computed one by one, or all in one region where they are dots.
  static let sharedRows = dotRows + 1

  /// Packs x once for all layers and branches, and adds h_i B_i^T to the sums of x W_i^T before y_i is stored.
  ///
  /// With at most 8 rows the layers are computed one by one, or in one region: the products with W_i and A_i, then
  /// those with B_i. Sums have a fixed order for each output.
  /// - Throws: `TensorError.outOfMemory` for packed operands and the scratch of the threads.
  public func linear(
    _ x: Tensor, _ layers: [LinearOperands], into outputs: [LinearOutput], precision: DType
  ) throws {
    guard x.shape[0] >= Self.sharedRows else {
      if try multiplyRows(x, layers, into: outputs, precision: precision) { return }
      return try composedLinear(x, layers, into: outputs, precision: precision)
    }
    var parts = [StagedMatmul.Part(rows: rows(x), k: x.shape[1])]
    var products: [StagedMatmul.Product] = []
    for (layer, output) in zip(layers, outputs) {
      var terms = [StagedMatmul.Term(part: 0, columns: columns(layer.weight, alongSteps: true))]
      if let low = output.low, let branch = layer.lowRank {
        var part = StagedMatmul.Part(rows: rows(low), k: branch.rank)
        if !output.lowIsGiven {
          part.product = products.count
          products.append(
            StagedMatmul.Product(
              terms: [StagedMatmul.Term(part: 0, columns: columns(branch.a, alongSteps: true))],
              output: target(low, alpha: branch.scaling)))
        }
        terms.append(StagedMatmul.Term(part: parts.count, columns: columns(branch.b, alongSteps: true)))
        parts.append(part)
      }
      products.append(StagedMatmul.Product(terms: terms, output: target(output.y, beta: output.addsToOld ? 1 : 0)))
    }
    try run(parts, products, lanes: x.shape[0], precision)
  }

  /// `linear` of few rows, with the bits of one product after the other.
  /// - Returns: whether all matrices take dot products; otherwise nothing is done.
  private func multiplyRows(
    _ x: Tensor, _ layers: [LinearOperands], into outputs: [LinearOutput], precision: DType
  ) throws -> Bool {
    guard layers.allSatisfy({ takesDots(x.shape[0], $0) }) else { return false }
    var products: [RowProducts.Product] = []
    for (layer, output) in zip(layers, outputs) {
      products.append(
        RowProducts.Product(
          matrix: columns(layer.weight, alongSteps: true), output: target(output.y, beta: output.addsToOld ? 1 : 0)))
      guard let low = output.low, let branch = layer.lowRank, !output.lowIsGiven else { continue }
      products.append(
        RowProducts.Product(
          matrix: columns(branch.a, alongSteps: true), output: target(low, alpha: branch.scaling)))
    }
    try multiplyRows(rows(x), products, k: x.shape[1], precision: precision)
    for (layer, output) in zip(layers, outputs) {
      guard let low = output.low, let branch = layer.lowRank else { continue }
      try matmul(
        low, transposeA: false, branch.b, transposeB: true, alpha: 1, beta: 1, into: output.y, precision: precision)
    }
    return true
  }

  /// Whether the products of a layer with so many rows, but that with B, are `RowProducts`.
  private func takesDots(_ rows: Int, _ layer: LinearOperands) -> Bool {
    guard rows <= Self.dotRows, layer.lowRank.map({ rows < $0.rank }) ?? true else { return false }
    switch layer.weight {
    case .dense(let matrix): return rows < matrix.shape[0]
    case .quantized(let operand): return Self.takesDots(rows, operand.pointers.pointee)
    case .blocks: return true
    }
  }

  /// Packs every dy_i once, then sums dx over all layers and branches before it is stored.
  ///
  /// With at most 8 rows the layers are computed one by one, and dx is rounded to its dtype after each term.
  /// - Throws: `TensorError.outOfMemory` for packed operands and the scratch of the threads.
  public func linearBackward(
    _ gradients: [LinearGradient], _ layers: [LinearOperands], into dx: Tensor?, precision: DType
  ) throws {
    guard let tokens = gradients.first?.dy.shape[0] else { return }
    guard tokens >= Self.sharedRows else {
      return try composedLinearBackward(gradients, layers, into: dx, precision: precision)
    }
    // Short parts come last, so that they lie side by side.
    let parts = gradients.map { StagedMatmul.Part(rows: rows($0.dy), k: $0.dy.shape[1]) }
    var lows: [StagedMatmul.Part] = []
    var products: [StagedMatmul.Product] = []
    var terms: [StagedMatmul.Term] = []
    for (index, (layer, gradient)) in zip(layers, gradients).enumerated() {
      terms.append(StagedMatmul.Term(part: index, columns: columns(layer.weight, alongSteps: false)))
      guard let dLow = gradient.dLow, let branch = layer.lowRank else { continue }
      if dx != nil, gradient.reachesInput {
        terms.append(
          StagedMatmul.Term(part: parts.count + lows.count, columns: columns(branch.a, alongSteps: false)))
        lows.append(StagedMatmul.Part(rows: rows(dLow), k: branch.rank, product: products.count))
      }
      products.append(
        StagedMatmul.Product(
          terms: [StagedMatmul.Term(part: index, columns: columns(branch.b, alongSteps: false))],
          output: target(dLow, alpha: branch.scaling)))
    }
    if let dx { products.append(StagedMatmul.Product(terms: terms, output: target(dx))) }
    try run(parts + lows, products, lanes: tokens, precision)
  }

  private func run(
    _ parts: [StagedMatmul.Part], _ products: [StagedMatmul.Product], lanes: Int, _ precision: DType
  ) throws {
    try StagedMatmul(
      tiling: tiling(precision), state: matmulState, pool: pool, lanes: lanes, parts: parts, products: products
    ).run()
  }

  // MARK: Operands

  private func rows(_ x: Tensor) -> MatmulOperand {
    MatmulOperand(
      source: .dense(x.address, type: x.dtype, stride: x.rowStride, contiguous: true), lanes: x.shape[0])
  }

  /// A matrix whose rows (along the steps) or columns are the lanes.
  private func columns(_ matrix: Tensor, alongSteps: Bool) -> MatmulOperand {
    MatmulOperand(
      source: .dense(matrix.address, type: matrix.dtype, stride: matrix.rowStride, contiguous: alongSteps),
      lanes: matrix.shape[alongSteps ? 0 : 1])
  }

  private func columns(_ weight: LinearWeight, alongSteps: Bool) -> MatmulOperand {
    switch weight {
    case .dense(let matrix): columns(matrix, alongSteps: alongSteps)
    case .quantized(let operand):
      MatmulOperand(
        source: .quantized(operand.pointers, lanesAreRows: alongSteps), lanes: operand.shape[alongSteps ? 0 : 1])
    case .blocks(let operand):
      MatmulOperand(
        source: .blocks(operand.pointers, lanesAreRows: alongSteps), lanes: operand.shape[alongSteps ? 0 : 1])
    }
  }

  private func target(_ y: Tensor, alpha: Float = 1, beta: Float = 0) -> MatmulOutput {
    MatmulOutput(
      base: y.address, type: y.dtype, stride: y.rowStride, transposed: false, alpha: alpha, beta: beta)
  }
}
