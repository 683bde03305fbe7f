import Formats
import Models
import Tensors

extension LanguageModel {
  /// The tree of modules with parameters, bytes, quantization and adapters of each node; layers that are alike are one.
  /// - Parameter depth: levels shown, counted in parts of the names; 5 shows every projection.
  /// - Returns: lines without a final line break; a depth below 1 counts as 1.
  func treeText(depth: Int) -> String {
    let root = TreeNode(name: "", modules: modules)
    let adapted = modules.filter { !$0.adapters.isEmpty }.count
    let trained = trainableParameters.reduce(0) { $0 + $1.tensor.elementCount }
    var heading = ["Model \(path): \(spec.modelType), \(grouped(root.parameterCount)) parameters"]
    if root.byteCount > 0 { heading[0] += ", \(byteText(root.byteCount))" }
    if !isLoaded { heading[0] += ", configuration only" }
    if trained > 0 {
      let place = adapted > 0 ? "adapters on \(adapted) modules: " : ""
      heading.append(place + "\(grouped(trained)) trained parameters in \(trainableParameters.count) tensors")
    } else if adapted > 0 {
      heading.append("adapters on \(adapted) modules, not trained")
    }
    return (heading + aligned(root.rows(depth: max(1, depth)))).joined(separator: "\n")
  }
}

extension Module {
  /// What a line of the tree says, and what makes two modules alike: kind, shape, type, adapter.
  fileprivate var cells: (kind: String, shape: String, type: String, adapter: String) {
    (
      kind.rawValue, weightShape.map(String.init).joined(separator: " x "),
      storedForm ?? weight?.dtype.name ?? "", adapters.map(\.text).joined(separator: " + ")
    )
  }

  /// One line about a module.
  var text: String {
    let cells = cells
    var parts = ["\(name): \(cells.kind) [\(cells.shape)]", "\(grouped(parameterCount)) parameters"]
    if byteCount > 0 { parts.append("\(cells.type), \(byteText(byteCount))") }
    if !cells.adapter.isEmpty { parts.append(cells.adapter) }
    return parts.joined(separator: ", ")
  }
}

extension Adapter {
  /// "lora rank 8 alpha 16": the settings that are not zero.
  fileprivate var text: String {
    let shown = method.settings.filter { $0.value.double != 0 && $0.value.bool != false && !$0.value.isNull }
    return ([kind] + shown.map { "\($0.name) \($0.value.double.map(TensorText.short) ?? $0.value.text())" })
      .joined(separator: " ")
  }
}

/// A dotted prefix of module names with all below it.
private struct TreeNode {
  /// The last part of the prefix; "0 … 11" for layers that are alike.
  var name: String
  let module: Module?
  let children: [TreeNode]
  let parameterCount: Int
  let byteCount: Int
  var alike = 1

  init(name: String, modules: [Module], level: Int = 0) {
    self.name = name
    var order: [String] = []
    var groups: [String: [Module]] = [:]
    var own: Module?
    for module in modules {
      let parts = module.name.split(separator: ".")
      guard level < parts.count else {
        own = module
        continue
      }
      let part = String(parts[level])
      if groups[part] == nil { order.append(part) }
      groups[part, default: []].append(module)
    }
    module = own
    children = TreeNode.merged(order.map { TreeNode(name: $0, modules: groups[$0] ?? [], level: level + 1) })
    parameterCount = modules.reduce(0) { $0 + $1.parameterCount }
    byteCount = modules.reduce(0) { $0 + $1.byteCount }
  }

  /// Neighbours with numbers for names that are alike, as one.
  private static func merged(_ nodes: [TreeNode]) -> [TreeNode] {
    var result: [TreeNode] = []
    var first = ""
    for node in nodes {
      if Int(node.name) != nil, let last = result.last, last.signature == node.signature {
        result[result.count - 1].alike += 1
        result[result.count - 1].name = "\(first) … \(node.name)"
      } else {
        first = node.name
        result.append(node)
      }
    }
    return result
  }

  private var signature: String {
    let own = module.map { "\($0.cells)" } ?? ""
    return own + "{" + children.map { "\($0.name)x\($0.alike):\($0.signature)" }.joined(separator: ";") + "}"
  }

  /// Cells of the lines below this node.
  func rows(depth: Int, indent: String = "") -> [[String]] {
    guard depth > 0 else { return [] }
    return children.enumerated().flatMap { index, child -> [[String]] in
      let isLast = index + 1 == children.count
      let cells = child.module?.cells
      var row = [indent + (isLast ? "└─ " : "├─ ") + child.name]
      row += [cells?.kind ?? (child.alike > 1 ? "\(child.alike) alike, each" : ""), cells?.shape ?? ""]
      row += [grouped(child.parameterCount), child.byteCount > 0 ? byteText(child.byteCount) : ""]
      row += [cells?.type ?? "", cells?.adapter ?? ""]
      return [row] + child.rows(depth: depth - 1, indent: indent + (isLast ? "   " : "│  "))
    }
  }
}

/// Columns two blanks apart; numbers to the right.
private func aligned(_ rows: [[String]]) -> [String] {
  let count = rows.first?.count ?? 0
  let widths = (0..<count).map { column in rows.map { $0[column].count }.max() ?? 0 }
  let toTheRight: Set<Int> = [3, 4]
  return rows.map { row in
    var line = ""
    for (column, cell) in row.enumerated() where widths[column] > 0 {
      let space = String(repeating: " ", count: widths[column] - cell.count)
      line += (line.isEmpty ? "" : "  ") + (toTheRight.contains(column) ? space + cell : cell + space)
    }
    while line.last == " " { line.removeLast() }
    return line
  }
}
