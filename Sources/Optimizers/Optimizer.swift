import Tensors

/// A trained tensor with its name and the factor on the learning rate.
public struct OptimizedParameter {
  public let name: String
  public let tensor: Tensor
  public let learningRateFactor: Double

  public init(name: String, tensor: Tensor, learningRateFactor: Double = 1) {
    self.name = name
    self.tensor = tensor
    self.learningRateFactor = learningRateFactor
  }
}

/// The choices of `qlora.optim.*`.
public struct OptimizerOptions: Sendable {
  public var update: OptimizerUpdate
  public var isPaged: Bool
  /// Most bytes of state in memory when paged.
  public var budget: Int
  public var spillDirectory: String
  /// Most elements whose state is one page; a multiple of 256.
  public var pageElementCount = 1 << 18

  public init(
    update: OptimizerUpdate, isPaged: Bool = false, budget: Int = 256 << 20, spillDirectory: String = "."
  ) {
    self.update = update
    self.isPaged = isPaged
    self.budget = budget
    self.spillDirectory = spillDirectory
  }

  /// - Throws: `OptimizerError.badOption` for a value out of its range.
  public func check() throws {
    func require(_ isValid: Bool, _ name: String, _ value: Float, _ expected: String) throws {
      guard isValid else { throw OptimizerError.badOption(name: name, value: String(value), expected: expected) }
    }
    func requireAmount(_ name: String, _ value: Float) throws {
      try require(value.isFinite && value >= 0, name, value, "a number of at least 0")
    }
    func requireRate(_ name: String, _ value: Float) throws {
      try require(value >= 0 && value < 1, name, value, "a number in [0, 1)")
    }
    try requireAmount("lr", update.learningRate)
    try requireRate(update.rule == .sgd ? "momentum" : "betas[1]", update.beta1)
    try requireRate("betas[2]", update.beta2)
    try requireAmount("eps", update.epsilon)
    try requireAmount("weight_decay", update.weightDecay)
    guard update.bits == 32 || update.bits == 8 else {
      throw OptimizerError.badOption(name: "bits", value: String(update.bits), expected: "32 or 8")
    }
    guard !isPaged || budget > 0 else {
      throw OptimizerError.badOption(name: "budget", value: String(budget), expected: "at least 1 byte")
    }
  }
}

/// AdamW, Lion or SGD over a list of f32 parameters, with state in 32 or 8 bits, in memory or paged.
///
/// State is cut into pages that are visited in a fixed order; paged and unpaged runs give the same bits.
public final class Optimizer {
  public let parameters: [OptimizedParameter]
  public let options: OptimizerOptions
  /// Steps taken so far.
  public internal(set) var stepCount = 0
  /// Where a step stopped that threw.
  var unfinishedPage: Int?
  let bits: [Int]
  let pages: [StatePage]
  private let store: any StateStore

  /// - Throws: `OptimizerError.badOption`, `.notF32`, `.budgetTooSmall`, `TensorError.outOfMemory`, `.spillFailed`.
  public init(_ parameters: [OptimizedParameter], _ options: OptimizerOptions) throws {
    try options.check()
    for parameter in parameters where parameter.tensor.dtype != .f32 || !parameter.tensor.isContiguous {
      throw OptimizerError.notF32(parameter: parameter.name, dtype: parameter.tensor.dtype.name)
    }
    guard let backend = parameters.first?.tensor.backend else {
      throw OptimizerError.badOption(name: "parameters", value: "empty", expected: "at least one trained tensor")
    }
    self.parameters = parameters
    self.options = options
    let counts = parameters.map { $0.tensor.elementCount }
    bits = counts.map { OptimizerState.bits(options.update, count: $0) }
    let spills: Bool
    (pages, spills) = Optimizer.layout(counts, options)
    let byteCounts = pages.map(\.byteCount)
    if spills {
      store = try StatePager(
        byteCounts: byteCounts, budget: options.budget, directory: options.spillDirectory, backend: backend)
    } else {
      store = try ResidentStore(byteCounts: byteCounts, backend: backend)
    }
  }

