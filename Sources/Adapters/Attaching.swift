import Models
import Tensors

extension LanguageModel {
  /// Makes trained adapters on the named linear modules; all are checked before any is attached.
  /// - Returns: the number of trainable parameters added.
  /// - Throws: `AdapterError` naming the module; `TensorError.outOfMemory`.
  @discardableResult
  public func attach(_ adapters: [(module: String, method: any AdapterMethod)]) throws -> Int {
    var targets: [(Module, any AdapterMethod)] = []
    var seen: Set<String> = []
    for (name, method) in adapters {
      let module = try linearModule(name)
      try method.check(module)
      guard seen.insert(name).inserted, module.adapter == nil else { throw AdapterError.alreadyAttached(module: name) }
      targets.append((module, method))
    }
    let made = try targets.map { module, method in (module, try makeAdapter(method, on: module)) }
    for (module, adapter) in made { module.adapter = adapter }
    return made.reduce(0) { $0 + $1.1.elementCount }
  }

  /// Takes all adapters off, so that others can be attached to the same base.
  /// - Returns: the number of modules that had one.
  @discardableResult
  public func removeAdapters() -> Int {
    let adapted = modules.filter { $0.adapter != nil }
    for module in adapted { module.adapter = nil }
    return adapted.count
  }

  private func linearModule(_ name: String) throws -> Module {
    guard let module = module(name) else {
      throw AdapterError.unknownModule(name: name, nearest: modules.map(\.name).filter { $0.hasSuffix(name) })
    }
    guard module.kind == .linear else { throw AdapterError.notLinear(module: name, kind: module.kind.rawValue) }
    return module
  }

  private func makeAdapter(_ method: any AdapterMethod, on module: Module) throws -> Adapter {
    let tensors = try method.parameters(of: module).map {
      try Tensor(empty: $0.shape, category: .adapters, on: backend)
    }
    // A plan needs shapes only: untouched pages cost nothing, whatever the size of the model.
    if isLoaded { try method.initialize(tensors, of: module, seed: seed) }
    for tensor in tensors { tensor.requiresGradient = true }
    return Adapter(method, on: module, tensors)
  }
}
