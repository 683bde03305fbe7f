import Adapters
import Autograd
import Formats
import Models
import Tensors

// Adapters that the engine does not know, as a program of its own would add them.

/// DoRA (Liu et al. 2024) with a gradient of its norms: y = m * (x V^T) / |V| + bias with V = W + scaling * B A and |V|
/// the norms of its rows. It reads the frozen weight. Gradients flow through |V| too, other than in the shipped method,
/// so that finite differences can check them.
struct FullDoRA: AdapterMethod {
  static let peftType = "DORA"
  var low: LoRA

  var settings: [(name: String, value: JSON)] { low.settings }
  func check(_ module: Module) throws { try low.check(module) }

  func parameters(of module: Module) -> [AdapterParameter] {
    low.parameters(of: module) + [AdapterParameter("lora_magnitude_vector", [module.outFeatures])]
  }

  func initialize(_ tensors: [Tensor], of module: Module, seed: UInt64) throws {
    try low.initialize(tensors, of: module, seed: seed)
    try GradientMode.disabled {
      try tensors[2].backend.copy(try norms(tensors, try module.denseWeight()), into: tensors[2])
    }
  }

  private func direction(_ tensors: [Tensor], _ weight: Tensor) throws -> Tensor {
    let scaling = try Tensor([Float(low.scaling)], on: weight.backend)
    return try binary(.add, weight, try binary(.multiply, try matmul(tensors[1], tensors[0]), scaling))
  }

  private func norms(_ tensors: [Tensor], _ weight: Tensor) throws -> Tensor {
    try unary(.sqrt, try reduce(.sum, try unary(.square, try direction(tensors, weight)), axis: 1))
  }

  func apply(
    _ tensors: [Tensor], x: Tensor, y: Tensor, of module: Module, _ context: ForwardContext
  ) throws -> Tensor {
    let factor = try binary(.divide, tensors[2], try norms(tensors, try module.denseWeight()))
    let branch = low.lowRank(tensors)
    guard let bias = module.bias else { return try binary(.multiply, try branch.added(to: y, x), factor) }
    let product = try branch.added(to: try binary(.subtract, y, bias), x)
    return try binary(.add, try binary(.multiply, product, factor), bias)
  }

  func merge(_ tensors: [Tensor], weight: Tensor, bias: Tensor?) throws {
    try GradientMode.disabled {
      let factor = try binary(.divide, tensors[2], try norms(tensors, weight))
      let merged = try binary(.multiply, try direction(tensors, weight), try reshape(factor, [-1, 1]))
      try weight.backend.copy(merged, into: weight)
    }
  }

  func work(of module: Module) -> AdapterWork {
    let (rows, columns) = (Double(module.outFeatures), Double(module.inFeatures))
    return AdapterWork(products: 2 * Double(low.rank) * (rows + columns), passed: 6 * rows)
  }

  static func configuration(_ adapters: [(module: String, method: FullDoRA)]) throws -> [(String, JSON)] {
    try LoRA.configuration(adapters.map { ($0.module, $0.method.low) })
  }

  static func reader(_ configuration: JSON, path: String) throws -> AdapterReader {
    let lora = try LoRA.reader(configuration, path: path)
    return { module, shapes in
      guard let low = try lora(module, shapes) as? LoRA else { throw AdapterError.nothingToSave }
      return FullDoRA(low: low)
    }
  }
}

/// LoRA by the path of methods that the engine does not fuse.
struct PlainLoRA: AdapterMethod {
  static let peftType = "LORA"
  var low: LoRA

  var settings: [(name: String, value: JSON)] { low.settings }
  func check(_ module: Module) throws { try low.check(module) }
  func parameters(of module: Module) -> [AdapterParameter] { low.parameters(of: module) }
  func initialize(_ tensors: [Tensor], of module: Module, seed: UInt64) throws {
    try low.initialize(tensors, of: module, seed: seed)
  }
  func apply(
    _ tensors: [Tensor], x: Tensor, y: Tensor, of module: Module, _ context: ForwardContext
  ) throws -> Tensor {
    try low.apply(tensors, x: x, y: y, of: module, context)
  }
  func merge(_ tensors: [Tensor], weight: Tensor, bias: Tensor?) throws {
    try low.merge(tensors, weight: weight, bias: bias)
  }
  func work(of module: Module) -> AdapterWork { low.work(of: module) }
  static func configuration(_ adapters: [(module: String, method: PlainLoRA)]) throws -> [(String, JSON)] {
    try LoRA.configuration(adapters.map { ($0.module, $0.method.low) })
  }
  static func reader(_ configuration: JSON, path: String) throws -> AdapterReader {
    try LoRA.reader(configuration, path: path)
  }
}

/// y = tanh(x W^T + bias + t) with a trained t [out]. Its last operation keeps its result for the backward pass.
struct Bent: AdapterMethod {
  static let peftType = "BENT"
  /// Rows of the output that are left out, to give a wrong shape.
  var missing = 0

  var settings: [(name: String, value: JSON)] { [] }
  func check(_ module: Module) {}
  func parameters(of module: Module) -> [AdapterParameter] { [AdapterParameter("t", [module.outFeatures])] }
  func initialize(_ tensors: [Tensor], of module: Module, seed: UInt64) throws {
    try tensors[0].backend.fill(tensors[0], 0)
  }
  func apply(
    _ tensors: [Tensor], x: Tensor, y: Tensor, of module: Module, _ context: ForwardContext
  ) throws -> Tensor {
    let bent = try unary(.tanh, try binary(.add, y, tensors[0]))
    return missing == 0 ? bent : try narrow(bent, 0, 0..<y.shape[0] - missing)
  }
  func merge(_ tensors: [Tensor], weight: Tensor, bias: Tensor?) throws {
    throw AdapterError.unsupported(path: "", field: "merge", value: "bent")
  }
  func work(of module: Module) -> AdapterWork { AdapterWork(passed: 4 * Double(module.outFeatures)) }
  static func configuration(_ adapters: [(module: String, method: Bent)]) -> [(String, JSON)] { [] }
  static func reader(_ configuration: JSON, path: String) -> AdapterReader { { _, _ in Bent() } }
}
