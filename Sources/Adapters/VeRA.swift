import Autograd
import Formats
import Models
import Tensors

/// Vector-based random matrix adaptation (Kopiczko et al. 2024): y = x W^T + bias + b * (B (d * (A dropout(x)))), with
/// trained vectors b [out] and d [rank], and random matrices A and B that all modules of a set share and nobody trains.
public struct VeRA: AdapterMethod {
  /// PEFT's name of the method.
  public static let peftType = "VERA"
  /// PEFT's names of the two matrices.
  public static let sharedNames = ["vera_A", "vera_B"]
  static let (nameOfB, nameOfD) = ("vera_lambda_b", "vera_lambda_d")

  /// The random matrices, of the largest sizes in a set. A module takes the first columns of A and rows of B.
  public struct Projections: Sendable {
    /// f32 [rank, in]
    public let a: Tensor
    /// f32 [out, rank]
    public let b: Tensor
    /// PEFT's `projection_prng_key`, of which they were drawn.
    public let key: Int
    /// Whether a file has them: PEFT's `save_projection`.
    public let isSaved: Bool

    /// Draws the matrices as PEFT does, with PyTorch's generator on the processor: the same bits.
    /// - Parameters:
    ///   - rank: rows of A and columns of B.
    ///   - key: seed, 0 to 2^32 - 1.
    ///   - modules: those that the set is for, at least one.
    ///   - isSaved: whether files hold the matrices.
    ///   - backend: where they lie.
    /// - Throws: `AdapterError.badRank`, `.badNumber`; `TensorError.outOfMemory`.
    public init(rank: Int, key: Int, for modules: [Module], isSaved: Bool = true, on backend: any Backend) throws {
      let name = modules.first?.name ?? ""
      guard (1...65536).contains(rank) else { throw AdapterError.badRank(module: name, rank: rank, limit: 65536) }
      guard let seed = UInt32(exactly: key) else {
        throw AdapterError.badNumber(
          module: name, name: "projection_prng_key", value: Double(key), expected: "a whole number from 0 to 2^32 - 1")
      }
      let width = modules.map(\.inFeatures).max() ?? 1, height = modules.map(\.outFeatures).max() ?? 1
      var generator = TorchGenerator(seed: seed)
      func drawn(_ rows: Int, _ columns: Int) throws -> Tensor {
        // Kaiming's bound for a matrix that is followed by a ReLU.
        let bound = 3.0.squareRoot() * (2.0.squareRoot() / Double(columns).squareRoot())
        let tensor = try Tensor(empty: [rows, columns], category: .adapters, on: backend)
        try tensor.set(generator.uniform(count: rows * columns, bound: bound))
        return tensor
      }
      a = try drawn(rank, width)
      b = try drawn(height, rank)
      (self.key, self.isSaved) = (key, isSaved)
    }

    init(a: Tensor, b: Tensor, key: Int, isSaved: Bool) {
      (self.a, self.b, self.key, self.isSaved) = (a, b, key, isSaved)
    }
  }

  /// The matrices of the set.
  public var projections: Projections
  /// Probability with which training drops an element of the input of A, in [0, 1).
  public var dropout: Double
  /// What the elements of d start with; those of b start with 0.
  public var start: Double
  /// Multiplies the learning rate.
  public var learningRateFactor: Double

  /// Settings of one module; `check` tells whether they are in range.
  public init(_ projections: Projections, dropout: Double = 0, start: Double = 0.1, learningRateFactor: Double = 1) {
    self.projections = projections
    self.dropout = dropout
    self.start = start
    self.learningRateFactor = learningRateFactor
  }

  /// Rank, dropout and the key of the matrices.
  public var settings: [(name: String, value: JSON)] {
    [
      ("rank", .int(projections.a.shape[0])), ("dropout", .number(dropout)),
      ("projection_prng_key", .int(projections.key)),
    ]
  }

