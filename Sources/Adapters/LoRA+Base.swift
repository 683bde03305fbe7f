import Autograd
import Models
import Quantization
import Tensors

// Starts that come from the frozen weight (PiSSA, OLoRA, LoftQ), and what they leave of it.
extension LoRA {
  /// A = sqrt(S / scaling) V^T and B = U sqrt(S / scaling) of the `rank` largest singular values of W.
  func fillPrincipally(_ a: Tensor, _ b: Tensor, of module: Module, _ stream: RandomStream) throws {
    let weight = try module.denseWeight()
    let (left, values, right) =
      powerIterations == 0
      ? try DenseMatrix(weight).leading(rank) : try Self.approximated(weight, rank: rank, powerIterations, stream)
    let roots = values.map { ($0 / scaling).squareRoot() }
    try a.fill { row, column in right[column, row] * roots[row] }
    try b.fill { row, column in left[row, column] * roots[column] }
  }

  /// The leading singular triplets by subspace iteration (Halko et al. 2011, algorithm 4.4): W is looked at through
  /// rank + 8 directions, orthogonal again after each product.
  static func approximated(
    _ weight: Tensor, rank: Int, _ iterations: Int, _ stream: RandomStream
  ) throws -> (left: DenseMatrix, values: [Double], right: DenseMatrix) {
    let (out, width) = (weight.shape[0], weight.shape[1])
    let count = min(rank + 8, out, width)
    let random = try Tensor(empty: [width, count], on: weight.backend)
    try random.backend.fillNormal(random, mean: 0, deviation: 1, stream: stream)
    func product(_ right: Tensor, transposed: Bool) throws -> Tensor {
      let result = try Tensor(empty: [transposed ? width : out, count], on: weight.backend)
      try weight.backend.matmul(
        weight, transposeA: transposed, right, transposeB: false, alpha: 1, beta: 0, into: result, precision: .f32)
      return result
    }
    func orthonormal(_ tensor: Tensor) throws -> (matrix: DenseMatrix, tensor: Tensor) {
      let matrix = try DenseMatrix(tensor).orthonormal(count)
      let copy = try Tensor(empty: tensor.shape, on: weight.backend)
      try copy.fill { matrix[$0, $1] }
      return (matrix, copy)
    }
    var basis = try orthonormal(try product(random, transposed: false))
    for _ in 0..<iterations {
      let back = try orthonormal(try product(basis.tensor, transposed: true))
      basis = try orthonormal(try product(back.tensor, transposed: false))
    }
    // W ~ Q (W^T Q)^T, and the small factor W^T Q = V S U'^T.
    let (right, values, inner) = try DenseMatrix(try product(basis.tensor, transposed: true)).leading(rank)
    let left = DenseMatrix(rows: out, columns: rank) { row, k in
      (0..<count).reduce(0) { $0 + basis.matrix[row, $1] * inner[$1, k] }
    }
    return (left, values, right)
  }

  /// B = the first `rank` columns of Q and A = the first rows of R in W = Q R, R's diagonal positive.
  func fillOrthogonally(_ a: Tensor, _ b: Tensor, of module: Module) throws {
    let weight = try module.denseWeight()
    let q = try DenseMatrix(try weight.narrowed(1, 0..<rank).contiguous()).orthonormal(rank)
    try b.fill { q[$0, $1] }
    try a.backend.matmul(
      b, transposeA: true, weight, transposeB: false, alpha: 1, beta: 0, into: a, precision: .f32)
  }

  /// Rounds of Q = NF4(W - B A) and B A = the nearest product of that rank to W - Q. The module keeps Q in the place of
  /// W. Matrices of more than 64 rows and columns are decomposed by 16 power iterations.
  func fillWithLoss(_ a: Tensor, _ b: Tensor, of module: Module, _ stream: RandomStream) throws {
    let rest = try module.denseWeight()
    for round in 0..<max(1, powerIterations) {
      let target = try module.denseWeight()
      if round > 0 { try target.subtract(b, a, factor: 1) }
      let operand = try FourBit.quantize(target, kind: .nf4, double: false, name: module.name)
      try rest.backend.copy(try module.denseWeight(), into: rest)
      try rest.backend.accumulate(try operand.dequantized(to: .f32), scale: -1, into: rest, scale: 1)
      let (left, values, right) =
        min(module.outFeatures, module.inFeatures) <= 64
        ? try DenseMatrix(rest).leading(rank) : try Self.approximated(rest, rank: rank, 16, stream)
      let roots = values.map { $0.squareRoot() }
      try a.fill { row, column in right[column, row] * roots[row] }
      try b.fill { row, column in left[row, column] * roots[column] }
      guard round + 1 >= powerIterations else { continue }
      module.replaceWeight(with: operand, kind: .nf4, byteCount: operand.byteCount)
    }
  }

