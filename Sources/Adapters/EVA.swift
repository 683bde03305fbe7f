import Autograd
import Formats
import Models
import Tensors

/// A start of LoRA from data (EVA, Paischer et al. 2024): the rows of A are the leading principal components of what a
/// module gets as input, B is zero, and ranks move to the modules whose components explain most. What is made is plain
/// LoRA.
public struct EVA: Sendable {
  /// Largest rank of a module as a multiple of that asked for, at least 1: 1 leaves the ranks as they are.
  public var rho: Double
  /// Cosine between a component and that before the last batch from which it counts as found, in [0, 1].
  public var tau: Double
  /// Whether only tokens that are trained count.
  public var usesLabels: Bool
  /// Whether the components are divided by the root of their singular values.
  public var whitens: Bool
  /// Whether alpha follows the rank, so that alpha / rank stays.
  public var adjustsScaling: Bool
  /// Batches after which it is an error that components still turn; the data is gone through again as often as needed.
  public var batchLimit: Int

  /// PEFT's defaults.
  public init(
    rho: Double = 2, tau: Double = 0.99, usesLabels: Bool = true, whitens: Bool = false, adjustsScaling: Bool = true,
    batchLimit: Int = 1000
  ) {
    self.rho = rho
    self.tau = tau
    self.usesLabels = usesLabels
    self.whitens = whitens
    self.adjustsScaling = adjustsScaling
    self.batchLimit = batchLimit
  }
}

extension LanguageModel {
  /// LoRA on the named modules with the start that PEFT's `initialize_lora_eva_weights` computes. A module whose share
  /// of the ranks is none gets no adapter. A header-only model gets the ranks as they are, for a plan.
  /// - Parameters:
  ///   - adapters: modules by full name with their settings before ranks move; no expert of many.
  ///   - how: what counts as found, and how far ranks move.
  ///   - batches: sequences of ids and labels, in batches; at least one.
  ///   - set: name of the set that they become.
  /// - Returns: the number of trainable parameters added.
  /// - Throws: `AdapterError.badNumber`, `.badRank`, `.badStart` where components do not settle; as `attach` and
  ///   `loss`.
  @discardableResult
  public func attach(
    _ adapters: [(module: String, method: LoRA)], _ how: EVA, batches: [[(ids: [Int32], labels: [Int32]?)]],
    set: String = AdapterSet.defaultName
  ) throws -> Int {
    guard let first = adapters.first, !batches.isEmpty else { throw AdapterError.nothingSelected }
    for (name, value, isGood, expected) in [
      ("rho", how.rho, how.rho >= 1 && how.rho <= 1000, "a number from 1 to 1000"),
      ("tau", how.tau, how.tau >= 0 && how.tau <= 1, "a number from 0 to 1"),
    ] where !isGood {
      throw AdapterError.badNumber(module: first.module, name: name, value: value, expected: expected)
    }
    let plain = adapters.map { ($0.module, $0.method as any AdapterMethod) }
    guard isLoaded else { return try attach(plain, set: set) }
    _ = try checkAttachable(plain, set)
    let found = try withoutAdapters { try GradientMode.disabled { try EVASearch(self, adapters, how).run(batches) } }
    let chosen = zip(adapters, found).filter { $1.rows > 0 }.map { adapter, rows in
      var method = adapter.method
      if how.adjustsScaling { method.alpha *= Double(rows.rows) / Double(method.rank) }
      method.rank = rows.rows
      return (module: adapter.module, method: method, rows: rows)
    }
    let count = try attach(chosen.map { ($0.module, $0.method as any AdapterMethod) }, set: set)
    for (module, adapter) in try adapterSet(set).members {
      guard let rows = chosen.first(where: { $0.module == module.name })?.rows else { continue }
      try adapter.tensors[0].fill { rows[$0, $1] }
    }
    return count
  }
}

/// Modules with one input, and its components.
private final class EVAGroup {
  let members: [Int]
  var pca: IncrementalPCA
  var isFound: [Bool]

  init(_ members: [Int], _ pca: IncrementalPCA) {
    self.members = members
    self.pca = pca
    isFound = [Bool](repeating: false, count: pca.count)
  }
}

/// PEFT's search (tuners/lora/eva.py): batch by batch, until all components that the ranks need stay.
private final class EVASearch {
  private let model: LanguageModel
  private let how: EVA
  private let modules: [Module]
  private let ranks: [Int]
  private var limits: [Int]

  init(_ model: LanguageModel, _ adapters: [(module: String, method: LoRA)], _ how: EVA) throws {
    (self.model, self.how) = (model, how)
    modules = try adapters.map { name, method in
      guard let module = model.module(name) else {
        throw AdapterError.unknownModule(name: name, nearest: model.nearestModules(to: name))
      }
      try method.check(module)
      guard module.kind == .linear else { throw AdapterError.notLinear(module: name, kind: module.kind.rawValue) }
      guard !module.isExpert else {
        throw AdapterError.badStart(module: name, name: "eva", reason: "an expert sees only some of the tokens")
      }
      return module
    }
    ranks = adapters.map(\.method.rank)
    limits = ranks.map { Int((Double($0) * how.rho).rounded(.toNearestOrEven)) }
  }

