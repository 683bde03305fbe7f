import Tensors

/// Activation checkpointing: runs `body` without recording and repeats it in the backward pass (Chen et al. 2016).
///
/// The result has the bits of a pass that kept everything, because dropout masks come from counters, kernels have fixed
/// shapes, and gradients of the input are summed in the input's own type, as in a recorded pass.
/// Gradients of parameters that `body` uses are added to them directly.
/// - Parameters:
///   - input: the only tensor whose gradient flows through; anything else `body` reads must be a leaf.
///   - store: where the input is until the backward pass; nil keeps it in memory.
///   - body: the computation, called once forward and once backward.
/// - Returns: What `body` returns; while recording is on it wants a gradient, whether or not anything inside does.
/// - Throws: What `body` throws; with a store `TensorError.spillFailed` of the write before and `.outOfMemory`.
public func checkpointed(
  _ input: Tensor, in store: ActivationStore? = nil, _ body: @escaping (Tensor) throws -> Tensor
) throws -> Tensor {
  guard GradientMode.isEnabled else { return try body(input) }
  let values = input.detached()
  let stored = try store?.save(values)
  let kept = stored == nil ? values : nil
  let output = try GradientMode.disabled { try body(values) }
  let needsGradient = input.requiresGradient
  // Recorded even when the input needs no gradient: the parameters inside do.
  let node = GraphNode(operation: "checkpoint", inputs: [input], outputTypes: [output.dtype]) { gradients in
    guard let gradient = gradients[0], let values = try kept ?? stored?.load() else { return [nil] }
    let entry = needsGradient ? GradientEntry(values) : nil
    let replay = try GradientMode.enabled { try body(entry?.tensor ?? values.detached()) }
    if replay.requiresGradient { try replay.backward(seed: gradient) }
    return [entry?.gradient]
  }
  let result = output.detached()
  result.requiresGradient = true
  result.producer = GraphEdge(node: node, index: 0)
  return result
}
