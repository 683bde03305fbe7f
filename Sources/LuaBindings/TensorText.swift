import Formats
import Tensors

/// Tensors as text: aligned columns, large dimensions summarised with an ellipsis, a footer with dtype, shape, bytes.
enum TensorText {
  private static let edge = 3
  private static let most = 8

  static func describe(_ tensor: Tensor) throws -> String {
    let shape = tensor.shape.isEmpty ? "scalar" : tensor.shape.map(String.init).joined(separator: " x ")
    let footer = "[\(tensor.dtype.name) \(shape), \(grouped(tensor.byteCount)) bytes]"
    guard tensor.elementCount > 0 else { return footer }
    let shown = try corner(tensor)
    let texts =
      try tensor.dtype.isFloat
      ? shown.tensor.floats().map { format($0) } : shown.tensor.integers().map(String.init)
    let width = texts.map(\.count).max() ?? 0
    let columns = shown.tensor.shape.last ?? 1
    let rows = shown.tensor.rank >= 2 ? shown.tensor.shape[shown.tensor.rank - 2] : 1
    var lines: [String] = []
    for row in 0..<texts.count / columns {
      if shown.tensor.rank > 2, row % rows == 0 {
        lines.append("(" + heading(row / rows, shown, of: tensor) + ",.,.) =")
      }
      var cells = texts[(row * columns)..<((row + 1) * columns)].map { padded($0, width) }
      if shown.cut.last == true { cells.insert("…", at: edge) }
      if shown.tensor.rank >= 2, shown.cut[shown.tensor.rank - 2], row % rows == edge {
        lines.append(padded("…", width + 1))
      }
      lines.append(" " + cells.joined(separator: "  "))
    }
    return (lines + [footer]).joined(separator: "\n")
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }

  /// The indices, from 1, of a matrix among those shown of a tensor with more than two dimensions.
  private static func heading(_ matrix: Int, _ shown: (tensor: Tensor, cut: [Bool]), of tensor: Tensor) -> String {
    var rest = matrix
    var indices: [String] = []
    for axis in (0..<tensor.rank - 2).reversed() {
      let count = shown.tensor.shape[axis]
      let index = rest % count
      rest /= count
      indices.append(String(shown.cut[axis] && index >= edge ? tensor.shape[axis] - count + index + 1 : index + 1))
    }
    return indices.reversed().joined(separator: ",")
  }

  /// The first and last elements of dimensions with more than `most`.
  private static func corner(_ tensor: Tensor) throws -> (tensor: Tensor, cut: [Bool]) {
    var result = tensor.detached()
    var cut: [Bool] = []
    for axis in tensor.shape.indices {
      let count = tensor.shape[axis]
      cut.append(count > most)
      guard count > most else { continue }
      var shape = result.shape
      shape[axis] = 2 * edge
      let small = try Tensor(empty: shape, dtype: tensor.dtype, on: tensor.backend)
      try tensor.backend.copy(try result.narrowed(axis, 0..<edge), into: try small.narrowed(axis, 0..<edge))
      try tensor.backend.copy(
        try result.narrowed(axis, count - edge..<count), into: try small.narrowed(axis, edge..<2 * edge))
      result = small
    }
    return (result, cut)
  }

  /// Four decimals, or scientific where these would say nothing.
  static func format(_ value: Float) -> String {
    if value.isNaN { return "nan" }
    if value.isInfinite { return value < 0 ? "-inf" : "inf" }
    let magnitude = Double(value.magnitude)
    if magnitude != 0, magnitude < 1e-3 || magnitude >= 1e5 {
      var exponent = 0
      var mantissa = magnitude
      while mantissa >= 10 { (mantissa, exponent) = (mantissa / 10, exponent + 1) }
      while mantissa < 1 { (mantissa, exponent) = (mantissa * 10, exponent - 1) }
      return "\(value < 0 ? "-" : "")\(decimals(mantissa, 3))e\(exponent)"
    }
    return (value < 0 ? "-" : "") + decimals(magnitude, 4)
  }

  /// As few digits as say the number: 16, 0.05, 2e-4.
  static func short(_ value: Double) -> String {
    if value == value.rounded(), value.magnitude < 1e9 { return String(Int(value)) }
    let parts = format(Float(value)).split(separator: "e", maxSplits: 1)
    var mantissa = String(parts[0])
    if mantissa.contains(".") {
      while mantissa.hasSuffix("0") { mantissa.removeLast() }
      if mantissa.hasSuffix(".") { mantissa.removeLast() }
    }
    return parts.count > 1 ? mantissa + "e" + parts[1] : mantissa
  }

  /// A number of at least 0 with `count` decimals.
  static func decimals(_ value: Double, _ count: Int) -> String {
    var scale = 1.0
    for _ in 0..<count { scale *= 10 }
    let scaled = Int((value * scale).rounded())
    let fraction = String(scaled % Int(scale))
    guard count > 0 else { return String(scaled) }
    return "\(scaled / Int(scale))." + String(repeating: "0", count: count - fraction.count) + fraction
  }
}
