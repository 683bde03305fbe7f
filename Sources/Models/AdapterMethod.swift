import Autograd
import Formats
import Tensors

/// A way to adapt a frozen linear layer: its settings on one module, what it trains there, and its arithmetic.
///
/// A value without tensors; `Adapter` holds those. The engine knows adapters by this protocol alone: a method written
/// with the differentiable operations of Autograd trains, recomputes, streams, is planned, saved, loaded and merged. A
/// method whose output is a low-rank branch is a `LowRankMethod`, which is computed together with the base product.
public protocol AdapterMethod: Sendable {
  /// PEFT's name of the method, `peft_type` in adapter_config.json: "LORA".
  static var peftType: String { get }

  /// The settings that a text shows, in its order: rank 8, alpha 16. A text leaves out zeros.
  var settings: [(name: String, value: JSON)] { get }

  /// Checks the settings against a module before an adapter is made for it.
  /// - Throws: an error that names `module` and the setting that is wrong there.
  func check(_ module: Module) throws

  /// What is trained on `module`, in the order in which the other requirements get the tensors.
  func parameters(of module: Module) -> [AdapterParameter]

  /// Sets new tensors to values with which the adapter changes nothing. The same seed and module name give the same
  /// values.
  /// - Throws: what the backend throws, such as `TensorError.outOfMemory`; nothing is attached then.
  func initialize(_ tensors: [Tensor], of module: Module, seed: UInt64) throws

  /// The output [T, out] of the adapted layer, by differentiable operations; any float dtype. The tensors, `x` and `y`
  /// must not be written to. A mask comes from `context.randomStream`.
  /// - Parameters:
  ///   - tensors: f32, in the order of `parameters`
  ///   - x: [T, in]
  ///   - y: the output of the base, x W^T + bias, [T, out]
  ///   - module: the adapted layer
  ///   - context: precision, dropout and its seed in this pass
  /// - Returns: a tensor of the shape of `y`; another shape becomes `ModelError.badAdapterOutput`.
  /// - Throws: what its operations throw, such as `TensorError.outOfMemory`.
  func apply(
    _ tensors: [Tensor], x: Tensor, y: Tensor, of module: Module, _ context: ForwardContext
  ) throws -> Tensor

  /// Turns a weight and a bias into those of a layer that computes the same without the adapter, in place.
  /// - Parameters:
  ///   - tensors: f32, in the order of `parameters`
  ///   - weight: the frozen weight as f32 [out, in]
  ///   - bias: f32 [out]; nil when the layer has none
  /// - Throws: what its operations throw, such as `TensorError.outOfMemory`.
  func merge(_ tensors: [Tensor], weight: Tensor, bias: Tensor?) throws

  /// Frozen tensors that the adapters of a set have in common, by PEFT's names behind `base_model.`.
  var shared: [(name: String, tensor: Tensor)] { get }

  /// The same settings with others in the places of `shared`.
  func replacingShared(_ body: (Tensor) throws -> Tensor) rethrows -> Self

  /// Arithmetic of `apply` for a plan.
  func work(of module: Module) -> AdapterWork

  /// The fields of adapter_config.json that describe these adapters, besides those that every method has (`PEFTFiles`).
  /// - Throws: an error that names two modules when one file cannot describe both.
  static func configuration(_ adapters: [(module: String, method: Self)]) throws -> [(String, JSON)]

  /// Checks adapter_config.json, read from `path`. The result makes the method of a module from the shapes of the
  /// module's tensors in the file, by the names of `parameters`; the caller then compares those shapes.
  /// - Throws: for a setting that changes the arithmetic and is not implemented.
  static func reader(_ configuration: JSON, path: String) throws -> AdapterReader

  /// The names of `shared`, which the file of a set may hold.
  static var sharedNames: [String] { get }

  /// `reader` of a method that needs more of the file than a module's own tensors.
  /// - Throws: as `reader(_:path:)`; for a shared tensor that is missing or does not fit.
  static func reader(_ configuration: JSON, path: String, _ content: AdapterFileContent) throws -> AdapterReader
}