  /// The pages of state, and whether some of them must be in a file; without need of one the pages simply stay.
  private static func layout(_ counts: [Int], _ options: OptimizerOptions) -> (pages: [StatePage], spills: Bool) {
    let pages = OptimizerState.pages(counts, options.update, limit: options.pageElementCount)
    guard options.isPaged, pages.reduce(0, { $0 + $1.byteCount }) > options.budget else { return (pages, false) }
    // A small budget is cut into small pages, so that there are some to read ahead into.
    let fitting = OptimizerState.elementCount(options.update, fitting: options.budget / 16)
    let limit = max(OptimizerState.blockSize, min(options.pageElementCount, fitting))
    return (OptimizerState.pages(counts, options.update, limit: limit), true)
  }

  /// Sizes of the blocks of state that stay in memory, and the bytes of the spill file, without making anything.
  /// - Parameter counts: elements of each parameter.
  public static func plannedState(_ counts: [Int], _ options: OptimizerOptions) -> (blocks: [Int], spilled: Int) {
    let (layout, spills) = layout(counts, options)
    let pages = layout.map(\.byteCount)
    guard spills, let largest = pages.max() else { return (pages, 0) }
    return (Array(repeating: largest, count: min(pages.count, options.budget / largest)), pages.count * largest)
  }

  /// Bytes of state, in memory and spilled.
  public var stateByteCount: Int { pages.reduce(0) { $0 + $1.byteCount } }

  /// Page counters, nil when all state stays in memory.
  public var statistics: PageStatistics? { store.statistics }

  /// Forgets all gradients.
  public func zeroGradients() {
    for parameter in parameters { parameter.tensor.gradient = nil }
  }

  /// One update of every parameter that has a gradient. After an error (a full disk) nothing is lost: the next call
  /// goes on with the same step where this one stopped.
  /// - Parameters:
  ///   - learningRate: overrides the option for this step.
  ///   - gradientScale: multiplies gradients, for clipping.
  public func step(learningRate: Double? = nil, gradientScale: Float = 1) throws {
    for parameter in parameters {
      guard let gradient = parameter.tensor.gradient else { continue }
      guard gradient.shape == parameter.tensor.shape else {
        throw OptimizerError.gradientShape(
          parameter: parameter.name, expected: parameter.tensor.shape, got: gradient.shape)
      }
    }
    if unfinishedPage == nil { stepCount += 1 }
    let rate = learningRate ?? Double(options.update.learningRate)
    for number in (unfinishedPage ?? 0)..<pages.count {
      unfinishedPage = number
      let segments = pages[number].segments.filter { parameters[$0.parameter].tensor.gradient != nil }
      guard !segments.isEmpty else { continue }
      try withPage(number, isDirty: true) { base in
        for segment in segments { try update(segment, base, rate, gradientScale) }
      }
    }
    unfinishedPage = nil
  }

  private func update(
    _ segment: StateSegment, _ base: UnsafeMutableRawPointer, _ rate: Double, _ gradientScale: Float
  ) throws {
    let parameter = parameters[segment.parameter]
    guard let gradient = parameter.tensor.gradient else { return }
    var update = options.update
    update.bits = bits[segment.parameter]
    update.learningRate = Float(rate * parameter.learningRateFactor)
    try parameter.tensor.backend.update(
      update, parameter: try elements(segment.range, of: parameter.tensor),
      gradient: try elements(segment.range, of: gradient), state: segment.offsets.map { base + $0 },
      step: stepCount, gradientScale: gradientScale)
  }

  private func elements(_ range: Range<Int>, of tensor: Tensor) throws -> Tensor {
    let packed = try tensor.contiguous()
    return Tensor(
      storage: packed.storage, dtype: packed.dtype, shape: [range.count], offset: packed.offset + range.lowerBound)
  }

  /// Runs `body` on the state bytes of a page.
  func withPage(_ number: Int, isDirty: Bool, _ body: (UnsafeMutableRawPointer) throws -> Void) throws {
    let base = try store.acquire(number)
    defer { store.release(number, isDirty: isDirty) }
    try body(base)
  }
}
