import Autograd
import Formats
import Models
import Tensors

/// Weight-decomposed low-rank adapters (Liu et al. 2024): y = m * (x V^T) / |V| + bias with V = W + scaling * B A, |V|
/// the norms of its rows [out] and m a trained vector [out] that starts as the norms of W's rows.
///
/// As in the paper (section 4.3) and in PEFT, |V| follows A and B but gets no gradient. With dropout the whole second
/// term sees the masked input: y = x W^T + bias + m / |V| * (d V^T) - d W^T with d = dropout(x).
///
/// Each pass decodes W once more, in f32, for the norms; with dropout it multiplies with W a second time.
public struct DoRA: AdapterMethod {
  /// PEFT's name of the method, `LORA`: it is a switch of LoRA there, `use_dora`.
  public static let peftType = LoRA.peftType
  static let nameOfMagnitude = "lora_magnitude_vector"

  /// Rank, alpha, dropout and the start of A and B.
  public var low: LoRA

  /// DoRA with the settings of its low-rank part.
  public init(_ low: LoRA) { self.low = low }

  /// Those of the low-rank part.
  public var settings: [(name: String, value: JSON)] { low.settings }

  /// Checks the low-rank part.
  /// - Throws: as `LoRA.check`; `AdapterError.badStart` for a start that changes the base.
  public func check(_ module: Module) throws {
    try low.check(module)
    guard !low.initialization.changesBase else {
      throw AdapterError.badStart(
        module: module.name, name: low.initialization.rawValue, reason: "DoRA takes its norms from the unchanged base")
    }
  }

  /// A [rank, in], B [out, rank] and m [out], named `lora_A.weight`, `lora_B.weight` and `lora_magnitude_vector`. The
  /// rate of m is that of B: LoRA+ of PEFT has vectors in its group (peft/optimizers/loraplus.py).
  public func parameters(of module: Module) -> [AdapterParameter] {
    low.parameters(of: module) + [
      AdapterParameter(
        DoRA.nameOfMagnitude, [module.outFeatures],
        learningRateFactor: low.learningRateFactor * low.learningRateRatio)
    ]
  }

  /// A and B as in LoRA, m to the norms of the rows of the base, dequantized where it is stored in few bits.
  /// - Throws: `TensorError` when the device fails or there is no memory for the base in f32.
  public func initialize(_ tensors: [Tensor], of module: Module, seed: UInt64) throws {
    try low.initialize(tensors, of: module, seed: seed)
    try GradientMode.disabled {
      try tensors[2].backend.copy(try norms(tensors, try module.denseWeight()), into: tensors[2])
    }
  }

  /// Makes V of the weight, in place, and gives the norms of its rows.
  private func norms(_ tensors: [Tensor], _ weight: Tensor) throws -> Tensor {
    try low.merge(tensors, weight: weight, bias: nil)
    return try unary(.sqrt, try reduce(.sum, try unary(.square, weight), axis: 1))
  }

  /// m / |V| times the product with V, and the bias.
  /// - Throws: what its operations throw, such as `TensorError.outOfMemory`.
  public func apply(
    _ tensors: [Tensor], x: Tensor, y: Tensor, of module: Module, _ context: ForwardContext
  ) throws -> Tensor {
    let lengths = try GradientMode.disabled { try norms(tensors, try module.denseWeight()) }
    let factor = try binary(.divide, tensors[2], lengths)
    let branch = low.lowRank(tensors)
    if context.isTraining, low.dropout > 0, let weight = module.linearWeight {
      let masked = try dropout(
        x, probability: Float(low.dropout), stream: context.randomStream("dropout", module: module.name))
      let base = try linear(masked, weight, precision: context.precision)
      let whole = try binary(.multiply, try branch.added(to: base, masked), factor)
      return try binary(.add, y, try binary(.subtract, whole, base))
    }
    guard let bias = module.bias else { return try binary(.multiply, try branch.added(to: y, x), factor) }
    let product = try branch.added(to: try binary(.subtract, y, bias), x)
    return try binary(.add, try binary(.multiply, product, factor), bias)
  }

  /// m * V / |V|, in f32. The bias stays as it is.
  /// - Throws: `TensorError.outOfMemory`.
  public func merge(_ tensors: [Tensor], weight: Tensor, bias: Tensor?) throws {
    try GradientMode.disabled {
      let factor = try binary(.divide, tensors[2], try norms(tensors, weight))
      try weight.backend.copy(try binary(.multiply, weight, try reshape(factor, [-1, 1])), into: weight)
    }
  }

  /// That of LoRA, the product with the factor, and with dropout a second product with the base.
  public func work(of module: Module) -> AdapterWork {
    let (rows, columns) = (Double(module.outFeatures), Double(module.inFeatures))
    var work = low.work(of: module)
    work.passed += 6 * rows
    if low.dropout > 0 { work.products += 2 * rows * columns }
    return work
  }

  /// That of LoRA with `use_dora`.
  /// - Throws: as `LoRA.configuration`.
  public static func configuration(_ adapters: [(module: String, method: DoRA)]) throws -> [(String, JSON)] {
    try LoRA.configuration(adapters.map { ($0.module, $0.method.low) })
      .map { $0.0 == "use_dora" ? ($0.0, true) : $0 }
  }

  /// `LoRA.reader`, which makes DoRA where `use_dora` is set.
  /// - Throws: as `LoRA.reader`.
  public static func reader(_ configuration: JSON, path: String) throws -> AdapterReader {
    try LoRA.reader(configuration, path: path)
  }
}
