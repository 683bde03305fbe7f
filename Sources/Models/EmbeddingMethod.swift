import Autograd
import Tensors

/// A method that adapts the embedding: what it makes of the rows, and of the logits where the embedding is the output
/// matrix too. `apply` is for linear modules and is not called.
public protocol EmbeddingMethod: AdapterMethod {
  /// Whether the logits follow the rows where the embedding is the output matrix too.
  var reachesOutput: Bool { get }

  /// The rows with the adapter, by differentiable operations; any float dtype. `rows` must not be written to.
  /// - Parameters:
  ///   - tensors: f32, in the order of `parameters`
  ///   - ids: [T]
  ///   - rows: those of the base, before its scale, [T, width]
  ///   - module: the embedding
  /// - Returns: a tensor of the shape of `rows`.
  /// - Throws: what its operations throw, such as `TensorError.outOfMemory`.
  func embed(_ tensors: [Tensor], ids: [Int32], rows: Tensor, of module: Module) throws -> Tensor

  /// What is added to the logits of a model whose embedding is the output matrix too; asked for with `reachesOutput`
  /// alone.
  /// - Throws: what its operations throw, such as `TensorError.outOfMemory`.
  func outputBranch(_ tensors: [Tensor], of module: Module, _ context: ForwardContext) throws -> LowRank
}

extension EmbeddingMethod {
  /// The output as it is.
  public func apply(
    _ tensors: [Tensor], x: Tensor, y: Tensor, of module: Module, _ context: ForwardContext
  ) throws -> Tensor { y }
}

extension ForwardContext {
  /// Rows [T, width] with the adapters of the embedding.
  func embedded(_ rows: Tensor, _ ids: [Int32], _ module: Module) throws -> Tensor {
    try embeddingAdapters(of: module).reduce(rows) { rows, pair in
      let result = try pair.method.embed(pair.adapter.tensors, ids: ids, rows: rows, of: module)
      guard result.shape == rows.shape else {
        throw ModelError.badAdapterOutput(module: module.name, expected: rows.shape, got: result.shape)
      }
      return try convert(result, to: rows.dtype)
    }
  }

  /// Whether adapters of an embedding change the logits that it gives as the output matrix.
  func changesLogits(of head: Module) -> Bool { embeddingAdapters(of: head).contains { $0.method.reachesOutput } }

  /// Logits with what adapters of the embedding add to them.
  func tied(_ logits: Tensor, _ hidden: Tensor, _ head: Module) throws -> Tensor {
    try embeddingAdapters(of: head).filter(\.method.reachesOutput).reduce(logits) { logits, pair in
      try pair.method.outputBranch(pair.adapter.tensors, of: head, self).added(to: logits, hidden)
    }
  }

  private func embeddingAdapters(of module: Module) -> [(adapter: Adapter, method: any EmbeddingMethod)] {
    allAdapters(of: module).compactMap { adapter in (adapter.method as? any EmbeddingMethod).map { (adapter, $0) } }
  }
}

extension LanguageModel {
  /// Whether the adapters in use can become a part of the weights.
  /// - Throws: `ModelError.mergeUnties` where one changes the rows of the embedding, but not the output matrix that it
  ///   is.
  package func checkMergeable() throws {
    guard outputModule.kind == .embedding else { return }
    for adapter in outputModule.adapters {
      guard let method = adapter.method as? any EmbeddingMethod, !method.reachesOutput else { continue }
      throw ModelError.mergeUnties(module: outputModule.name)
    }
  }
}