  /// Checks the numbers, and that the matrices are large enough.
  /// - Throws: `AdapterError.badNumber`, `.badStart`.
  public func check(_ module: Module) throws {
    let numbers = [
      ("dropout", dropout, dropout >= 0 && Float(dropout) < 1, "a number in [0, 1)"),
      ("d_initial", start, start.isFinite, "a finite number"),
      ("lr", learningRateFactor, learningRateFactor.isFinite && learningRateFactor >= 0, "a factor of at least 0"),
    ]
    for (name, value, isGood, expected) in numbers where !isGood {
      throw AdapterError.badNumber(module: module.name, name: name, value: value, expected: expected)
    }
    let (a, b) = (projections.a.shape, projections.b.shape)
    guard a[1] >= module.inFeatures, b[0] >= module.outFeatures else {
      throw AdapterError.badStart(
        module: module.name, name: "vera",
        reason: "the shared matrices are for at most \(a[1]) inputs and \(b[0]) outputs")
    }
  }

  /// b [out] and d [rank].
  public func parameters(of module: Module) -> [AdapterParameter] {
    [
      AdapterParameter(VeRA.nameOfB, [module.outFeatures], learningRateFactor: learningRateFactor),
      AdapterParameter(VeRA.nameOfD, [projections.a.shape[0]], learningRateFactor: learningRateFactor),
    ]
  }

  /// b to 0 and d to `start`.
  /// - Throws: `TensorError` when the device fails; nothing on the CPU.
  public func initialize(_ tensors: [Tensor], of module: Module, seed: UInt64) throws {
    try tensors[0].backend.fill(tensors[0], 0)
    try tensors[1].backend.fill(tensors[1], start)
  }

  /// The low-rank branch of A with scaled rows and B with scaled rows, recorded.
  private func branch(_ tensors: [Tensor], inputs: Int, outputs: Int) throws -> LowRank {
    let a = try projections.a.narrowed(1, 0..<inputs).contiguous()
    let b = try projections.b.narrowed(0, 0..<outputs)
    return LowRank(
      a: try binary(.multiply, a, try reshape(tensors[1], [-1, 1])),
      b: try binary(.multiply, b, try reshape(tensors[0], [-1, 1])), scaling: 1)
  }

  /// The output with the branch.
  /// - Throws: what its operations throw, such as `TensorError.outOfMemory`.
  public func apply(
    _ tensors: [Tensor], x: Tensor, y: Tensor, of module: Module, _ context: ForwardContext
  ) throws -> Tensor {
    var branch = try branch(tensors, inputs: module.inFeatures, outputs: module.outFeatures)
    if context.isTraining, dropout > 0 {
      branch.dropout = Float(dropout)
      branch.stream = context.randomStream("dropout", module: module.name)
    }
    return try branch.added(to: y, x)
  }

  /// W + (b * B) (d * A), in f32. The bias stays as it is.
  /// - Throws: `TensorError.outOfMemory`.
  public func merge(_ tensors: [Tensor], weight: Tensor, bias: Tensor?) throws {
    try GradientMode.disabled {
      let branch = try branch(tensors, inputs: weight.shape[1], outputs: weight.shape[0])
      try weight.backend.matmul(
        branch.b, transposeA: false, branch.a, transposeB: false, alpha: 1, beta: 1, into: weight, precision: .f32)
    }
  }

  /// The two matrices.
  public var shared: [(name: String, tensor: Tensor)] {
    Array(zip(VeRA.sharedNames, [projections.a, projections.b])).map { (name: $0.0, tensor: $0.1) }
  }

  /// The same settings with other matrices.
  public func replacingShared(_ body: (Tensor) throws -> Tensor) rethrows -> VeRA {
    var copy = self
    copy.projections = Projections(
      a: try body(projections.a), b: try body(projections.b), key: projections.key, isSaved: projections.isSaved)
    return copy
  }

  /// Two products of that rank, and a pass over both matrices.
  public func work(of module: Module) -> AdapterWork {
    let elements = Double(projections.a.shape[0] * (module.inFeatures + module.outFeatures))
    return AdapterWork(products: 2 * elements, masked: dropout > 0 ? Double(module.inFeatures) : 0)
  }
}
