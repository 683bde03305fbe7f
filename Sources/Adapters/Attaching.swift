import Models
import Tensors

extension LanguageModel {
  /// Makes trained adapters on the named linear modules; all are checked before any is attached.
  /// - Parameters:
  ///   - adapters: modules by full name, and the method for each.
  ///   - set: name of the set that they belong to; a new one is in use alone afterwards.
  /// - Returns: the number of trainable parameters added.
  /// - Throws: `AdapterError` naming the module; `TensorError.outOfMemory`.
  @discardableResult
  public func attach(
    _ adapters: [(module: String, method: any AdapterMethod)], set: String = AdapterSet.defaultName
  ) throws -> Int {
    let targets = try checkAttachable(adapters, set)
    let made = try targets.map { module, method in (module, try makeAdapter(method, on: module, set)) }
    try add(made, toSet: set)
    return made.reduce(0) { $0 + $1.1.elementCount }
  }

  /// The modules of adapters that can be made and saved together with those that the set has.
  /// - Throws: `AdapterError` naming the module.
  func checkAttachable(
    _ adapters: [(module: String, method: any AdapterMethod)], _ set: String
  ) throws -> [(module: Module, method: any AdapterMethod)] {
    var targets: [(Module, any AdapterMethod)] = []
    var seen: Set<String> = []
    for (name, method) in adapters {
      let module = try adaptable(name, method)
      try method.check(module)
      guard seen.insert(name).inserted else { throw AdapterError.alreadyAttached(module: name) }
      try checkIsFree(module, inSet: set)
      if (method as? any EmbeddingMethod)?.reachesOutput ?? false { try requireWhole("an adapter of both ends") }
      targets.append((module, method))
    }
    let present = adapterSets.first { $0.name == set }?.members.map { ($0.module.name, $0.adapter.method) } ?? []
    try PEFTFiles.checkMixing(present + adapters.map { ($0.module, $0.method) })
    return targets
  }

  /// A linear module, or the embedding for a method that is made for it.
  func adaptable(_ name: String, _ method: (any AdapterMethod)? = nil) throws -> Module {
    guard let module = module(name) else {
      throw AdapterError.unknownModule(name: name, nearest: nearestModules(to: name))
    }
    let isFit = module.kind == .linear || module.kind == .embedding && method is any EmbeddingMethod
    guard isFit else { throw AdapterError.notLinear(module: name, kind: module.kind.rawValue) }
    return module
  }

  private func makeAdapter(_ method: any AdapterMethod, on module: Module, _ set: String) throws -> Adapter {
    let isHere = holds(module)
    let tensors = try method.parameters(of: module).map {
      try isHere
        ? Tensor(empty: $0.shape, category: .adapters, on: backend) : Tensor(elsewhere: $0.shape, on: backend)
    }
    // A plan needs shapes only: untouched pages cost nothing, whatever the size of the model.
    if isLoaded, isHere { try method.initialize(tensors, of: module, seed: seed) }
    if let start = (method as? LoRA)?.initialization, start.changesBase { try requireWhole("init \(start.rawValue)") }
    let change = try (method as? LoRA)?.takeOut(tensors, of: module)
    for tensor in tensors { tensor.requiresGradient = true }
    return Adapter(method, on: module, tensors, set: set, baseChange: change)
  }
}
