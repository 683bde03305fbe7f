import Tensors

/// An optimizer as one value: what it is called, which numbers it takes, which state it keeps and how it moves a
/// parameter.
///
/// Checks, the layout of pages, checkpoints, the functions of Lua and the reference read these values. A new optimizer
/// is a file in `Rules` and its name in `all`.
public struct OptimizerRule: Sendable {
  /// The rules that programs choose from.
  public static let all: [OptimizerRule] = [.adamW, .lion, .sgd]

  /// As in `qlora.optim.adamw` and in the plan.
  public let name: String
  /// As people write it: "AdamW".
  public let title: String
  /// One sentence: what it computes.
  public let summary: String
  /// The numbers it takes; `learningRate` is among them.
  public let hyperparameters: [Hyperparameter]
  /// What it keeps for each element; empty for a rule without memory.
  public let moments: [Moment]
  /// One for each width of state that it offers, the default first.
  public let kernels: [OptimizerKernel]

  /// A rule; programs choose it once it is in `all`.
  public init(
    name: String, title: String, summary: String, hyperparameters: [Hyperparameter], moments: [Moment],
    kernels: [OptimizerKernel]
  ) {
    self.name = name
    self.title = title
    self.summary = summary
    self.hyperparameters = hyperparameters
    self.moments = moments
    self.kernels = kernels
  }

  /// The widths of state it offers, the default first.
  public var widths: [Int] { kernels.map(\.bits) }

  /// The names of all it takes: its numbers, and `bits` where there is a choice.
  public var optionNames: [String] { hyperparameters.map(\.name) + (widths.count > 1 ? ["bits"] : []) }

  /// The given numbers with the defaults of those that are missing.
  /// - Throws: `OptimizerError.unknownOption` for a name it does not have, `.badOption` for a number out of its range,
  ///   NaN among them, and for one that is missing and has no default.
  public func values(_ given: [String: [Float]]) throws(OptimizerError) -> [String: [Float]] {
    for name in given.keys.sorted() where !hyperparameters.contains(where: { $0.name == name }) {
      throw .unknownOption(rule: self.name, name: name, known: optionNames)
    }
    var values: [String: [Float]] = [:]
    for hyperparameter in hyperparameters {
      values[hyperparameter.name] = try hyperparameter.checked(given[hyperparameter.name])
    }
    return values
  }

  /// The kernel for a width of state.
  /// - Throws: `OptimizerError.badOption` when it is not offered.
  func kernel(bits: Int) throws(OptimizerError) -> OptimizerKernel {
    guard let kernel = kernels.first(where: { $0.bits == bits }) else {
      let offered = widths.map(String.init).joined(separator: " or ")
      throw .badOption(name: "bits", value: String(bits), expected: offered)
    }
    return kernel
  }
}

/// A running mean or sum that an optimizer keeps for each element of a parameter.
public struct Moment: Sendable {
  /// The code book of its 8-bit form (Dettmers et al. 2022).
  public enum Map: String, Sendable { case signed, unsigned }

  /// As torch calls it: "exp_avg".
  public let name: String
  /// The code book of its 8-bit form.
  public let map: Map

  /// A moment; the signed map by default.
  public init(_ name: String, _ map: Map = .signed) {
    self.name = name
    self.map = map
  }
}

/// How a rule moves a parameter whose state has a width: 32 is f32; 8 is the codes of each moment followed by the
/// maxima of its blocks.
public struct OptimizerKernel: Sendable {
  /// Width of the state.
  public let bits: Int
  /// Moves a part of a parameter and its state in place, elementwise.
  public let update: @Sendable (ParameterUpdate) throws -> Void

  /// A kernel for a width of state.
  /// - Parameters:
  ///   - bits: 32 or 8; any other width is laid out as 32.
  ///   - update: moves the parameter and its state in place, elementwise: it sees a part of a parameter at a time. It
  ///     is either a fused operation of the backend (`ParameterUpdate.fused`) or made of plain ones. Throws: what
  ///     `Optimizer.step` then throws.
  public init(bits: Int = 32, update: @escaping @Sendable (ParameterUpdate) throws -> Void) {
    self.bits = bits
    self.update = update
  }
}

/// One step of a part of one parameter, for a kernel.
public struct ParameterUpdate {
  /// f32 [count], to be changed.
  public let parameter: Tensor
  /// f32 [count], to be multiplied by `gradientScale`.
  public let gradient: Tensor
  /// In the order of the rule's moments, to be changed: f32 [count] each, or in 8 bits codes u8 [count] and maxima
  /// f32 [blocks]. All zeros before the first step.
  public let state: [Tensor]
  /// The rule's numbers by name, complete and checked.
  public let values: [String: [Float]]
  /// Of this step and this parameter.
  public let learningRate: Float
  /// Counts from 1.
  public let step: Int
  /// What multiplies the gradient, for clipping.
  public let gradientScale: Float

  /// The backend of the parameter, and of the gradient and the state.
  public var backend: any Backend { parameter.backend }

  /// A number of the rule.
  /// - Throws: `OptimizerError.unknownOption` when the rule does not list it.
  public func number(_ name: String, _ index: Int = 0) throws(OptimizerError) -> Float {
    guard let numbers = values[name], numbers.indices.contains(index) else {
      throw .unknownOption(rule: "kernel", name: name, known: values.keys.sorted())
    }
    return numbers[index]
  }

  /// Runs a fused operation of the backend, with the rule's `weight_decay`.
  /// - Throws: `OptimizerError.unknownOption` for a rule without `weight_decay`; what `Backend.update` throws.
  public func fused(
    _ kernel: OptimizerUpdate.Kernel, beta1: Float, beta2: Float = 0, epsilon: Float = 0
  ) throws {
    let update = OptimizerUpdate(
      kernel, learningRate: learningRate, beta1: beta1, beta2: beta2, epsilon: epsilon,
      weightDecay: try number("weight_decay"))
    try backend.update(
      update, parameter: parameter, gradient: gradient, state: state, step: step, gradientScale: gradientScale)
  }
}
