import Autograd
import Tensors

/// The rows of one variant in a pass that several share, and the context that they would have alone.
struct RowShare: Sendable {
  let rows: Range<Int>
  let context: ForwardContext
}

extension Module {
  /// `outputs` where variants share the pass: the frozen product is that of all rows, and what an adapter adds is
  /// computed of its variant's rows alone, with the masks that it has in a pass of its own.
  static func sharedOutputs(of modules: [Module], _ x: Tensor, _ context: ForwardContext) throws -> [Tensor] {
    let layers = try modules.map { module in
      guard let weight = module.linearWeight else { throw ModelError.notLoaded(module: module.name) }
      return LinearLayer(weight: weight, bias: module.bias)
    }
    let branches = modules.map { module in
      context.shares.compactMap { share in
        share.context.adapters(of: module).first?.branch(share.context).map { RowBranch(rows: share.rows, branch: $0) }
      }
    }
    let outputs = try linear(x, layers, branches: branches, precision: context.precision)
    return try zip(modules, outputs).map { try $0.addingRest(to: $1, x, context) }
  }

  /// The output with what no first branch is: other methods, and further adapters of a variant.
  private func addingRest(to base: Tensor, _ x: Tensor, _ context: ForwardContext) throws -> Tensor {
    let rest = context.shares.map { share in
      let adapters = share.context.adapters(of: self)
      return adapters.dropFirst(adapters.first?.lowRank == nil ? 0 : 1)
    }
    guard rest.contains(where: { !$0.isEmpty }) else { return base }
    let counts = context.shares.map(\.rows.count)
    let (inputs, parts) = (try splitRows(x, counts), try splitRows(base, counts))
    let results = try context.shares.indices.compactMap { index -> Tensor? in
      guard let input = inputs[index], let part = parts[index] else { return nil }
      return try rest[index].reduce(part) { try $1.applied(to: $0, input, of: self, context.shares[index].context) }
    }
    return try concatenate(results, axis: 0)
  }
}
