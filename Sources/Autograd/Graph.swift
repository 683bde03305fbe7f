import Tensors

/// One recorded operation. It holds where its inputs' gradients go and a closure that turns the gradients of its
/// outputs into the gradients of its inputs; whatever the closure captured is what the operation saved.
final class GraphNode {
  enum Source {
    case none
    case leaf(Tensor)
    case output(GraphEdge)
  }

  /// Creation order: inputs always have smaller numbers, so descending order is a reverse topological order.
  let sequence: Int
  let operation: String
  /// Where the gradients of the inputs go; empty once they have gone there.
  private(set) var sources: [Source]
  var backward: (([Tensor?]) throws -> [Tensor?])?
  var outputGradients: [Tensor?]
  /// Rules get gradients of the type of their outputs, whatever type a sum or a seed has.
  let outputTypes: [DType]
  /// The blocks that hold what the operation saved, and how often they had been changed by then.
  private var saved: [(storage: Storage, changeCount: Int)]
  /// Makes the output again from what the operation saved, for rules that would otherwise have to keep it.
  var recompute: (() throws -> Tensor)?
  /// The output made again, until this node's own gradient is computed.
  private var recomputed: Tensor?

  nonisolated(unsafe) private static var counter = 0

  init(
    operation: String, inputs: [Tensor?], saving saved: [Tensor?] = [], outputTypes: [DType],
    backward: @escaping ([Tensor?]) throws -> [Tensor?]
  ) {
    GraphNode.counter += 1
    self.sequence = GraphNode.counter
    self.operation = operation
    self.outputTypes = outputTypes
    self.outputGradients = Array(repeating: nil, count: outputTypes.count)
    self.backward = backward
    self.saved = saved.compactMap { $0.map { ($0.storage, $0.storage.changeCount) } }
    self.sources = inputs.map { input in
      guard let input, input.requiresGradient else { return .none }
      if let edge = input.producer as? GraphEdge { return .output(edge) }
      return .leaf(input)
    }
  }

  /// Drops the nodes that only this one holds one after another. Left to themselves they would end inside each other, a
  /// few stack frames per operation, and a long graph would run out of stack.
  deinit {
    var inputs: [GraphNode] = []
    release(keeping: &inputs)
    while var node = inputs.popLast() {
      if isKnownUniquelyReferenced(&node) { node.release(keeping: &inputs) }
    }
  }

  /// Adds the nodes of the inputs to `inputs`, before whatever held them here is gone.
  private func release(keeping inputs: inout [GraphNode]) {
    for case .output(let edge) in sources { inputs.append(edge.node) }
    release()
  }

  /// Forgets everything that the backward pass needs.
  func release() {
    sources = []
    backward = nil
    saved = []
    outputGradients = []
    recompute = nil
    recomputed = nil
  }
}

extension GraphNode {
  /// - Throws: `TensorError.changedInPlace` where what was saved is no longer what it was.
  func requireUnchanged() throws(TensorError) {
    guard saved.allSatisfy({ $0.storage.changeCount == $0.changeCount }) else {
      throw .changedInPlace(operation: "backward", recorded: operation)
    }
  }

  func recomputedOutput() throws -> Tensor? {
    if recomputed == nil { recomputed = try recompute?() }
    return recomputed
  }
}

/// An input that a rule needs again in the backward pass: itself, or, when a cheap operation produced it (a norm, a
/// gated activation), the promise to compute it again. The rule of the producer runs later, so what it saved is still
/// there.
struct SavedInput {
  private let tensor: Tensor?
  private let node: GraphNode?

  init(_ input: Tensor) {
    let producer = (input.producer as? GraphEdge)?.node
    node = producer?.recompute == nil ? nil : producer
    tensor = node == nil ? input.detached() : nil
  }

  func value() throws -> Tensor {
    if let tensor { return tensor }
    guard let tensor = try node?.recomputedOutput() else { throw TensorError.graphConsumed(operation: "backward") }
    return tensor
  }
}

/// Where a result comes from: output `index` of `node`.
final class GraphEdge {
  let node: GraphNode
  let index: Int

  init(node: GraphNode, index: Int) {
    self.node = node
    self.index = index
  }
}

/// Switches recording off, for generation, evaluation and optimizer steps.
public enum GradientMode {
  /// Whether operations are recorded, by any thread of the process.
  nonisolated(unsafe) public internal(set) static var isEnabled = true

  /// Runs `body` without recording.
  /// - Throws: What `body` throws.
  public static func disabled<R>(_ body: () throws -> R) rethrows -> R {
    let before = isEnabled
    isEnabled = false
    defer { isEnabled = before }
    return try body()
  }

  static func enabled<R>(_ body: () throws -> R) rethrows -> R {
    let before = isEnabled
    isEnabled = true
    defer { isEnabled = before }
    return try body()
  }
}

/// Marks `outputs` as computed from `inputs` when recording is on and an input wants a gradient.
///
/// `saved` are the tensors that `backward` reads and a program may have changed by then, itself or through a view.
/// `recompute` makes the only output again; see `SavedInput`. `backward` gets one gradient per output (nil where none
/// arrived) and returns one per input.
func record(
  _ operation: String, inputs: [Tensor?], saving saved: [Tensor?] = [], outputs: [Tensor],
  recompute: (() throws -> Tensor)? = nil,
  backward: @escaping ([Tensor?]) throws -> [Tensor?]
) {
  guard GradientMode.isEnabled, inputs.contains(where: { $0?.requiresGradient ?? false }) else { return }
  let node = GraphNode(
    operation: operation, inputs: inputs, saving: saved, outputTypes: outputs.map(\.dtype), backward: backward)
  node.recompute = recompute
  for (index, output) in outputs.enumerated() {
    output.requiresGradient = true
    output.producer = GraphEdge(node: node, index: index)
  }
}

/// `record` for the common case of one output.
func record(
  _ operation: String, inputs: [Tensor?], saving saved: [Tensor?] = [], output: Tensor,
  recompute: (() throws -> Tensor)? = nil, backward: @escaping (Tensor) throws -> [Tensor?]
) {
  record(operation, inputs: inputs, saving: saved, outputs: [output], recompute: recompute) { gradients in
    guard let gradient = gradients[0] else { return [] }
    return try backward(gradient)
  }
}

/// Whether an operation on these inputs will be recorded, so that rules save nothing otherwise.
func isRecording(_ a: Tensor?, _ b: Tensor? = nil, _ c: Tensor? = nil) -> Bool {
  func wants(_ input: Tensor?) -> Bool { input?.requiresGradient ?? false }
  return GradientMode.isEnabled && (wants(a) || wants(b) || wants(c))
}
