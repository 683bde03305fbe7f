/// The shape of a sum: neighbours joined pairwise, ((0 + 1) + (2 + 3)) + ..., which the number of summands alone
/// decides. Whoever holds neighbouring summands joins them as far as the shape allows; the rest is for those who hold
/// the others.
package struct SumTree: Sendable {
  /// The summands.
  package let count: Int

  package init(count: Int) { self.count = count }

  /// A partial sum: number `index` of those at a level, where the summands are level 0.
  package struct Node: Equatable, Sendable {
    package let level: Int
    package let index: Int

    package init(level: Int, index: Int) { (self.level, self.index) = (level, index) }
  }

  /// Adds what comes next to partial sums in order, and joins those that are complete.
  /// - Parameters:
  ///   - node: right of all in `sums`.
  ///   - value: its sum.
  ///   - sums: partial sums from left to right.
  ///   - add: adds the second to the first and gives the sum.
  package func append<Value>(
    _ node: Node, _ value: Value, to sums: inout [(node: Node, value: Value)], add: (Value, Value) throws -> Value
  ) rethrows {
    var (node, value) = (node, value)
    while width(node.level) > 1 {
      if node.index % 2 == 0 {
        // The last of its level without a neighbour goes up as it is.
        guard node.index + 1 == width(node.level) else { break }
      } else {
        guard let left = sums.last, left.node == Node(level: node.level, index: node.index - 1) else { break }
        value = try add(left.value, value)
        sums.removeLast()
      }
      node = Node(level: node.level + 1, index: node.index / 2)
    }
    sums.append((node, value))
  }

  /// The partial sums that neighbouring summands are joined to.
  package func nodes(of range: Range<Int>) -> [Node] {
    var sums: [(node: Node, value: Void)] = []
    for index in range { append(Node(level: 0, index: index), (), to: &sums) { _, _ in } }
    return sums.map(\.node)
  }

  private func width(_ level: Int) -> Int { (count + 1 << level - 1) >> level }
}
