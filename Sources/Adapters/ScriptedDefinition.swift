import Autograd
import Formats
import Models
import Synchronization
import Tensors

/// An adapter that a program defines while it runs: what is trained, and the output from that, the input and the output
/// of the base. The engine sees nothing of the language but the source, by which it knows the definition again.
///
/// Its functions are called by the thread that computes, one at a time.
public final class ScriptedDefinition: @unchecked Sendable {
  /// What one call of `forward` gets.
  public struct Pass {
    /// [T, in]
    public let x: Tensor
    /// The output of the base, [T, out].
    public let base: Tensor
    /// The trained tensors by name.
    public let parameters: [(name: String, tensor: Tensor)]
    /// Full name of the adapted module.
    public let module: String
    /// Whether dropout is active.
    public let isTraining: Bool
    /// The `index`-th stream of random numbers of this pass in this module: the same when the pass is recomputed.
    public let stream: (_ index: Int) -> RandomStream
  }

  /// What errors call it.
  public let name: String
  /// The text of both functions with all that they need; as `refresh` found it last.
  public private(set) var source: String
  /// SHA-256 of the source.
  public var sourceHash: String { SHA256.hash(of: source) }
  private let current: (() throws -> String?)?
  private let makeParameters: (Module) throws -> [(name: String, tensor: Tensor)]
  private let forward: (Pass) throws -> Tensor
  private let isRunning = Mutex(false)

  /// - Parameters:
  ///   - name: what errors call it.
  ///   - source: text that gives the same definition to whoever runs it.
  ///   - current: gives that text anew, which changes with variables that the functions use; nil where it cannot.
  ///   - parameters: new f32 tensors of a module, by name; they are copied.
  ///   - forward: the output of the adapted module, by differentiable operations.
  public init(
    name: String, source: String, current: (() throws -> String?)? = nil,
    parameters: @escaping (Module) throws -> [(name: String, tensor: Tensor)],
    forward: @escaping (Pass) throws -> Tensor
  ) {
    self.name = name
    self.source = source
    self.current = current
    makeParameters = parameters
    self.forward = forward
  }

  /// Brings `source` to what the functions compute now.
  /// - Throws: what asking for it throws, such as for a variable that cannot be saved any more.
  func refresh() throws { source = try current?() ?? source }

  /// What the program makes for a module, checked and in the order of the names.
  func start(of module: Module) throws -> [(name: String, tensor: Tensor)] {
    let made = try makeParameters(module).sorted { $0.name < $1.name }
    func fail(_ problem: String) -> AdapterError {
      .badScript(adapter: name, function: "parameters", module: module.name, problem: problem)
    }
    guard !made.isEmpty else { throw fail("it made no tensor") }
    for (name, tensor) in made {
      guard name.wholeMatch(of: /[A-Za-z_][A-Za-z0-9_]*/) != nil else {
        throw fail("'\(name)' is no name of a tensor; letters, digits and _ make one")
      }
      guard !["weight", "bias"].contains(name) else {
        throw fail("'\(name)' is what the module itself has; a file would take it for that")
      }
      guard tensor.dtype == .f32 else { throw fail("\(name) is \(tensor.dtype.name), what is trained must be f32") }
      guard tensor.elementCount > 0 else { throw fail("\(name) has the shape \(tensor.shape), which holds nothing") }
    }
    return made
  }

  /// One call of the program, whose result is checked.
  func output(_ pass: Pass) throws -> Tensor {
    func fail(_ problem: String) -> AdapterError {
      .badScript(adapter: name, function: "forward", module: pass.module, problem: problem)
    }
    let isFirst = isRunning.withLock { running in
      defer { running = true }
      return !running
    }
    guard isFirst else { throw fail("it runs the model that it is a part of") }
    defer { isRunning.withLock { $0 = false } }
    let result = try forward(pass)
    guard result.shape == pass.base.shape else {
      throw fail("it returned a tensor of shape \(result.shape), expected \(pass.base.shape), that of base")
    }
    guard result.dtype.isFloat else {
      throw fail("it returned a tensor of \(result.dtype.name), which has no gradient; expected f32, bf16 or f16")
    }
    let isTrained = pass.parameters.contains { $0.tensor.requiresGradient }
    guard !GradientMode.isEnabled || !isTrained || result.requiresGradient else {
      throw fail(
        "no gradient reaches what is trained: what it returned does not depend on that, or only by operations "
          + "without one, such as detach, item, argmax and comparisons")
    }
    return result
  }
}

extension ScriptedDefinition {
  /// Reads adapters of this definition.
  /// - Throws: `AdapterError.otherDefinition` where the file's are of another; `.changedSource` where the source beside
  ///   the file is not what its hash says; `.notScripted`, `.badField`, `FormatError`.
  func reader(_ configuration: JSON, path: String) throws -> AdapterReader {
    guard configuration["peft_type"]?.string == Scripted.peftType else {
      throw AdapterError.notScripted(path: path, method: configuration["peft_type"]?.string ?? "missing")
    }
    try Scripted.table.check(configuration, path: path)
    guard let expected = configuration["source_sha256"]?.string else {
      throw AdapterError.badField(path: path, field: "source_sha256", expected: "the hash of the source")
    }
    let sourcePath = FileSystem.directoryName(path) + "/" + Scripted.sourceName
    let stored = try MappedFile(path: sourcePath).withBytes { SHA256.hash($0) }
    guard stored == expected else { throw AdapterError.changedSource(path: sourcePath) }
    guard expected == sourceHash else { throw AdapterError.otherDefinition(path: sourcePath) }
    // What `parameters` would make costs time and may ask for more than there is; the functions are the same, so it is
    // what the file has.
    return { module, shapes in
      Scripted(self, on: module, shapes.sorted { $0.key < $1.key }.map { AdapterParameter($0.key, $0.value) })
    }
  }
}

extension LanguageModel {
  /// Makes trained adapters of a program's definition on the named linear modules; all are made before any is attached.
  /// - Parameters:
  ///   - definition: the program.
  ///   - names: linear modules by full name.
  ///   - set: name of the set that they belong to, which holds no other method; a new one is in use alone afterwards.
  /// - Returns: the number of trainable parameters added.
  /// - Throws: `AdapterError` naming the module; what the program throws; `TensorError.outOfMemory`.
  @discardableResult
  public func attach(
    _ definition: ScriptedDefinition, on names: [String], set: String = AdapterSet.defaultName
  ) throws -> Int {
    if let other = adapterSets.first(where: { $0.name == set })?.members.first,
      (other.adapter.method as? Scripted)?.definition.sourceHash != definition.sourceHash
    {
      throw AdapterError.otherInSet(set: set, module: other.module.name)
    }
    var seen: Set<String> = []
    let modules = try names.map { name in
      let module = try adaptable(name)
      guard seen.insert(name).inserted else { throw AdapterError.alreadyAttached(module: name) }
      try checkIsFree(module, inSet: set)
      return module
    }
    let made = try modules.map { module in
      let start = try definition.start(of: module)
      let tensors = try start.map { _, value in
        let tensor = try Tensor(empty: value.shape, category: .adapters, on: backend)
        // A plan needs shapes only.
        if isLoaded { try backend.copy(value, into: tensor) }
        tensor.requiresGradient = true
        return tensor
      }
      let method = Scripted(definition, on: module, start.map { AdapterParameter($0.name, $0.tensor.shape) })
      return (module: module, adapter: Adapter(method, on: module, tensors, set: set))
    }
    try add(made, toSet: set)
    return made.reduce(0) { $0 + $1.adapter.elementCount }
  }
}
