import Autograd
import Tensors

/// The adapter of one linear module: a method with its trained tensors.
public final class Adapter: Sendable {
  /// Full name of the adapted module.
  public let moduleName: String
  /// Name of the set that it belongs to.
  public let setName: String
  /// The settings and the arithmetic.
  public let method: any AdapterMethod
  /// f32, in the order of `AdapterMethod.parameters`.
  public let tensors: [Tensor]
  /// The whole change of the output where it is a low-rank branch, without dropout; nil for other methods.
  public let lowRank: LowRank?

  /// What the adapter's start took out of the base; nil where it left it alone.
  public let baseChange: BaseChange?

  private let records: [AdapterParameter]
  private let dropout: Double

  /// Neither checks nor initializes; the module does not change.
  /// - Parameters:
  ///   - method: the settings on this module.
  ///   - module: the linear module.
  ///   - tensors: one for each of `method.parameters(of: module)`, of its shape.
  ///   - set: name of the set that it is for.
  ///   - baseChange: what its start took out of the base.
  public convenience init(
    _ method: any AdapterMethod, on module: Module, _ tensors: [Tensor], set: String = AdapterSet.defaultName,
    baseChange: BaseChange? = nil
  ) {
    self.init(method, module.name, set, method.parameters(of: module), tensors, baseChange)
  }

  private init(
    _ method: any AdapterMethod, _ name: String, _ set: String, _ records: [AdapterParameter], _ tensors: [Tensor],
    _ baseChange: BaseChange?
  ) {
    self.method = method
    self.baseChange = baseChange
    self.moduleName = name
    self.setName = set
    self.records = records
    self.tensors = tensors
    let branching = method as? any LowRankMethod
    lowRank = branching?.lowRank(tensors)
    dropout = branching?.dropout ?? 0
  }

  /// The method's name in texts: "lora", "dora", "ia3".
  public var kind: String { Self.kind(of: method) }

  /// What an adapter of this method is called.
  package static func kind(of method: any AdapterMethod) -> String {
    String(describing: type(of: method)).lowercased()
  }

  /// The tensors with PEFT's names behind the module's, and the factor of their learning rate.
  public var parameters: [(name: String, tensor: Tensor, learningRateFactor: Double)] {
    zip(records, tensors).map { ("\(moduleName).\($0.name)", $1, $0.learningRateFactor) }
  }

  /// The name of a parameter among those of all sets: PEFT's, with the set before it unless that is the default one.
  package func uniqueName(_ name: String) -> String { setName == AdapterSet.defaultName ? name : "\(setName):\(name)" }

  /// Elements of all tensors.
  public var elementCount: Int { tensors.reduce(0) { $0 + $1.elementCount } }
  /// Bytes of all tensors, without gradients.
  public var byteCount: Int { tensors.reduce(0) { $0 + $1.byteCount } }
  /// Whether a tensor requires a gradient.
  public var isTrained: Bool { tensors.contains(where: \.requiresGradient) }

  /// The same adapter with other tensors; those that it shares with others by `shared`.
  package func replacing(
    _ body: (Tensor) throws -> Tensor, shared: (Tensor) throws -> Tensor = { $0 }, baseChange: BaseChange? = nil
  ) rethrows -> Adapter {
    Adapter(
      try method.replacingShared(shared), moduleName, setName, records, try tensors.map(body), baseChange)
  }

  /// What one forward pass adds together with the base product.
  func branch(_ context: ForwardContext) -> LowRank? {
    lowRank?.masked(dropout, module: uniqueName(moduleName), context)
  }

  /// The output of the adapted layer from that without this adapter.
  /// - Throws: `ModelError.badAdapterOutput`; what the method throws.
  func applied(to y: Tensor, _ x: Tensor, of module: Module, _ context: ForwardContext) throws -> Tensor {
    let result =
      try branch(context)?.added(to: y, x) ?? method.apply(tensors, x: x, y: y, of: module, context)
    guard result.shape == y.shape else {
      throw ModelError.badAdapterOutput(module: moduleName, expected: y.shape, got: result.shape)
    }
    // A copy, because later operations may write over the output in place.
    return try convert(result, to: y.dtype)
  }
}

/// A part of a frozen weight that an adapter started with: W = residual + its branch at the start, up to rounding. The
/// module keeps W; what is left of it takes its place in the passes that add the adapter.
public struct BaseChange: Sendable {
  /// The trained tensors as they were at the start.
  public let start: [Tensor]
  /// What is left of W, in its dtype; nil in a header-only model.
  public let residual: Tensor?

  /// Remembers the tensors; none is copied.
  public init(start: [Tensor], residual: Tensor?) {
    self.start = start
    self.residual = residual
  }
}
