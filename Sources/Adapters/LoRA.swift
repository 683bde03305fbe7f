import Models
import Tensors

/// How the matrix A starts; B is zero, so that a new adapter changes nothing.
public enum LoRAInitialization: String, Sendable, CaseIterable {
  /// U(-1/sqrt(in), 1/sqrt(in)): Kaiming-uniform with a = sqrt(5), PEFT's default.
  case kaiming
  /// N(0, 1/rank), PEFT's "gaussian".
  case gaussian
  /// Values that depend on the module's name alone, the same in any program; for comparisons with other stacks.
  case portable
}

/// One adapter to be made: where, and with which numbers.
public struct LoRASpecification: Sendable {
  public var moduleName: String
  public var rank: Int
  public var alpha: Double
  public var dropout: Double
  public var rankStabilised: Bool
  public var learningRateFactor: Double
  public var initialization: LoRAInitialization

  public init(
    moduleName: String, rank: Int, alpha: Double, dropout: Double = 0, rankStabilised: Bool = false,
    learningRateFactor: Double = 1, initialization: LoRAInitialization = .kaiming
  ) {
    self.moduleName = moduleName
    self.rank = rank
    self.alpha = alpha
    self.dropout = dropout
    self.rankStabilised = rankStabilised
    self.learningRateFactor = learningRateFactor
    self.initialization = initialization
  }
}

extension LanguageModel {
  /// Makes trainable low-rank adapters (Hu et al. 2021) on the named linear modules; all are checked before any is
  /// attached.
  /// - Returns: the number of trainable parameters added.
  /// - Throws: `AdapterError` naming the module; `TensorError.outOfMemory`.
  @discardableResult
  public func attachLoRA(_ specifications: [LoRASpecification]) throws -> Int {
    var targets: [(Module, LoRASpecification)] = []
    var seen: Set<String> = []
    for specification in specifications {
      let module = try validated(specification)
      guard seen.insert(module.name).inserted, module.adapter == nil else {
        throw AdapterError.alreadyAttached(module: module.name)
      }
      targets.append((module, specification))
    }
    var made: [(Module, LowRankAdapter)] = []
    for (module, specification) in targets {
      made.append((module, try makeAdapter(module, specification)))
    }
    for (module, adapter) in made { module.adapter = adapter }
    return made.reduce(0) { $0 + $1.1.a.elementCount + $1.1.b.elementCount }
  }

  /// Takes all adapters off, so that others can be attached to the same base.
  /// - Returns: the number of modules that had one.
  @discardableResult
  public func removeAdapters() -> Int {
    let adapted = modules.filter { $0.adapter != nil }
    for module in adapted { module.adapter = nil }
    return adapted.count
  }

  private func validated(_ specification: LoRASpecification) throws -> Module {
    let name = specification.moduleName
    guard let module = module(name) else {
      throw AdapterError.unknownModule(name: name, nearest: modules.map(\.name).filter { $0.hasSuffix(name) })
    }
    guard module.kind == .linear else { throw AdapterError.notLinear(module: name, kind: module.kind.rawValue) }
    let limit = 65536
    guard (1...limit).contains(specification.rank) else {
      throw AdapterError.badRank(module: name, rank: specification.rank, limit: limit)
    }
    guard specification.alpha.isFinite, specification.alpha > 0 else {
      throw AdapterError.badNumber(
        module: name, name: "alpha", value: specification.alpha, expected: "a positive number")
    }
    guard specification.dropout >= 0, specification.dropout < 1 else {
      throw AdapterError.badNumber(
        module: name, name: "dropout", value: specification.dropout, expected: "a number in [0, 1)")
    }
    guard specification.learningRateFactor.isFinite, specification.learningRateFactor >= 0 else {
      throw AdapterError.badNumber(
        module: name, name: "lr", value: specification.learningRateFactor, expected: "a factor of at least 0")
    }
    return module
  }

  private func makeAdapter(_ module: Module, _ specification: LoRASpecification) throws -> LowRankAdapter {
    let shape = [specification.rank, module.inFeatures]
    let a = try Tensor(empty: shape, category: .adapters, on: backend)
    let b = try Tensor(empty: [module.outFeatures, specification.rank], category: .adapters, on: backend)
    // A plan needs shapes only: untouched pages cost nothing, whatever the size of the model.
    if isLoaded { try initialize(a, b, module, specification) }
    a.requiresGradient = true
    b.requiresGradient = true
    return LowRankAdapter(
      moduleName: module.name, rank: specification.rank, alpha: specification.alpha,
      dropout: specification.dropout, rankStabilised: specification.rankStabilised,
      learningRateFactor: specification.learningRateFactor, a: a, b: b)
  }

  private func initialize(
    _ a: Tensor, _ b: Tensor, _ module: Module, _ specification: LoRASpecification
  ) throws {
    try backend.fill(b, 0)
    let stream = RandomStream(seed: seed, purpose: "lora_a", module: module.name)
    switch specification.initialization {
    case .kaiming:
      let bound = 1 / Double(module.inFeatures).squareRoot()
      try backend.fillUniform(a, low: -bound, high: bound, stream: stream)
    case .gaussian:
      try backend.fillNormal(a, mean: 0, deviation: 1 / Double(specification.rank), stream: stream)
    case .portable:
      try fillPortably(a, name: module.name, columns: module.inFeatures)
    }
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
