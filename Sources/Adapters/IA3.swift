import Autograd
import Formats
import Models
import Tensors

/// (IA)³ (Liu et al. 2022): one trained factor for each output, y = l * (x W^T + bias) with l [out, 1], or for each
/// input of a feed-forward module, y = (l * x) W^T + bias with l [1, in]. All start at 1.
///
/// A module whose inputs are scaled multiplies with W a second time.
public struct IA3: AdapterMethod {
  /// PEFT's name of the method.
  public static let peftType = "IA3"
  static let nameOfFactors = "ia3_l"

  /// Whether the inputs are scaled instead of the outputs: PEFT's `feedforward_modules`.
  public var scalesInput: Bool
  /// Multiplies the learning rate.
  public var learningRateFactor: Double

  /// Factors of the outputs unless asked for those of the inputs.
  public init(scalesInput: Bool = false, learningRateFactor: Double = 1) {
    self.scalesInput = scalesInput
    self.learningRateFactor = learningRateFactor
  }

  /// Which side is scaled.
  public var settings: [(name: String, value: JSON)] { [("scales", .string(scalesInput ? "input" : "output"))] }

  /// Checks the learning-rate factor.
  /// - Throws: `AdapterError.badNumber`.
  public func check(_ module: Module) throws {
    guard learningRateFactor.isFinite, learningRateFactor >= 0 else {
      throw AdapterError.badNumber(
        module: module.name, name: "lr", value: learningRateFactor, expected: "a factor of at least 0")
    }
  }

  /// `ia3_l`: [1, in] or [out, 1].
  public func parameters(of module: Module) -> [AdapterParameter] {
    let shape = scalesInput ? [1, module.inFeatures] : [module.outFeatures, 1]
    return [AdapterParameter(IA3.nameOfFactors, shape, learningRateFactor: learningRateFactor)]
  }

  /// All factors to 1.
  /// - Throws: `TensorError` when the device fails; nothing on the CPU.
  public func initialize(_ tensors: [Tensor], of module: Module, seed: UInt64) throws {
    try tensors[0].backend.fill(tensors[0], 1)
  }

  /// The scaled output, or the output of the scaled input.
  /// - Throws: what its operations throw, such as `TensorError.outOfMemory`.
  public func apply(
    _ tensors: [Tensor], x: Tensor, y: Tensor, of module: Module, _ context: ForwardContext
  ) throws -> Tensor {
    guard scalesInput else { return try binary(.multiply, y, try reshape(tensors[0], [-1])) }
    guard let weight = module.linearWeight else { throw ModelError.notLoaded(module: module.name) }
    let scaled = try convert(try binary(.multiply, x, tensors[0]), to: x.dtype)
    return try linear(scaled, weight, bias: module.bias, precision: context.precision)
  }

  /// The rows of the weight and the bias times l, or the columns of the weight.
  /// - Throws: `TensorError.outOfMemory`.
  public func merge(_ tensors: [Tensor], weight: Tensor, bias: Tensor?) throws {
    try GradientMode.disabled {
      try weight.backend.copy(try binary(.multiply, weight, tensors[0]), into: weight)
      guard !scalesInput, let bias else { return }
      try bias.backend.copy(try binary(.multiply, bias, try reshape(tensors[0], [-1])), into: bias)
    }
  }

  /// A pass over the outputs, or over the inputs and a second product.
  public func work(of module: Module) -> AdapterWork {
    let (rows, columns) = (Double(module.outFeatures), Double(module.inFeatures))
    return scalesInput
      ? AdapterWork(products: 2 * rows * columns, passed: 3 * columns) : AdapterWork(passed: 3 * rows)
  }

  /// The modules whose inputs are scaled are a regular expression of full names, which PEFT does not hold against the
  /// names in `target_modules`.
  public static func configuration(_ adapters: [(module: String, method: IA3)]) throws -> [(String, JSON)] {
    let names = adapters.filter(\.method.scalesInput).map { $0.module.replacing(".", with: #"\."#) }
    return [
      ("feedforward_modules", names.isEmpty ? [] : .string(names.joined(separator: "|"))), ("fan_in_fan_out", false),
      ("init_ia3_weights", true),
    ]
  }

  /// A module is one of `feedforward_modules` by PEFT's rule: a whole match of a text, or a name that ends with one of
  /// a list.
  /// - Throws: `AdapterError.badField`, `FormatError`.
  public static func reader(_ configuration: JSON, path: String) throws -> AdapterReader {
    let field = "feedforward_modules"
    func bad() -> AdapterError {
      .badField(path: path, field: field, expected: "a list of names or a regular expression")
    }
    // null means a list of PEFT's own for the family; what it saves has the names.
    guard configuration[field]?.unlessNull != nil else { throw bad() }
    try table.check(configuration, path: path)
    let isChosen: (String) throws -> Bool
    switch configuration[field] ?? .null {
    case .string(let text):
      let pattern = try Pattern("(?:" + text + #")\z"#, field: field, path: path)
      isChosen = { try pattern.prefix(of: $0) == $0 }
    case .array(let list) where list.allSatisfy({ $0.string != nil }):
      isChosen = { name in list.compactMap(\.string).contains { name.hasSuffix($0) } }
    default:
      throw bad()
    }
    return { module, _ in IA3(scalesInput: try PEFTNames.all(module).contains(where: isChosen)) }
  }

  /// The keys of adapter_config.json for (IA)³: those of PEFT 0.21.2 (PeftConfig and IA3Config).
  package static let table = FieldTable(
    PEFTTable.common + [
      FieldTable.Row(["feedforward_modules"], .honoured),
      FieldTable.Row(["init_ia3_weights"], .harmless("how the factors start; the file has them")),
    ], unknown: .refused)
}
