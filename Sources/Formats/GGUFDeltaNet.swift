/// How a GGUF file holds the gated DeltaNets of a model, whose tensors llama.cpp's converter reorders. Modules are
/// named as behind the number of their layer in a Hugging Face checkpoint.
package struct GGUFDeltaNet: Sendable {
  /// What the rows of a module are.
  package enum Rows: Sendable {
    /// Those of all queries, all keys and all values.
    case queriesKeysAndValues
    /// Those of the value heads, all of one after the other.
    case values
    /// One for each value head.
    case heads
  }

  /// A module whose rows the file has in two tensors: all queries, keys and values in one and the gates in the other.
  /// The module has those of one key head and its value heads together.
  package struct Split: Sendable {
    package let module, rows, gates: String

    package init(_ module: String, rows: String, gates: String) {
      (self.module, self.rows, self.gates) = (module, rows, gates)
    }
  }

  private let keyHeads, valueHeads, keyDimension, valueDimension: Int
  /// Modules whose value heads are in the order of the file: the first of every key head, then the second of every.
  private let rows: [String: Rows]
  /// Modules whose columns are those of the value heads in that order.
  private let columns: Set<String>
  /// Vectors of logarithms, of which the file has the exponential, negated.
  let logarithms: Set<String>
  /// Convolutions, whose shape has no 1 in the file.
  let convolutions: Set<String>
  let split: Split?

  package init(
    keyHeads: Int, valueHeads: Int, keyDimension: Int, valueDimension: Int, rows: [String: Rows] = [:],
    columns: Set<String> = [], logarithms: Set<String>, convolutions: Set<String>, split: Split? = nil
  ) {
    (self.keyHeads, self.valueHeads) = (keyHeads, valueHeads)
    (self.keyDimension, self.valueDimension) = (keyDimension, valueDimension)
    (self.rows, self.columns, self.logarithms, self.convolutions) = (rows, columns, logarithms, convolutions)
    self.split = split
  }

  private var perKey: Int { valueHeads / keyHeads }
  private var keyRows: Int { 2 * keyHeads * keyDimension }
  private var values: Int { valueHeads * valueDimension }

  /// The place in the file of number `index` of heads that are `width` wide.
  private func tiled(_ index: Int, width: Int) -> Int {
    let head = index / width
    return (head % perKey * keyHeads + head / perKey) * width + index % width
  }

  /// The stored row of each row of a module, and how many it has; nil where the file has them in the same order.
  func storedRow(_ module: String) -> (count: Int, map: (Int) -> Int)? {
    guard perKey > 1, let kind = rows[module] else { return nil }
    let (first, width) = (keyRows, valueDimension)
    return switch kind {
    case .queriesKeysAndValues: (first + values, { $0 < first ? $0 : first + tiled($0 - first, width: width) })
    case .values: (values, { tiled($0, width: width) })
    case .heads: (valueHeads, { tiled($0, width: 1) })
    }
  }

  /// The same of columns.
  func storedColumn(_ module: String) -> (count: Int, map: (Int) -> Int)? {
    guard perKey > 1, columns.contains(module) else { return nil }
    return (values, { tiled($0, width: valueDimension) })
  }

  /// Rows of the two tensors of `split`.
  var splitRows: (rows: Int, gates: Int) { (keyRows + values, values) }

  /// Where the file has a row of the module of `split`.
  func splitPlace(_ row: Int) -> (isGate: Bool, row: Int) {
    let (keys, values) = (keyDimension, perKey * valueDimension)
    let (head, place) = row.quotientAndRemainder(dividingBy: 2 * keys + 2 * values)
    if place < keys { return (false, head * keys + place) }
    if place < 2 * keys { return (false, keyHeads * keys + head * keys + place - keys) }
    if place < 2 * keys + values { return (false, keyRows + head * values + place - 2 * keys) }
    return (true, head * values + place - 2 * keys - values)
  }
}
