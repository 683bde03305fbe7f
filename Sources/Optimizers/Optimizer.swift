import Tensors

/// A trained tensor with its name and the factor on the learning rate.
public struct OptimizedParameter {
  /// The name in messages, and the prefix of its arrays in checkpoints.
  public let name: String
  /// The trained values, f32 and contiguous.
  public let tensor: Tensor
  /// What multiplies the learning rate for this tensor.
  public let learningRateFactor: Double

  /// A parameter; the factor is not checked.
  public init(name: String, tensor: Tensor, learningRateFactor: Double = 1) {
    self.name = name
    self.tensor = tensor
    self.learningRateFactor = learningRateFactor
  }
}

/// An optimizer of some rule over a list of f32 parameters, with state in 32 or 8 bits, in memory or paged.
///
/// State is cut into pages that are visited in a fixed order; paged and unpaged runs give the same bits.
public final class Optimizer {
  /// What is trained, in the order of the state.
  public let parameters: [OptimizedParameter]
  /// The rule with its numbers, and where the state lies.
  public let options: OptimizerOptions
  /// Steps taken so far.
  public internal(set) var stepCount = 0
  /// The segment of state that a step which threw has yet to update, and all that follow it.
  var unfinished: (page: Int, segment: Int)?
  /// The rule's numbers, complete.
  private let values: [String: [Float]]
  /// Of each parameter, for the width of its state.
  private let kernels: [OptimizerKernel]
  let pages: [StatePage]
  private let store: any StateStore

  /// Allocates the state, all zeros, and the spill file when the state exceeds the budget of a paged optimizer.
  /// - Throws: `OptimizerError.badOption` also for no parameters, `.unknownOption`, `.budgetTooSmall`; as
  ///   `check(_:)`; `TensorError.outOfMemory`, `.spillFailed`, `.noThread`.
  public init(_ parameters: [OptimizedParameter], _ options: OptimizerOptions) throws {
    try options.check()
    try Self.check(parameters)
    guard let backend = parameters.first?.tensor.backend else {
      throw OptimizerError.badOption(name: "parameters", value: "empty", expected: "at least one trained tensor")
    }
    self.parameters = parameters
    self.options = options
    let counts = parameters.map { $0.tensor.elementCount }
    values = try options.rule.values(options.values)
    kernels = try counts.map { try options.rule.kernel(bits: OptimizerState.bits(options, count: $0)) }
    let spills: Bool
    (pages, spills) = Optimizer.layout(counts, options)
    let byteCounts = pages.map { max(1, $0.byteCount) }
    if spills {
      store = try StatePager(
        byteCounts: byteCounts, budget: options.budget, directory: options.spillDirectory, backend: backend)
    } else {
      store = try ResidentStore(byteCounts: byteCounts, backend: backend)
    }
  }

  /// Checks that tensors can be updated.
  /// - Throws: `OptimizerError.notF32`, `.notPacked`, `.repeated` for a tensor that comes twice.
  package static func check(_ parameters: [OptimizedParameter]) throws(OptimizerError) {
    var seen: Set<ObjectIdentifier> = []
    for parameter in parameters {
      guard parameter.tensor.dtype == .f32 else {
        throw .notF32(parameter: parameter.name, dtype: parameter.tensor.dtype.name)
      }
      guard parameter.tensor.isContiguous else { throw .notPacked(parameter: parameter.name) }
      guard seen.insert(ObjectIdentifier(parameter.tensor)).inserted else {
        throw .repeated(parameter: parameter.name)
      }
    }
  }

  /// The pages of state, and whether some of them must be in a file; without need of one the pages simply stay.
  private static func layout(_ counts: [Int], _ options: OptimizerOptions) -> (pages: [StatePage], spills: Bool) {
    let pages = OptimizerState.pages(counts, options, limit: options.pageElementCount)
    guard options.isPaged, pages.reduce(0, { $0 + $1.byteCount }) > options.budget else { return (pages, false) }
    // A small budget is cut into small pages, so that there are some to read ahead into.
    let fitting = OptimizerState.elementCount(options, fitting: options.budget / 16)
    let limit = max(OptimizerState.blockSize, min(options.pageElementCount, fitting))
    return (OptimizerState.pages(counts, options, limit: limit), true)
  }

  /// Sizes in bytes of the blocks of state that stay in memory, and the bytes of the spill file, without making
  /// anything.
  ///
  /// `counts` has the number of elements of each parameter.
  public static func plannedState(_ counts: [Int], _ options: OptimizerOptions) -> (blocks: [Int], spilled: Int) {
    let (layout, spills) = layout(counts, options)
    let pages = layout.map(\.byteCount)
    guard spills, let largest = pages.max() else { return (pages, 0) }
    return (Array(repeating: largest, count: min(pages.count, options.budget / largest)), pages.count * largest)
  }