  /// The components of each module, as many as its rank.
  func run(_ batches: [[(ids: [Int32], labels: [Int32]?)]]) throws -> [DenseMatrix] {
    let groups = try grouped(batches[0])
    var given = limits
    var step = 0
    func unsettled() -> EVAGroup? {
      groups.first { group in !group.isFound[..<given[group.members[0]]].allSatisfy { $0 } }
    }
    while let group = unsettled() {
      guard step < how.batchLimit else {
        throw AdapterError.badStart(
          module: modules[group.members[0]].name, name: "eva",
          reason:
            "after \(step) batches components still turn by more than tau = \(how.tau) allows, or every batch has "
            + "fewer rows than components; give larger batches or a smaller tau")
      }
      let open = groups.filter { group in !group.isFound[..<given[group.members[0]]].allSatisfy { $0 } }
      try pass(batches[step % batches.count], open)
      step += 1
      if groups.allSatisfy({ $0.pca.components != nil }) { given = distribution(groups) }
    }
    return given.indices.map { index in
      let group = groups.first { $0.members.contains(index) }
      let (width, pca) = (modules[index].inFeatures, group?.pca)
      return DenseMatrix(rows: given[index], columns: width) { row, column in
        guard let pca, let components = pca.components else { return 0 }
        return components[row, column] / (how.whitens ? pca.values[row].squareRoot() : 1)
      }
    }
  }

  /// Runs one batch and takes in the inputs of the groups.
  private func pass(_ batch: [(ids: [Int32], labels: [Int32]?)], _ groups: [EVAGroup]) throws {
    let rows = batch.flatMap { sequence in
      (sequence.labels ?? sequence.ids).map { !how.usesLabels || $0 != NextToken.untrained }
    }
    let hooks = groups.map { group in
      let module = modules[group.members[0]]
      return module.addHook { input, _ in
        let width = module.inFeatures
        let values = try input.floats()
        guard values.count == rows.count * width else {
          throw AdapterError.badStart(module: module.name, name: "eva", reason: "it does not see every token once")
        }
        let kept = rows.indices.filter { rows[$0] }.flatMap { values[$0 * width..<($0 + 1) * width] }
        // Too few rows say nothing about so many components, as in PEFT.
        guard kept.count >= group.pca.count * width else { return nil }
        let before = group.pca.components
        try group.pca.fit(kept, width: width, on: input.backend)
        if let before { group.isFound = group.pca.cosines(with: before).map { $0 >= self.how.tau } }
        return nil
      }
    }
    defer { for hook in hooks { hook.remove() } }
    _ = try model.loss(try Batch(batch), isTraining: false)
  }

  /// Modules whose inputs are equal in the first batch share their components and their largest rank.
  private func grouped(_ batch: [(ids: [Int32], labels: [Int32]?)]) throws -> [EVAGroup] {
    var hashes: [Int: String] = [:]
    let hooks = modules.indices.map { index in
      modules[index].addHook { input, _ in
        hashes[index] = try input.contiguous().withHostBytes { SHA256.hash($0) }
        return nil
      }
    }
    defer { for hook in hooks { hook.remove() } }
    _ = try model.loss(try Batch(batch), isTraining: false)
    var order: [String] = [], members: [String: [Int]] = [:]
    // In the order of the model, not of the list.
    let places = Dictionary(uniqueKeysWithValues: model.modules.enumerated().map { (ObjectIdentifier($1), $0) })
    for index in modules.indices.sorted(by: {
      places[ObjectIdentifier(modules[$0])] ?? 0 < places[ObjectIdentifier(modules[$1])] ?? 0
    }) {
      let hash = hashes[index] ?? "\(index)"
      if members[hash] == nil { order.append(hash) }
      members[hash, default: []].append(index)
    }
    return try order.map { hash in
      let own = members[hash] ?? []
      let count = own.map { limits[$0] }.max() ?? 1
      for index in own { limits[index] = count }
      let module = modules[own[0]]
      guard count <= module.inFeatures else {
        throw AdapterError.badRank(module: module.name, rank: count, limit: module.inFeatures)
      }
      return EVAGroup(own, IncrementalPCA(count: count, RandomStream(seed: 42, purpose: "eva", module: module.name)))
    }
  }

  /// The ranks in all are those asked for; they go to the components that explain most of the variance of their input.
  private func distribution(_ groups: [EVAGroup]) -> [Int] {
    // Ties go to the first of a group, and to earlier modules.
    let places =
      groups.map { ($0.members[0], $0) }
      + groups.flatMap { group in
        group.members.dropFirst().map { ($0, group) }
      }
    let shares = places.flatMap { index, group in group.pca.ratios.prefix(limits[index]).map { (index, $0) } }
    let order = shares.indices.sorted { (shares[$0].1, $1) > (shares[$1].1, $0) }
    var counts = [Int](repeating: 0, count: modules.count)
    for place in order.prefix(ranks.reduce(0, +)) { counts[shares[place].0] += 1 }
    for group in groups {
      for other in group.members.dropFirst() where counts[other] > counts[group.members[0]] {
        counts.swapAt(other, group.members[0])
      }
    }
    return counts
  }
}
