import Tensors

extension Tensor {
  /// Propagates gradients from this tensor to every leaf it was computed from, adding to their `gradient`, in f32.
  ///
  /// The recorded operations are consumed: a second call needs a new forward pass.
  /// - Parameter seed: gradient of the outermost result; ones for a tensor with one element when omitted.
  /// - Throws: `TensorError.noGraph` when nothing was recorded, `.graphConsumed` when another pass has used a part of
  ///   it, `.changedInPlace` where what it needs was overwritten, `.notScalar` without a seed for a larger tensor,
  ///   `.shapeMismatch` for a seed of another shape, `.otherDevice`, `.outOfMemory`; `.spillFailed` and `.spillDamaged`
  ///   with a `ActivationStore`; what a checkpointed body throws; what the device reports.
  public func backward(seed: Tensor? = nil) throws {
    guard requiresGradient else { throw TensorError.noGraph(operation: "backward") }
    if seed == nil, elementCount != 1 { throw TensorError.notScalar(operation: "backward", shape: shape) }
    let seed = try seed ?? Tensor(full: shape, value: 1, dtype: dtype.isFloat ? dtype : .f32, on: backend)
    guard seed.shape == shape else {
      throw TensorError.shapeMismatch(operation: "backward", lhs: shape, rhs: seed.shape)
    }
    _ = try backend(for: "backward", with: seed)
    try GradientMode.disabled {
      guard let edge = producer as? GraphEdge else { return try deposit(seed) }
      guard edge.node.backward != nil else { throw TensorError.graphConsumed(operation: "backward") }
      edge.node.outputGradients[edge.index] = seed
      for node in reachable(from: edge.node) { try propagate(node) }
    }
  }

  /// Adds `gradient` to this leaf's gradient, in f32. The first one that was handed over becomes the sum itself.
  func deposit(_ gradient: Tensor) throws {
    if let sum = self.gradient {
      try backend.accumulate(gradient.contiguous(), scale: 1, into: sum, scale: 1)
    } else if gradient.isHandedOver, gradient.dtype == .f32, gradient.shape == shape, gradient.isContiguous {
      gradient.isHandedOver = false
      self.gradient = gradient
    } else {
      let sum = try Tensor(empty: shape, dtype: .f32, category: .gradients, on: backend)
      try backend.copy(gradient, into: sum)
      self.gradient = sum
    }
  }
}

extension Tensor {
  /// This f32 gradient of category `gradients`, marked: the rule hands it to one input and forgets it.
  func handedOver() -> Tensor {
    isHandedOver = true
    return self
  }
}

/// The node and everything below it, outermost first.
private func reachable(from root: GraphNode) -> [GraphNode] {
  var seen: Set<ObjectIdentifier> = [ObjectIdentifier(root)]
  var found = [root]
  var next = 0
  while next < found.count {
    for case .output(let edge) in found[next].sources where seen.insert(ObjectIdentifier(edge.node)).inserted {
      found.append(edge.node)
    }
    next += 1
  }
  return found.sorted { $0.sequence > $1.sequence }
}

private func propagate(_ node: GraphNode) throws {
  guard let backward = node.backward else { throw TensorError.graphConsumed(operation: "backward") }
  let gradients = try zip(node.outputGradients, node.outputTypes).map { gradient, type in
    try gradient.map { $0.dtype == type || !type.isFloat ? $0 : try $0.converted(to: type) }
  }
  try node.requireUnchanged()
  // What the operation saved is released as soon as its gradient is computed.
  let sources = node.sources
  node.release()
  guard gradients.contains(where: { $0 != nil }) else { return }
  for (source, gradient) in zip(sources, try backward(gradients)) {
    guard let gradient else { continue }
    switch source {
    case .none: continue
    case .leaf(let tensor): try tensor.deposit(gradient)
    case .output(let edge):
      guard !edge.node.outputGradients.isEmpty else { continue }
      // The next rule may pass it on to several.
      gradient.isHandedOver = false
      if let other = edge.node.outputGradients[edge.index] {
        // A rule may hand the same tensor to two inputs, so the sum gets storage of its own.
        let sum = try other.copied()
        try sum.backend.accumulate(gradient.contiguous(), scale: 1, into: sum, scale: 1)
        edge.node.outputGradients[edge.index] = sum
      } else {
        edge.node.outputGradients[edge.index] = gradient
      }
    }
  }
}