  /// W - scaling * B A with the tensors of the start, in the dtype of W; nil for a start that leaves the base alone.
  /// - Throws: `TensorError.outOfMemory`, or what the device reports.
  func takeOut(_ tensors: [Tensor], of module: Module) throws -> BaseChange? {
    guard initialization.changesBase else { return nil }
    guard initialization != .loftq else {
      // Its base is in 4 bits for good.
      let count = module.parameterCount
      if !module.isLoaded {
        module.replaceWeight(with: nil, kind: .nf4, byteCount: (count + 1) / 2 + 4 * ((count + 63) / 64))
      }
      return nil
    }
    let start = try tensors.map { try Tensor(empty: $0.shape, category: .adapters, on: $0.backend) }
    guard let original = module.weight else { return BaseChange(start: start, residual: nil) }
    for (copy, tensor) in zip(start, tensors) { try copy.backend.copy(tensor, into: copy) }
    let rest = try module.denseWeight(category: .weights)
    try rest.subtract(tensors[1], tensors[0], factor: Float(scaling))
    let residual = original.dtype == .f32 ? rest : try rest.converted(to: original.dtype, category: .weights)
    return BaseChange(start: start, residual: residual)
  }

  /// The adapter of the unchanged base that computes the same: scaling * (B A - B0 A0) has twice the rank, as PEFT
  /// writes it with `path_initial_model_for_weight_conversion`. An adapter that left the base alone is returned as it
  /// is.
  /// - Throws: `TensorError.outOfMemory`, or what the device reports.
  static func ofOriginalBase(_ adapter: Adapter, _ model: LanguageModel) throws -> Adapter {
    guard let change = adapter.baseChange, let method = methodOfOriginalBase(adapter),
      let module = model.module(adapter.moduleName)
    else { return adapter }
    let tensors = try GradientMode.disabled {
      [
        try concatenate([adapter.tensors[0], change.start[0]], axis: 0),
        try concatenate([adapter.tensors[1], try unary(.negate, change.start[1])], axis: 1),
      ]
    }
    return Adapter(method, on: module, tensors)
  }

  /// The settings of `ofOriginalBase`; nil for another method than LoRA.
  static func methodOfOriginalBase(_ adapter: Adapter) -> LoRA? {
    guard var method = adapter.method as? LoRA else { return nil }
    guard adapter.baseChange != nil else { return method }
    method.alpha *= method.rankStabilised ? 2.0.squareRoot() : 2
    method.rank *= 2
    method.initialization = .kaiming
    return method
  }
}

extension DenseMatrix {
  /// The values of an f32 tensor [rows, columns].
  init(_ tensor: Tensor) throws {
    let (values, width) = (try tensor.floats(), tensor.shape[1])
    self.init(rows: tensor.shape[0], columns: width) { Double(values[$0 * width + $1]) }
  }
}

extension Tensor {
  /// W -= factor * B A for an f32 matrix W.
  fileprivate func subtract(_ b: Tensor, _ a: Tensor, factor: Float) throws {
    try backend.matmul(
      b, transposeA: false, a, transposeB: false, alpha: -factor, beta: 1, into: self, precision: .f32)
  }

  /// Sets an f32 matrix [rows, columns] to a function of row and column.
  func fill(_ value: (Int, Int) -> Double) throws {
    let width = shape[1]
    try withMutableHostBytes { bytes in
      let elements = bytes.bindMemory(to: Float.self)
      for index in elements.indices { elements[index] = Float(value(index / width, index % width)) }
    }
  }
}
