/// Where files in safetensors hold together what the modules of a model have each for itself: the matrices of all
/// experts of a layer in one tensor, transposed or in MXFP4 (gpt-oss), or as they are, those of gate and up under each
/// other (Qwen3.5 with experts).
package struct TensorStacks: Sendable {
  /// A tensor [experts, rows of all parts, in] that some files have in the place of the modules' own.
  package struct Rows: Sendable {
    let tensor: String
    /// Modules of a layer, `#` for the number of the expert, whose rows follow each other.
    let modules: [String]

    package init(_ tensor: String, _ modules: [String]) { (self.tensor, self.modules) = (tensor, modules) }
  }

  /// Modules of a layer, `#` for the number of the expert: `mlp.experts.#.down_proj`.
  package let modules: [String]
  private let rows: [Rows]
  /// Of one tensor: a name for each has to be made.
  static let mostMatrices = 4096
  private static let marker = "#."

  package init(modules: [String] = [], rows: [Rows] = []) { (self.modules, self.rows) = (modules, rows) }

  /// The name of the tensor in which a module's weight, or its bias, is saved, and the module's number in it; nil for a
  /// module that has tensors of its own.
  package func place(of module: String) -> (name: String, number: Int)? {
    for pattern in modules {
      let parts = pattern.components(around: Self.marker)
      guard module.hasSuffix("." + parts.after), let start = module.lastRange(of: "." + parts.before) else { continue }
      let digits = module[start.upperBound...].dropLast(parts.after.count + 1)
      guard let number = Int(digits), number >= 0, "\(number)" == digits else { continue }
      return (module[..<start.upperBound] + parts.after, number)
    }
    return nil
  }

  /// The tensors of modules that a stored tensor holds, which is called `full` here; nil for one that is a module's
  /// own. `find` gives an entry of the same files by its name there.
  /// - Throws: `badField` for a shape that no stack has, `missingTensor` for blocks without scales or scales without
  ///   blocks, `unsupportedType`, `shape`.
  func tensors(
    in entry: SafetensorsFile.Entry, named full: String, path: String, find: (String) -> SafetensorsFile.Entry?
  ) throws(FormatError) -> [WeightSource.Tensor]? {
    if let stack = rows.first(where: { full.hasSuffix("." + $0.tensor) }) {
      return try tensors(entry, stack, layer: String(full.dropLast(stack.tensor.count)), path: path)
    }
    for pattern in modules {
      let stem = pattern.replacing(Self.marker, with: "")
      for kind in Kind.allCases where full.hasSuffix("." + stem + kind.rawValue) {
        let layer = full.dropLast(stem.count + kind.rawValue.count)
        let parts = pattern.components(around: Self.marker)
        func name(_ number: Int) -> String { "\(layer)\(parts.before)\(number).\(parts.after)" }
        return try self.tensors(entry, kind, name, path: path, find: find)
      }
    }
    return nil
  }

  private func tensors(
    _ entry: SafetensorsFile.Entry, _ stack: Rows, layer: String, path: String
  ) throws(FormatError) -> [WeightSource.Tensor] {
    let (shape, count) = (entry.shape, stack.modules.count)
    guard shape.count == 3, (1...Self.mostMatrices).contains(shape[0]), shape[1] % count == 0 else {
      throw .badField(
        path: path, field: "shape of \(entry.name)", value: "\(shape)",
        expected: "[experts, \(count == 1 ? "" : "\(count) * ")out, in], 1 to \(Self.mostMatrices) experts")
    }
    let height = shape[1] / count
    return (0..<shape[0]).flatMap { number in
      stack.modules.enumerated().map { part, pattern in
        let name = layer + pattern.replacing("#", with: "\(number)") + ".weight"
        return Self.tensor(
          name, entry, [height, shape[2]], shape[0] * count, .rows, firstRow: number * shape[1] + part * height)
      }
    }
  }

  private enum Kind: String, CaseIterable {
    case weight = "", bias = "_bias", blocks = "_blocks", scales = "_scales"
  }

  private func tensors(
    _ entry: SafetensorsFile.Entry, _ kind: Kind, _ name: (Int) -> String, path: String,
    find: (String) -> SafetensorsFile.Entry?
  ) throws(FormatError) -> [WeightSource.Tensor] {
    let shape = entry.shape
    let (rank, expected) =
      switch kind {
      case .weight: (3, "[experts, in, out]")
      case .bias: (2, "[experts, out]")
      case .blocks: (4, "[experts, out, in / 32, 16]")
      case .scales: (3, "[experts, out, in / 32]")
      }
    guard shape.count == rank, (1...Self.mostMatrices).contains(shape[0]), kind != .blocks || shape[3] == 16 else {
      throw .badField(
        path: path, field: "shape of \(entry.name)", value: "\(shape)",
        expected: expected + ", 1 to \(Self.mostMatrices) experts")
    }
    let count = shape[0]
    switch kind {
    case .weight:
      return (0..<count).map {
        Self.tensor(name($0) + ".weight", entry, [shape[2], shape[1]], count, .columns($0), firstRow: 0)
      }
    case .bias:
      return (0..<count).map { Self.tensor(name($0) + ".bias", entry, [shape[1]], count, .rows, firstRow: $0) }
    case .scales:
      let blocks = entry.name.dropLast(Kind.scales.rawValue.count) + Kind.blocks.rawValue
      guard find(String(blocks)) != nil else { throw .missingTensor(path: path, tensor: String(blocks)) }
      return []
    case .blocks:
      let other = String(entry.name.dropLast(Kind.blocks.rawValue.count) + Kind.scales.rawValue)
      guard let scales = find(other) else { throw .missingTensor(path: path, tensor: other) }
      for part in [entry, scales] where part.type != .u8 {
        throw .unsupportedType(path: path, tensor: part.name, type: part.type.rawValue, supported: ["U8"])
      }
      guard scales.shape == Array(shape.dropLast()) else {
        throw .shape(path: path, tensor: other, expected: Array(shape.dropLast()), actual: scales.shape)
      }
      return (0..<count).map {
        Self.tensor(
          name($0) + ".weight", entry, [shape[1], 32 * shape[2]], count, .mxfp4($0, scales: other), firstRow: 0)
      }
    }
  }

  private static func tensor(
    _ name: String, _ entry: SafetensorsFile.Entry, _ shape: [Int], _ count: Int, _ placement: WeightSource.Placement,
    firstRow: Int
  ) -> WeightSource.Tensor {
    let isBlocked = if case .mxfp4 = placement { true } else { false }
    return WeightSource.Tensor(
      name: name, encoding: isBlocked ? .block(.mxfp4) : .plain(entry.type), shape: shape,
      byteCount: entry.byteCount / count, stored: entry.name, firstRow: firstRow, placement: placement)
  }
}

extension String {
  /// What stands before and after the first `marker`.
  fileprivate func components(around marker: String) -> (before: String, after: String) {
    guard let range = firstRange(of: marker) else { return (self, "") }
    return (String(self[..<range.lowerBound]), String(self[range.upperBound...]))
  }

  fileprivate func lastRange(of part: String) -> Range<String.Index>? { ranges(of: part).last }
}