extension AdapterMethod {
  /// None.
  public var shared: [(name: String, tensor: Tensor)] { [] }
  /// Itself.
  public func replacingShared(_ body: (Tensor) throws -> Tensor) rethrows -> Self { self }
  /// None.
  public static var sharedNames: [String] { [] }
  /// That of the configuration alone.
  /// - Throws: as `reader(_:path:)`.
  public static func reader(
    _ configuration: JSON, path: String, _ content: AdapterFileContent
  ) throws -> AdapterReader { try reader(configuration, path: path) }
}

/// What an adapter's file holds for all its modules.
public struct AdapterFileContent {
  /// Those that have tensors in it.
  public let modules: [Module]
  /// Where tensors lie.
  public let backend: any Backend
  /// The f32 tensor of a name in `sharedNames`; nil where the file has none.
  public let shared: (_ name: String) throws -> Tensor?

  /// What was found.
  public init(modules: [Module], backend: any Backend, shared: @escaping (_ name: String) throws -> Tensor?) {
    self.modules = modules
    self.backend = backend
    self.shared = shared
  }
}

/// Makes the method of a module from the shapes of its stored tensors.
public typealias AdapterReader = (_ module: Module, _ shapes: [String: [Int]]) throws -> any AdapterMethod

/// One trained tensor of a method on one module.
public struct AdapterParameter: Sendable {
  /// What follows the module's name in PEFT's files: "lora_A.weight".
  public let name: String
  /// Sizes of the tensor, row-major.
  public let shape: [Int]
  /// Multiplies the learning rate.
  public let learningRateFactor: Double

  /// A tensor that learns at the optimizer's rate unless a factor is given.
  public init(_ name: String, _ shape: [Int], learningRateFactor: Double = 1) {
    self.name = name
    self.shape = shape
    self.learningRateFactor = learningRateFactor
  }
}

/// Arithmetic of an adapter in the forward pass of one token. A backward pass takes twice as much, a recomputation once
/// more.
public struct AdapterWork: Sendable {
  /// Floating-point operations of matrix products.
  public var products = 0.0
  /// Elements that dropout masks.
  public var masked = 0.0
  /// f32 elements that operations between the products read or write.
  public var passed = 0.0

  /// No work unless given.
  public init(products: Double = 0, masked: Double = 0, passed: Double = 0) {
    self.products = products
    self.masked = masked
    self.passed = passed
  }
}

/// A method whose whole change is a low-rank branch. The engine adds it while it computes the base product, and layers
/// that share their input share the products of their branches.
public protocol LowRankMethod: AdapterMethod {
  /// Probability with which training drops an element of the branch's input.
  var dropout: Double { get }

  /// The branch with these tensors, without dropout.
  func lowRank(_ tensors: [Tensor]) -> LowRank
}

extension LowRankMethod {
  /// y + scaling * dropout(x) A^T B^T, by plain operations: what the engine computes in one with the base product.
  /// - Throws: `TensorError.innerDimensions` and `.shapeMismatch` for widths that do not fit;
  ///   `TensorError.outOfMemory`.
  public func apply(
    _ tensors: [Tensor], x: Tensor, y: Tensor, of module: Module, _ context: ForwardContext
  ) throws -> Tensor {
    try lowRank(tensors).masked(dropout, module: module.name, context).added(to: y, x)
  }

  /// W + scaling * B A, in f32. The bias stays as it is.
  /// - Throws: `TensorError.outOfMemory`.
  public func merge(_ tensors: [Tensor], weight: Tensor, bias: Tensor?) throws {
    let branch = lowRank(tensors)
    try weight.backend.matmul(
      branch.b, transposeA: false, branch.a, transposeB: false, alpha: branch.scaling, beta: 1, into: weight,
      precision: .f32)
  }

  /// Two operations per trained element; with dropout the mask of the branch's input.
  public func work(of module: Module) -> AdapterWork {
    let count = parameters(of: module).reduce(0) { $0 + $1.shape.reduce(1, *) }
    return AdapterWork(products: 2 * Double(count), masked: dropout > 0 ? Double(module.inFeatures) : 0)
  }
}

extension LowRank {
  /// The branch as it is in one forward pass: with its mask in training.
  func masked(_ probability: Double, module: String, _ context: ForwardContext) -> LowRank {
    guard context.isTraining, probability > 0 else { return self }
    var branch = self
    branch.dropout = Float(probability)
    branch.stream = context.randomStream("dropout", module: module)
    return branch
  }
}
