import Autograd
import Formats
import Models
import Tensors

/// A definition on one module.
public struct Scripted: AdapterMethod {
  /// No name of PEFT, which has nothing like it.
  public static let peftType = "QLORA_SCRIPT"
  /// What the names of files in its language end with.
  static let language = "lua"
  static let sourceName = "adapter.\(language)"

  /// Whether the source in a folder is one that a save has written: its hash is that of the configuration beside it. A
  /// save that did not end says no hash; it has replaced its own.
  static func isSource(in folder: String) -> Bool {
    guard let configuration = try? JSON.read(path: "\(folder)/\(FileName.adapterConfig)") else { return false }
    guard let sum = configuration["source_sha256"]?.string else {
      return configuration["peft_type"]?.string?.hasPrefix(FolderFormat.interruptedSign) ?? false
    }
    return (try? MappedFile(path: "\(folder)/\(sourceName)").withBytes { SHA256.hash($0) }) == sum
  }

  /// The program.
  public let definition: ScriptedDefinition
  private let module: String
  private let shapes: [AdapterParameter]

  init(_ definition: ScriptedDefinition, on module: Module, _ shapes: [AdapterParameter]) {
    self.definition = definition
    self.module = module.name
    self.shapes = shapes
  }

  /// By what the program is known again.
  public var settings: [(name: String, value: JSON)] { [("source", .string(String(definition.sourceHash.prefix(12))))] }
  /// Nothing: the program checks what it is given.
  public func check(_ module: Module) {}
  /// What the program made.
  public func parameters(of module: Module) -> [AdapterParameter] { shapes }

  /// Lets the program make the tensors again and copies them; the seed is the program's affair.
  /// - Throws: what the program throws; `AdapterError.badScript`.
  public func initialize(_ tensors: [Tensor], of module: Module, seed: UInt64) throws {
    for (tensor, made) in zip(tensors, try definition.start(of: module)) {
      try tensor.backend.copy(made.tensor, into: tensor)
    }
  }

  /// What the program computes.
  /// - Throws: what the program throws; `AdapterError.badScript`.
  public func apply(
    _ tensors: [Tensor], x: Tensor, y: Tensor, of module: Module, _ context: ForwardContext
  ) throws -> Tensor {
    try definition.output(
      pass(tensors, x, y, isTraining: context.isTraining) {
        context.randomStream("script \($0)", module: module.name)
      })
  }

  private func pass(
    _ tensors: [Tensor], _ x: Tensor, _ base: Tensor, isTraining: Bool, _ stream: @escaping (Int) -> RandomStream
  ) -> ScriptedDefinition.Pass {
    ScriptedDefinition.Pass(
      x: x, base: base, parameters: zip(shapes, tensors).map { ($0.name, $1) }, module: module,
      isTraining: isTraining, stream: stream)
  }

  /// Reads the weight off the outputs of unit vectors, which is possible where the output depends on x and base
  /// linearly; that is tried on random rows.
  /// - Throws: `AdapterError.notMergeable`; what the program throws; `TensorError.outOfMemory`.
  public func merge(_ tensors: [Tensor], weight: Tensor, bias: Tensor?) throws {
    try GradientMode.disabled {
      let (rows, columns, backend) = (weight.shape[0], weight.shape[1], weight.backend)
      func run(_ x: Tensor) throws -> Tensor {
        let product = try matmul(x, try transpose(weight, 0, 1))
        let base = try bias.map { try binary(.add, product, $0) } ?? product
        let stream = { (index: Int) in RandomStream(seed: 0, purpose: "script \(index)", module: module) }
        return try convert(try definition.output(pass(tensors, x, base, isTraining: false, stream)), to: .f32)
      }
      let shift = try run(try Tensor(full: [1, columns], value: 0, on: backend))
      let merged = try Tensor(empty: [columns, rows], on: backend)
      for start in stride(from: 0, to: columns, by: 256) {
        let count = min(256, columns - start)
        let units = try Tensor(full: [count, columns], value: 0, on: backend)
        let diagonal = try units.narrowed(1, start..<start + count)
        try backend.copy(try Tensor(identity: count, on: backend), into: diagonal)
        let block = try binary(.subtract, try run(units), shift)
        try backend.copy(block, into: try merged.narrowed(0, start..<start + count))
      }
      func largest(_ x: Tensor) throws -> Float { try reduce(.maximum, try unary(.abs, x)).floats()[0] }
      // Small and large inputs, since a bound shows at one of them only.
      let isLinear = try [0.01, 1, 100].allSatisfy { (deviation: Double) in
        let probe = try Tensor(empty: [4, columns], on: backend)
        let stream = RandomStream(seed: 1, purpose: "merge")
        try backend.fillNormal(probe, mean: 0, deviation: deviation, stream: stream)
        let expected = try run(probe)
        let got = try binary(.add, try matmul(probe, merged), shift)
        return try largest(try binary(.subtract, got, expected)) <= 1e-3 * largest(expected)
      }
      let hasShift = try bias == nil && largest(shift) > 0
      guard isLinear, !hasShift else { throw AdapterError.notMergeable(module: module) }
      try backend.copy(try merged.transposed(0, 1), into: weight)
      if let bias { try backend.copy(try shift.viewed(bias.shape), into: bias) }
    }
  }

  /// An estimate: a product with every trained element, and eight passes over the outputs.
  public func work(of module: Module) -> AdapterWork {
    let count = shapes.reduce(0) { $0 + $1.shape.reduce(1, *) }
    return AdapterWork(products: 2 * Double(count), passed: 8 * Double(module.outFeatures))
  }

  /// The hash of the source, which lies beside the file.
  /// - Throws: nothing: `attach` keeps one definition in a set.
  public static func configuration(_ adapters: [(module: String, method: Scripted)]) -> [(String, JSON)] {
    [("source_sha256", .string(adapters.first?.method.definition.sourceHash ?? ""))]
  }

  /// Such a file alone is no adapter: the program is not read from it, since reading would run it.
  /// - Throws: `AdapterError.needsDefinition`.
  public static func reader(_ configuration: JSON, path: String) throws -> AdapterReader {
    throw AdapterError.needsDefinition(path: path)
  }
}

extension Scripted {
  /// The keys of adapter_config.json for a script.
  package static let table = FieldTable(
    PEFTTable.common + [FieldTable.Row(["source_sha256"], .honoured)], unknown: .refused)
}

extension LanguageModel {
  /// The program of the adapters in use; nil for a method of the engine.
  var scripted: ScriptedDefinition? { (adapters.first?.method as? Scripted)?.definition }
}