  /// Bytes of state, in memory and spilled.
  public var stateByteCount: Int { pages.reduce(0) { $0 + $1.byteCount } }

  /// Page counters, nil when all state stays in memory.
  package var statistics: PageStatistics? { store.statistics }

  /// Forgets all gradients.
  /// - Throws: `OptimizerError.unfinishedStep` where a step stopped midway: only with its gradients can it be finished.
  public func zeroGradients() throws {
    try requireWholeStep()
    for parameter in parameters { parameter.tensor.gradient = nil }
  }

  /// - Throws: `OptimizerError.unfinishedStep` where some parameters have been updated and others not.
  func requireWholeStep() throws {
    if unfinished != nil { throw OptimizerError.unfinishedStep(stepCount) }
  }

  /// One update of every parameter that has a gradient; `stepCount` grows by 1.
  ///
  /// After an error (a full disk) nothing is lost: the next call goes on with the same step, at the update that was
  /// not done.
  /// - Parameters:
  ///   - learningRate: overrides the option for this step; at least 0.
  ///   - gradientScale: multiplies gradients, for clipping; at least 0.
  /// - Throws: `OptimizerError.badOption` for a rate or a scale that is negative, infinite or NaN, `.gradientShape`;
  ///   `TensorError.spillFailed`, `.spillDamaged`; `TensorError.outOfMemory` for a gradient that must be packed; what a
  ///   kernel throws.
  public func step(learningRate: Double? = nil, gradientScale: Float = 1) throws {
    let rate = learningRate ?? Double(options.learningRate)
    for (name, value) in [("lr", Float(rate)), ("gradient scale", gradientScale)]
    where !NumberRange.amount.contains(Double(value)) {
      throw OptimizerError.badOption(
        name: name, value: String(value), expected: "a \(NumberRange.amount.expected(insteadOf: Double(value)))")
    }
    for parameter in parameters {
      guard Float(rate * parameter.learningRateFactor).isFinite else {
        throw OptimizerError.badOption(
          name: "lr", value: "\(rate) times \(parameter.learningRateFactor) for \(parameter.name)",
          expected: "a product within the range of f32")
      }
      guard let gradient = parameter.tensor.gradient else { continue }
      guard gradient.shape == parameter.tensor.shape else {
        throw OptimizerError.gradientShape(
          parameter: parameter.name, expected: parameter.tensor.shape, got: gradient.shape)
      }
    }
    if unfinished == nil { stepCount += 1 }
    let start = unfinished ?? (page: 0, segment: 0)
    for number in start.page..<pages.count {
      let segments = pages[number].segments
      let first = number == start.page ? start.segment : 0
      unfinished = (number, first)
      guard segments[first...].contains(where: { parameters[$0.parameter].tensor.gradient != nil }) else { continue }
      try withPage(number, isDirty: true) { arrays in
        for (index, segment) in segments.enumerated().dropFirst(first) {
          unfinished = (number, index)
          guard let gradient = parameters[segment.parameter].tensor.gradient else { continue }
          try update(segment, gradient, arrays[index], rate, gradientScale)
        }
      }
    }
    unfinished = nil
  }

  private func update(
    _ segment: StateSegment, _ gradient: Tensor, _ state: [Tensor], _ rate: Double, _ gradientScale: Float
  ) throws {
    let parameter = parameters[segment.parameter]
    parameter.tensor.noteChange()
    try kernels[segment.parameter].update(
      ParameterUpdate(
        parameter: try elements(segment.range, of: parameter.tensor),
        gradient: try elements(segment.range, of: gradient), state: state, values: values,
        learningRate: Float(rate * parameter.learningRateFactor), step: stepCount, gradientScale: gradientScale))
  }

  private func elements(_ range: Range<Int>, of tensor: Tensor) throws -> Tensor {
    let packed = try tensor.contiguous()
    return Tensor(
      storage: packed.storage, dtype: packed.dtype, shape: [range.count], offset: packed.offset + range.lowerBound)
  }

  /// Runs `body` on the state arrays of each segment of a page.
  func withPage(_ number: Int, isDirty: Bool, _ body: ([[Tensor]]) throws -> Void) throws {
    let block = try store.acquire(number)
    defer { store.release(number, isDirty: isDirty) }
    try body(block.arrays(of: pages[number], number))
  }
}
