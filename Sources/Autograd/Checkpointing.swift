import Tensors

/// Activation checkpointing: runs `body` without recording and repeats it in the backward pass.
///
/// The recomputation gives the same bits, because dropout masks come from counters and kernels from fixed shapes.
/// Gradients of parameters that `body` uses are added to them directly.
/// - Parameters:
///   - input: the only tensor whose gradient flows through; anything else `body` reads must be a leaf.
///   - body: the computation, called once forward and once backward.
public func checkpointed(_ input: Tensor, _ body: @escaping (Tensor) throws -> Tensor) throws -> Tensor {
  guard GradientMode.isEnabled else { return try body(input) }
  let output = try GradientMode.disabled { try body(input.detached()) }
  let replayInput = input.detached()
  // Recorded even when the input needs no gradient: the parameters inside do.
  let node = GraphNode(operation: "checkpoint", inputs: [input], outputTypes: [output.dtype]) { gradients in
    guard let gradient = gradients[0] else { return [nil] }
    replayInput.requiresGradient = true
    let replay = try GradientMode.enabled { try body(replayInput) }
    try replay.backward(seed: gradient)
    let result = replayInput.gradient
    replayInput.gradient = nil
    return [result]
  }
  let result = output.detached()
  result.requiresGradient = true
  result.producer = GraphEdge(node: node, index: 0)
  return result
}
