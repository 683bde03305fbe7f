import Models
import Tensors

/// How the tensors of several LoRA adapters become one (PEFT 0.21, `LoraModel.add_weighted_adapter`).
public struct AdapterCombination: Sendable {
  /// What is done with the matrices A, and with the matrices B, of one module.
  public enum Method: String, Sendable, CaseIterable {
    /// The exact weighted sum of the changes: A and B side by side, whose ranks add up.
    case cat
    /// The weighted sum of the As and of the Bs, each by the root of weight and scaling: an approximation of the rank
    /// that they have.
    case linear
    /// As `linear`, of the largest elements only, and of those that have the sign of most (Yadav et al. 2023).
    case ties
    /// As `linear`, of elements drawn at random and scaled up for those that are not (Yu et al. 2024).
    case dareLinear = "dare_linear"
    /// The draws of `dareLinear`, then the signs of `ties`.
    case dareTies = "dare_ties"
    /// As `linear`, of the largest elements only.
    case magnitudePrune = "magnitude_prune"
    /// The nearest product of the rank to the weighted sum of the changes.
    case svd
    /// The nearest product to what `ties` and the others make of the changes themselves, scaling * B A.
    case tiesSVD = "ties_svd"
    /// See `tiesSVD`.
    case dareLinearSVD = "dare_linear_svd"
    /// See `tiesSVD`.
    case dareTiesSVD = "dare_ties_svd"
    /// See `tiesSVD`.
    case magnitudePruneSVD = "magnitude_prune_svd"

    /// Whether a share of the elements is left out.
    public var prunes: Bool { ![.cat, .linear, .svd].contains(self) }
    /// Whether the result is a decomposition, of any rank.
    public var decomposes: Bool { [.svd, .tiesSVD, .dareLinearSVD, .dareTiesSVD, .magnitudePruneSVD].contains(self) }
    /// Whether elements are drawn.
    public var draws: Bool { [.dareLinear, .dareTies, .dareLinearSVD, .dareTiesSVD].contains(self) }
    /// Whether parts decide on the sign of an element.
    public var elects: Bool { [.ties, .dareTies, .tiesSVD, .dareTiesSVD].contains(self) }
  }

  /// What is done.
  public var method: Method
  /// Share of the elements that stay, above 0 and at most 1; of the methods that prune.
  public var density: Double
  /// Whether each adapter has one voice for the sign of an element; otherwise their sum decides.
  public var countsSigns: Bool
  /// Of the draws.
  public var seed: UInt64
  /// Of the result of a method that decomposes; nil for the largest of the parts.
  public var rank: Int?

  /// A combination; by default nothing is pruned.
  public init(
    _ method: Method, density: Double = 1, countsSigns: Bool = false, seed: UInt64 = 0, rank: Int? = nil
  ) {
    self.method = method
    self.density = density
    self.countsSigns = countsSigns
    self.seed = seed
    self.rank = rank
  }
}

extension LanguageModel {
  /// Makes a set of frozen LoRA adapters from others, of scaling 1. A module has what the sets make of it that have an
  /// adapter of it. The new set is in use alone.
  /// - Parameters:
  ///   - parts: names of sets with LoRA adapters, and their weights, any finite numbers.
  ///   - name: of the new set.
  ///   - how: what is done.
  /// - Returns: the number of adapters made.
  /// - Throws: `AdapterError.unknownSet`, `.repeatedSet` for a name that is taken or named twice, `.nothingSelected`,
  ///   `.notLoRA`, `.unequalRanks` for a method that adds the matrices, `.badRank`, `.badNumber`;
  ///   `TensorError.outOfMemory`.
  @discardableResult
  public func combineAdapters(
    _ parts: [(set: String, weight: Double)], into name: String, _ how: AdapterCombination
  ) throws -> Int {
    guard !parts.isEmpty else { throw AdapterError.nothingSelected }
    guard how.density > 0, how.density <= 1 else {
      throw AdapterError.badNumber(module: name, name: "density", value: how.density, expected: "a share in (0, 1]")
    }
    if adapterSets.contains(where: { $0.name == name }) { throw AdapterError.repeatedSet(name: name) }
    var branches: [ObjectIdentifier: [Weighted]] = [:]
    for (index, part) in parts.enumerated() {
      guard part.weight.isFinite else {
        throw AdapterError.badNumber(module: part.set, name: "weight", value: part.weight, expected: "a finite number")
      }
      if parts[..<index].contains(where: { $0.set == part.set }) { throw AdapterError.repeatedSet(name: part.set) }
      for (module, member) in try adapterSet(part.set).members {
        let adapter = try LoRA.ofOriginalBase(member, self)
        guard let method = adapter.method as? LoRA else {
          throw AdapterError.notLoRA(set: part.set, module: module.name, method: adapter.kind)
        }
        let weighted = Weighted(
          set: part.set, weight: part.weight, method: method, a: adapter.tensors[0], b: adapter.tensors[1])
        guard weighted.factor.isFinite else {
          throw AdapterError.badNumber(
            module: module.name, name: "weight", value: part.weight, expected: "one whose factor is within f32")
        }
        branches[ObjectIdentifier(module), default: []].append(weighted)
      }
    }
    var how = how
    how.rank = how.rank ?? branches.values.joined().map(\.method.rank).max()
    let made = try modules.compactMap { module in
      try branches[ObjectIdentifier(module)].map { (module: module, adapter: try combined($0, of: module, name, how)) }
    }
    try add(made, toSet: name)
    return made.count
  }

