import Tensors

/// A sum of products by names of dimensions, "ti,ri->tr": what is named in the operands and not in the result is summed
/// over. Operands are contracted from left to right; f32.
/// - Throws: `TensorError.badValue` for an equation without an arrow, with a name twice in one operand, or with a
///   result that names what no operand has; `.shapeMismatch` for a name of two sizes; `.otherDevice`, `.outOfMemory`;
///   what the device reports.
public func einsum(_ equation: String, _ operands: [Tensor]) throws -> Tensor {
  func fail(_ expected: String) -> TensorError {
    .badValue(operation: "einsum", name: "equation", value: "\"\(equation)\"", expected: expected)
  }
  let sides = equation.filter { $0 != " " }.split(separator: ">", omittingEmptySubsequences: false)
  guard sides.count == 2, sides[0].last == "-" else { throw fail("one arrow, as in \"ti,ri->tr\"") }
  let names = sides[0].dropLast().split(separator: ",", omittingEmptySubsequences: false).map(Array.init)
  let result = Array(sides[1])
  guard !operands.isEmpty, names.count == operands.count else { throw fail("names of \(operands.count) operands") }
  for (name, operand) in zip(names, operands) where name.count != operand.rank {
    throw fail("\(operand.rank) names for the operand of shape \(operand.shape)")
  }
  for name in names + [result] where Set(name).count != name.count || !name.allSatisfy(\.isLetter) {
    throw fail("letters, each once in an operand")
  }
  guard Set(result).isSubset(of: Set(names.joined())) else { throw fail("a result of names that operands have") }

  var (labels, product) = (names[0], try widened(operands[0]))
  for index in 1..<max(1, operands.count) {
    let later = Set(names[(index + 1)...].joined()).union(result)
    (labels, product) = try contracted(
      (labels, product), (names[index], operands[index]), keeping: later)
  }
  (labels, product) = try summed(labels, product, keeping: Set(result))
  product = try ordered(product, labels, as: result)
  // What is returned is the caller's own.
  return product.storage === operands[0].storage ? try packed(product) : product
}

private typealias Named = (labels: [Character], tensor: Tensor)

/// Sums over the dimensions whose names are not kept.
private func summed(_ labels: [Character], _ x: Tensor, keeping kept: Set<Character>) throws -> Named {
  var (labels, x) = (labels, x)
  for axis in labels.indices.reversed() where !kept.contains(labels[axis]) {
    let isLast = labels.count == 1
    x = try reduce(.sum, x, axis: axis)
    labels.remove(at: axis)
    if isLast { x = try reshape(x, []) }
  }
  return (labels, x)
}

/// The same elements with the dimensions in another order.
private func ordered(_ x: Tensor, _ labels: [Character], as wanted: [Character]) throws -> Tensor {
  var (x, labels) = (x, labels)
  for (place, label) in wanted.enumerated() {
    guard let now = labels.firstIndex(of: label), now != place else { continue }
    x = try transpose(x, place, now)
    labels.swapAt(place, now)
  }
  return try x.isContiguous ? x : packed(x)
}

/// One product of two operands, as a batch of products of matrices.
private func contracted(_ a: Named, _ b: Named, keeping kept: Set<Character>) throws -> Named {
  let (first, second) = (
    try summed(a.labels, a.tensor, keeping: kept.union(b.labels)),
    try summed(b.labels, b.tensor, keeping: kept.union(a.labels))
  )
  let both = first.labels.filter { second.labels.contains($0) }
  let (batch, inner) = (both.filter { kept.contains($0) }, both.filter { !kept.contains($0) })
  let (rows, columns) = (
    first.labels.filter { !both.contains($0) }, second.labels.filter { !both.contains($0) }
  )
  func size(_ label: Character) -> Int {
    let named = first.labels.contains(label) ? first : second
    return named.labels.firstIndex(of: label).map { named.tensor.shape[$0] } ?? 1
  }
  for label in both {
    guard let place = second.labels.firstIndex(of: label), second.tensor.shape[place] == size(label) else {
      throw TensorError.shapeMismatch(operation: "einsum", lhs: first.tensor.shape, rhs: second.tensor.shape)
    }
  }
  func count(_ labels: [Character]) -> Int { labels.map(size).reduce(1, *) }
  let left = try ordered(first.tensor, first.labels, as: batch + rows + inner)
  let right = try ordered(second.tensor, second.labels, as: batch + inner + columns)
  let shape = (batch + rows + columns).map(size)
  let product = try matmul(
    try reshape(left, (batch.isEmpty ? [] : [count(batch)]) + [count(rows), count(inner)]),
    try reshape(right, (batch.isEmpty ? [] : [count(batch)]) + [count(inner), count(columns)]))
  return (batch + rows + columns, try reshape(product, shape))
}
