import Models

/// Several adapters on one base: which there are, and with which the model computes.
extension LanguageModel {
  /// The set of this name.
  /// - Throws: `AdapterError.unknownSet` with the names there are.
  public func adapterSet(_ name: String) throws -> AdapterSet {
    guard let set = adapterSets.first(where: { $0.name == name }) else {
      throw AdapterError.unknownSet(name: name, known: adapterSets.map(\.name))
    }
    return set
  }

  /// Computes with these sets from now on; their changes of a module add up. No tensor is copied.
  /// - Parameter names: of sets, each once; none for the base alone.
  /// - Throws: `AdapterError.unknownSet`, `.repeatedSet`; `.notAdditive` for several sets where one has a method whose
  ///   change is no branch of its own. What was in use stays then.
  public func useAdapters(_ names: [String]) throws {
    let sets = try names.map { try adapterSet($0) }
    for (index, name) in names.enumerated() where names[..<index].contains(name) {
      throw AdapterError.repeatedSet(name: name)
    }
    if sets.count > 1 {
      for set in sets {
        func stands(_ adapter: Adapter) -> Bool {
          adapter.lowRank == nil && !(adapter.method is EmbeddingLoRA) || adapter.baseChange != nil
        }
        if let (module, adapter) = set.members.first(where: { stands($0.adapter) }) {
          throw AdapterError.notAdditive(set: set.name, module: module.name, method: adapter.kind)
        }
      }
    }
    use(names)
  }

  /// Runs `body` with these sets alone in use; what was in use before is in use afterwards.
  /// - Throws: as `useAdapters`, and what `body` throws.
  public func withAdapters<R>(_ names: [String], _ body: () throws -> R) throws -> R {
    let before = namesInUse
    try useAdapters(names)
    // A set that `body` removed is not in use any more.
    defer { use(before) }
    return try body()
  }

  /// Takes adapters off, so that others can be attached to the same base.
  /// - Parameter name: of a set; nil for all.
  /// - Returns: the number of adapters that are gone.
  /// - Throws: `AdapterError.unknownSet`.
  @discardableResult
  public func removeAdapters(_ name: String) throws -> Int {
    let gone = try adapterSet(name).members.count
    if adapterSets.count == 1 { return removeAdapters() }
    adapterSets.removeAll { $0.name == name }
    use(namesInUse)
    return gone
  }

  /// Takes all adapters off.
  /// - Returns: the number of adapters that are gone.
  @discardableResult
  public func removeAdapters() -> Int {
    let gone = adapterSets.reduce(0) { $0 + $1.members.count }
    adapterSets = []
    for module in modules where module.trained != nil { module.trained = nil }
    use([])
    return gone
  }

  /// Takes the adapters of some modules off one set; the others stay.
  /// - Parameters:
  ///   - name: of the set.
  ///   - modules: full names.
  /// - Returns: the number of adapters that are gone.
  /// - Throws: `AdapterError.unknownSet`.
  @discardableResult
  public func removeAdapters(_ name: String, ofModules modules: Set<String>) throws -> Int {
    let before = try adapterSet(name).members
    let left = before.filter { !modules.contains($0.module.name) }
    guard !left.isEmpty else { return try removeAdapters(name) }
    for place in adapterSets.indices where adapterSets[place].name == name { adapterSets[place].members = left }
    use(namesInUse)
    return before.count - left.count
  }

  /// Takes the adapters in use of a module off; their sets stay.
  func removeAdapters(of module: Module) {
    for place in adapterSets.indices where namesInUse.contains(adapterSets[place].name) {
      adapterSets[place].members.removeAll { $0.module === module }
    }
    module.adapters = []
  }

  /// Parts of the base are trained for one set: which they would belong to is not known with several.
  /// - Throws: `AdapterError.partsOfSeveral` where there is a set besides that of this name.
  func checkIsAlone(_ name: String) throws {
    if let other = adapterSets.first(where: { $0.name != name }) {
      throw AdapterError.partsOfSeveral(names: [other.name, name])
    }
  }

  /// Adds adapters to the set of a name, which is made where there is none. A new set is in use alone, more members of
  /// one that is there are in use when it is.
  /// - Throws: `AdapterError.partsOfSeveral` where parts of the base are trained with another set.
  func add(_ members: [(module: Module, adapter: Adapter)], toSet name: String) throws {
    if modules.contains(where: { $0.trained != nil }) { try checkIsAlone(name) }
    guard let place = adapterSets.firstIndex(where: { $0.name == name }) else {
      adapterSets.append(AdapterSet(name, members))
      return use([name])
    }
    adapterSets[place].members += members
    use(namesInUse)
  }

  /// - Throws: `AdapterError.alreadyAttached` where the set of this name has an adapter of the module.
  func checkIsFree(_ module: Module, inSet name: String) throws {
    if adapterSets.contains(where: { set in set.name == name && set.members.contains { $0.module === module } }) {
      throw AdapterError.alreadyAttached(module: module.name, set: name)
    }
  }

  /// Runs `body` on the model without the sets it has; they are back afterwards.
  func withOtherAdapters<R>(_ body: () throws -> R) rethrows -> R {
    let (sets, names, parts) = (adapterSets, namesInUse, modules.map(\.trained))
    removeAdapters()
    defer {
      removeAdapters()
      adapterSets = sets
      for (module, part) in zip(modules, parts) where part != nil { module.trained = part }
      use(names)
    }
    return try body()
  }
}