  private func combined(
    _ parts: [Weighted], of module: Module, _ name: String, _ how: AdapterCombination
  ) throws -> Adapter {
    let ranks = parts.map(\.method.rank)
    guard how.method == .cat || how.method.decomposes || Set(ranks).count == 1 else {
      throw AdapterError.unequalRanks(module: module.name, sets: parts.map(\.set), ranks: ranks)
    }
    let most = min(how.rank ?? ranks[0], module.inFeatures, module.outFeatures)
    let rank = how.method == .cat ? ranks.reduce(0, +) : how.method.decomposes ? most : ranks[0]
    let method = LoRA(rank: rank, alpha: Double(rank), dropout: parts[0].method.dropout)
    try method.check(module)
    let tensors = try method.parameters(of: module).map {
      try Tensor(empty: $0.shape, category: .adapters, on: backend)
    }
    if how.method == .cat {
      try tensors[0].set(try parts.flatMap { part in try part.a.floats().map { $0 * part.factor } })
      let columns = try parts.map { try $0.b.floats() }
      try tensors[1].set(
        (0..<module.outFeatures).flatMap { row in
          zip(columns, ranks).flatMap { values, rank in values[row * rank..<(row + 1) * rank] }
        })
    } else if how.method.decomposes {
      try how.decompose(parts, of: module, into: tensors)
    } else {
      // The sign of a negative factor goes to one side.
      let roots = parts.map { $0.factor.magnitude.squareRoot() }
      let signed = zip(parts, roots).map { $0.factor < 0 ? -$1 : $1 }
      for (tensor, (source, weights)) in zip(tensors, [(\Weighted.a, signed), (\Weighted.b, roots)]) {
        let kept = try parts.enumerated().map { index, part in
          try how.pruned(part[keyPath: source], stream: "\(index) \(source == \Weighted.a ? "a" : "b") \(module.name)")
        }
        try tensor.set(how.mixed(kept, weights))
      }
    }
    return Adapter(method, on: module, tensors, set: name)
  }
}

/// The adapter of one module as a part of a combination.
struct Weighted {
  let set: String
  let weight: Double
  let method: LoRA
  let a: Tensor
  let b: Tensor
  var factor: Float { Float(weight * method.scaling) }
}

extension AdapterCombination {
  /// The elements that stay, zeros in the place of the others.
  func pruned(_ tensor: Tensor, stream: String) throws -> [Float] {
    var values = try tensor.floats()
    guard method.prunes, density < 1 else { return values }
    if method.draws {
      let draws = try Tensor(empty: [values.count], category: .workspace, on: tensor.backend)
      let stream = RandomStream(seed: seed, purpose: "dare", module: stream)
      try draws.backend.fillUniform(draws, low: 0, high: 1, stream: stream)
      for (index, draw) in try draws.floats().enumerated() {
        values[index] = Double(draw) < density ? values[index] / Float(density) : 0
      }
    } else {
      let order = values.indices.sorted { (values[$0].magnitude, $1) > (values[$1].magnitude, $0) }
      for index in order.dropFirst(Int(density * Double(values.count))) { values[index] = 0 }
    }
    return values
  }

  /// The weighted sum of equally long parts; where signs are elected, divided by the number of parts that have it.
  func mixed(_ parts: [[Float]], _ weights: [Float]) -> [Float] {
    parts[0].indices.map { index in
      guard method.elects else {
        return zip(parts, weights).reduce(0) { $0 + $1.0[index] * $1.1 }
      }
      let votes = parts.reduce(Float(0)) { sum, part in
        sum + (countsSigns ? (part[index] > 0 ? 1 : part[index] < 0 ? -1 : 0) : part[index])
      }
      let elected = zip(parts, weights).filter { part, _ in votes >= 0 ? part[index] > 0 : part[index] < 0 }
      return elected.reduce(0) { $0 + $1.0[index] * $1.1 } / Float(max(1, elected.count))
    }
  }
}

extension Tensor {
  func set(_ values: [Float]) throws {
    try values.withUnsafeBytes { try write($0) }
  }
}
