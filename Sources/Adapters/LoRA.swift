import Formats
import Models
import Tensors

/// How the matrices start. Unless stated otherwise B is zero; a new adapter changes nothing.
public enum LoRAInitialization: String, Sendable, CaseIterable {
  /// U(-1/sqrt(in), 1/sqrt(in)): Kaiming-uniform with a = sqrt(5), PEFT's default.
  case kaiming
  /// N(0, 1/rank), PEFT's "gaussian".
  case gaussian
  /// Values that depend on the module's name alone, the same in any program; for comparisons with other stacks.
  case portable
  /// A and B are the leading singular vectors of W, each times the root of its value, over the root of the scaling
  /// (PiSSA, Meng et al. 2024). The base becomes W - scaling * B A.
  case pissa
  /// B is the start of Q and A of R in W = Q R (OLoRA, Büyükakyüz 2024). The base becomes W - scaling * B A.
  case olora
  /// The base becomes NF4, and A and B the best product for what that lost, in turns (LoftQ, Li et al. 2023). As in
  /// PEFT they do not know the scaling, so alpha = rank starts nearest to W.
  case loftq

  /// Whether the start takes a part out of the frozen weight, which then is another.
  public var changesBase: Bool { self == .pissa || self == .olora || self == .loftq }
}

/// Low-rank adapters: y = x W^T + bias + scaling * dropout(x) A^T B^T, A [rank, in], B [out, rank] (Hu et al. 2021).
public struct LoRA: LowRankMethod {
  /// PEFT's name of the method, `LORA`.
  public static let peftType = "LORA"
  static let (nameOfA, nameOfB) = ("lora_A.weight", "lora_B.weight")

  /// Rows of A and columns of B, 1 to 65536.
  public var rank: Int
  /// Numerator of `scaling`, above 0.
  public var alpha: Double
  /// Probability with which training drops an element of the branch's input, in [0, 1).
  public var dropout: Double
  /// Whether scaling is alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023).
  public var rankStabilised: Bool
  /// Multiplies the learning rate of both matrices.
  public var learningRateFactor: Double
  /// Multiplies that of B once more (LoRA+, Hayou et al. 2024).
  public var learningRateRatio: Double
  /// How A and B start.
  public var initialization: LoRAInitialization
  /// Power iterations with which `pissa` approximates the decomposition, 0 computes it to the last bit; rounds of
  /// `loftq`, at least one.
  public var powerIterations: Int

  /// Settings of one module; `check` tells whether they are in range.
  public init(
    rank: Int, alpha: Double, dropout: Double = 0, rankStabilised: Bool = false, learningRateFactor: Double = 1,
    learningRateRatio: Double = 1, initialization: LoRAInitialization = .kaiming, powerIterations: Int = 0
  ) {
    self.rank = rank
    self.alpha = alpha
    self.dropout = dropout
    self.rankStabilised = rankStabilised
    self.learningRateFactor = learningRateFactor
    self.learningRateRatio = learningRateRatio
    self.initialization = initialization
    self.powerIterations = powerIterations
  }

  /// Factor of the branch: alpha / rank, or alpha / sqrt(rank) with `rankStabilised`.
  public var scaling: Double { alpha / (rankStabilised ? Double(rank).squareRoot() : Double(rank)) }

  /// Rank, alpha and dropout.
  public var settings: [(name: String, value: JSON)] {
    [("rank", .int(rank)), ("alpha", .number(alpha)), ("dropout", .number(dropout))]
  }

  /// Checks the ranges of rank, alpha, dropout and the learning-rate factors, and that a start that changes the base
  /// can do so.
  /// - Throws: `AdapterError.badRank`, `AdapterError.badNumber`, `AdapterError.badStart`.
  public func check(_ module: Module) throws {
    let limit = initialization.changesBase ? min(module.inFeatures, module.outFeatures) : 65536
    guard (1...limit).contains(rank) else { throw AdapterError.badRank(module: module.name, rank: rank, limit: limit) }
    let numbers = [
      ("alpha", alpha, alpha > 0 && Float(scaling).isFinite, "a positive number whose scaling is within f32"),
      ("dropout", dropout, dropout >= 0 && Float(dropout) < 1, "a number in [0, 1)"),
      ("lr", learningRateFactor, learningRateFactor.isFinite && learningRateFactor >= 0, "a factor of at least 0"),
      (
        "lr_ratio", learningRateRatio, learningRateRatio.isFinite && learningRateRatio >= 0, "a factor of at least 0"
      ),
    ]
    for (name, value, isGood, expected) in numbers where !isGood {
      throw AdapterError.badNumber(module: module.name, name: name, value: value, expected: expected)
    }
    if initialization.changesBase, let form = module.storedForm {
      throw AdapterError.badStart(
        module: module.name, name: initialization.rawValue,
        reason: "the base is stored as \(form), and what the adapter takes out of it would be rounded again")
    }
  }

  /// A [rank, in] and B [out, rank], named `lora_A.weight` and `lora_B.weight`.
  public func parameters(of module: Module) -> [AdapterParameter] {
    [
      AdapterParameter(LoRA.nameOfA, [rank, module.inFeatures], learningRateFactor: learningRateFactor),
      AdapterParameter(
        LoRA.nameOfB, [module.outFeatures, rank], learningRateFactor: learningRateFactor * learningRateRatio),
    ]
  }

  /// Sets A and B by `initialization`. The values depend on `seed` and the module's name, with `portable` on the
  /// name alone.
  /// - Throws: `TensorError` when the device fails; nothing on the CPU.
  public func initialize(_ tensors: [Tensor], of module: Module, seed: UInt64) throws {
    let (a, b) = (tensors[0], tensors[1])
    try b.backend.fill(b, 0)
    let stream = RandomStream(seed: seed, purpose: "lora_a", module: module.name)
    switch initialization {
    case .kaiming:
      let bound = 1 / Double(module.inFeatures).squareRoot()
      try a.backend.fillUniform(a, low: -bound, high: bound, stream: stream)
    case .gaussian:
      try a.backend.fillNormal(a, mean: 0, deviation: 1 / Double(rank), stream: stream)
    case .portable:
      try fillPortably(a, name: module.name, columns: module.inFeatures)
    case .pissa:
      try fillPrincipally(a, b, of: module, stream)
    case .olora:
      try fillOrthogonally(a, b, of: module)
    case .loftq:
      try fillWithLoss(a, b, of: module, stream)
    }
  }

  /// The branch scaling * x A^T B^T.
  public func lowRank(_ tensors: [Tensor]) -> LowRank {
    LowRank(a: tensors[0], b: tensors[1], scaling: Float(scaling))
  }
}

/// Element k is (2u - 1) / sqrt(columns) with u the top 24 bits of splitmix64(FNV-1a64(name) + (k + 1) * golden), in
/// f32 after u. The reference script in Tests/Fixtures/peers computes the same in NumPy.
private func fillPortably(_ a: Tensor, name: String, columns: Int) throws {
  var hash: UInt64 = 0xCBF2_9CE4_8422_2325
  for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
  let scale = Float(1 / Double(columns).squareRoot())
  try a.withMutableHostBytes { bytes in
    let values = bytes.bindMemory(to: Float.self)
    for index in values.indices {
      var z = hash &+ UInt64(index + 1) &* 0x9E37_79B9_7F4A_7C15
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      z ^= z >> 31
      let u = Float(z >> 40) * 0x1p-24
      values[index] = (2 * u - 1) * scale
    }
  }
}
