import Autograd
import Tensors

/// A function that sees what a module computes, as PyTorch's forward hooks do.
public final class ForwardHook {
  /// Gets input and output of one forward pass; a tensor it returns takes the place of the output.
  private let body: (Tensor, Tensor) throws -> Tensor?
  private var isRunning = false
  private weak var module: Module?

  init(_ module: Module, _ body: @escaping (Tensor, Tensor) throws -> Tensor?) {
    self.module = module
    self.body = body
  }

  func callAsFunction(_ input: Tensor, _ output: Tensor) throws -> Tensor? {
    guard !isRunning else { throw ModelError.recursiveHook(module: module?.name ?? "") }
    isRunning = true
    defer { isRunning = false }
    return try body(input, output)
  }

  /// Takes the hook off; a second call does nothing.
  public func remove() {
    module?.hooks.removeAll { $0 === self }
    module = nil
  }
}

extension Module {
  /// Calls `body` after every forward pass of this module, in training, evaluation and generation. It stays until
  /// `remove`; with checkpointing it is called again when a layer is recomputed.
  ///
  /// A convolution gives what SiLU made of it, and a vector computes nothing, so its hooks are never called.
  /// The input of an embedding is the i32 ids. A norm of single heads (Qwen3) gets a row for each. A hook on a linear
  /// output module makes `loss` compute whole logits. Hooks run in the order in which they were added, each with the
  /// output that those before it left.
  /// - Parameter body: gets input and output; returns nil to leave the output, or a tensor of its shape to replace it,
  ///   which is converted to its dtype. What it throws, the pass throws.
  /// - Returns: the hook, to `remove` it.
  public func addHook(_ body: @escaping (_ input: Tensor, _ output: Tensor) throws -> Tensor?) -> ForwardHook {
    let hook = ForwardHook(self, body)
    hooks.append(hook)
    return hook
  }

  /// The output as the hooks leave it; the output itself, and no work, when there are none.
  func observed(_ input: Tensor, _ output: Tensor) throws -> Tensor {
    guard !hooks.isEmpty else { return output }
    var result = output
    for hook in hooks {
      // A copy, because later operations may write over the output in place.
      guard let replacement = try hook(input, try packed(result)) else { continue }
      guard replacement.shape == output.shape else {
        throw ModelError.badReplacement(module: name, expected: output.shape, got: replacement.shape)
      }
      result = try packed(try convert(replacement, to: output.dtype))
    }
    return result
  }
}
