import Autograd
import Tensors

/// The adapter of one linear module: a method with its trained tensors.
public final class Adapter {
  /// Full name of the adapted module.
  public let moduleName: String
  /// The settings and the arithmetic.
  public let method: any AdapterMethod
  /// f32, in the order of `AdapterMethod.parameters`.
  public let tensors: [Tensor]
  /// The whole change of the output where it is a low-rank branch, without dropout; nil for other methods.
  public let lowRank: LowRank?

  private let records: [AdapterParameter]
  private let dropout: Double

  /// Neither checks nor initializes; the module does not change.
  /// - Parameters:
  ///   - method: the settings on this module.
  ///   - module: the linear module.
  ///   - tensors: one for each of `method.parameters(of: module)`, of its shape.
  public convenience init(_ method: any AdapterMethod, on module: Module, _ tensors: [Tensor]) {
    self.init(method, module.name, method.parameters(of: module), tensors)
  }

  private init(_ method: any AdapterMethod, _ name: String, _ records: [AdapterParameter], _ tensors: [Tensor]) {
    self.method = method
    self.moduleName = name
    self.records = records
    self.tensors = tensors
    let branching = method as? any LowRankMethod
    lowRank = branching?.lowRank(tensors)
    dropout = branching?.dropout ?? 0
  }

  /// The tensors with PEFT's names behind the module's, and the factor of their learning rate.
  public var parameters: [(name: String, tensor: Tensor, learningRateFactor: Double)] {
    zip(records, tensors).map { ("\(moduleName).\($0.name)", $1, $0.learningRateFactor) }
  }

  /// Elements of all tensors.
  public var elementCount: Int { tensors.reduce(0) { $0 + $1.elementCount } }
  /// Bytes of all tensors, without gradients.
  public var byteCount: Int { tensors.reduce(0) { $0 + $1.byteCount } }
  /// Whether a tensor requires a gradient.
  public var isTrained: Bool { tensors.contains(where: \.requiresGradient) }

  /// The same adapter with other tensors.
  func replacing(_ body: (Tensor) throws -> Tensor) rethrows -> Adapter {
    Adapter(method, moduleName, records, try tensors.map(body))
  }

  /// What one forward pass adds together with the base product.
  func branch(_ context: ForwardContext) -> LowRank? { lowRank?.masked(dropout, module: moduleName, context) }

  /// The output of the adapted layer from that of the base with `branch`.
  /// - Throws: `ModelError.badAdapterOutput`; what the method throws.
  func applied(to y: Tensor, _ x: Tensor, of module: Module, _ context: ForwardContext) throws -> Tensor {
    guard lowRank == nil else { return y }
    let result = try method.apply(tensors, x: x, y: y, of: module, context)
    guard result.shape == y.shape else {
      throw ModelError.badAdapterOutput(module: moduleName, expected: y.shape, got: result.shape)
    }
    // A copy, because later operations may write over the output in place.
    return try convert(result, to: y.dtype)
  }
}
