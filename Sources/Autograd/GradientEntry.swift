import Tensors

/// A value that was computed elsewhere, where recording goes on from and the gradient of the value arrives.
public final class GradientEntry {
  /// The value, which wants a gradient.
  public let tensor: Tensor
  /// What the backward pass brought, in the type of the value; nil before it.
  public private(set) var gradient: Tensor?

  /// An entry that shares the bytes of `values`. It must live until the backward pass.
  public init(_ values: Tensor) {
    tensor = values.detached()
    // A node and no leaf, because leaves sum their gradients in f32.
    let node = GraphNode(operation: "entry", inputs: [], outputTypes: [values.dtype]) { [weak self] gradients in
      self?.gradient = gradients[0]
      return []
    }
    tensor.requiresGradient = true
    tensor.producer = GraphEdge(node: node, index: 0)
  }
}
