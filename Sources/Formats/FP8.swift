import Tensors

/// How the scales of fp8 weights (safetensors' F8_E4M3) lie beside them. A weight is code * scale.
package struct FP8Scales: Sendable, Equatable {
  /// Which elements of a matrix share a scale.
  package enum Sharing: Sendable, Equatable {
    /// Those of a block of so many rows and columns; the last blocks may be smaller.
    case blocks(rows: Int, columns: Int)
    /// Those of a row.
    case rows
    /// All of them.
    case whole
  }

  package let sharing: Sharing
  /// What a weight's scales may be called behind its own name.
  static let endings = ["_scale_inv", "_scale"]

  package init(_ sharing: Sharing) { self.sharing = sharing }

  /// Rows and columns that share a scale in a matrix of this shape, and the shapes that its scales may have.
  func block(of shape: [Int]) -> (rows: Int, columns: Int, scales: [[Int]]) {
    let (rows, columns) = (max(1, shape.dropLast().reduce(1, *)), max(1, shape.last ?? 1))
    switch sharing {
    case .blocks(let height, let width):
      return (height, width, [[(rows + height - 1) / height, (columns + width - 1) / width]])
    case .rows: return (1, columns, [[rows, 1], [rows]])
    case .whole: return (rows, columns, [[], [1], [1, 1]])
    }
  }
}

/// One weight in fp8 with its scales.
struct FP8Weight {
  /// Row-major.
  let codes: UnsafeRawPointer
  let rowLength: Int
  let scales: [Float]
  let block: (rows: Int, columns: Int)

  /// Writes code * scale, each rounded once to f32; rows count from the start of the matrix.
  /// - Returns: the first element without a finite value and its code; nil where all have one.
  func decode(rows: Range<Int>, into out: UnsafeMutablePointer<Float>) -> (element: Int, code: UInt8)? {
    let perRow = (rowLength + block.columns - 1) / block.columns
    var bad: Int?
    Self.values.withUnsafeBufferPointer { values in
      var to = out
      for row in rows {
        let line = codes + row * rowLength
        let first = row / block.rows * perRow
        for start in stride(from: 0, to: rowLength, by: block.columns) {
          let scale = scales[first + start / block.columns]
          for column in start..<min(start + block.columns, rowLength) {
            let value = values[Int(line.load(fromByteOffset: column, as: UInt8.self))] * scale
            to[column] = value
            if bad == nil, !value.isFinite { bad = row * rowLength + column }
          }
        }
        to += rowLength
      }
    }
    return bad.map { ($0, codes.load(fromByteOffset: $0, as: UInt8.self)) }
  }

  /// Of the 256 codes of e4m3fn: a sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinities, and NaN where
  /// all others are set.
  static let values: [Float] = (0..<256).map { code in
    let (exponent, mantissa) = (code >> 3 & 15, code & 7)
    let size: Float
    if code & 127 == 127 {
      size = .nan
    } else if exponent == 0 {
      size = Float(mantissa) / 512
    } else {
      size = Float(8 + mantissa) * Float(sign: .plus, exponent: exponent - 10, significand: 1)
    }
    return code < 128 ? size : -size
  }

  /// Of a byte of e8m0, which is an exponent; NaN for 255.
  static func power(_ byte: UInt8) -> Float {
    byte == 255 ? .nan : Float(sign: .plus, exponent: Int(byte) - 127, significand: 1)
  }
}

extension WeightSource {
  /// The scales of an fp8 weight: an entry beside it, called as the weight with one of the known endings.
  static func scales(of entry: SafetensorsFile.Entry, in files: WeightFiles) -> String? {
    entry.type == .f8e4m3 ? FP8Scales.endings.map { entry.name + $0 }.first { files.contains($0) } : nil
  }

  /// Decodes rows of an fp8 weight.
  func readFP8(
    _ tensor: Tensor, _ entry: SafetensorsFile.Entry, in file: SafetensorsFile, _ files: WeightFiles,
    rows: Range<Int>, into out: UnsafeMutablePointer<Float>
  ) throws(FormatError) {
    guard let fp8 else {
      throw .unsupportedType(
        path: file.path, tensor: tensor.name,
        type: "\(entry.type.rawValue) (config.json has no quantization_config that says where its scales are)",
        supported: Self.readable)
    }
    guard let name = tensor.scales else {
      throw .missingTensor(path: file.path, tensor: tensor.name + FP8Scales.endings[0])
    }
    let block = fp8.block(of: tensor.shape)
    let scales = try scales(name, shapes: block.scales, files)
    guard !rows.isEmpty, tensor.rowLength > 0, let base = file.bytes(of: entry).baseAddress else { return }
    let weight = FP8Weight(
      codes: base, rowLength: tensor.rowLength, scales: scales, block: (block.rows, block.columns))
    if let (element, code) = weight.decode(rows: rows, into: out) {
      throw .badField(
        path: file.path, field: "element \(element) of \(tensor.name)",
        value: "code \(code)" + (code & 127 == 127 ? ", which is NaN" : " with a scale too large for it"),
        expected: "a finite number")
    }
  }

  private func scales(_ name: String, shapes: [[Int]], _ files: WeightFiles) throws(FormatError) -> [Float] {
    let (file, entry) = try files.find(name)
    guard shapes.contains(entry.shape) else {
      throw .shape(path: file.path, tensor: name, expected: shapes[0], actual: entry.shape)
    }
    let bytes = file.bytes(of: entry)
    var values = [Float](repeating: 0, count: entry.shape.reduce(1, *))
    if entry.type == .f8e8m0 {
      values = bytes.map(FP8Weight.power)
    } else if let decode = entry.type.decode {
      if let base = bytes.baseAddress { decode(base, values.count, &values) }
    } else {
      throw .unsupportedType(
        path: file.path, tensor: name, type: entry.type.rawValue,
        supported: SafetensorsType.numbers + [SafetensorsType.f8e8m0.rawValue])
    }
    if let index = values.firstIndex(where: { !$0.isFinite }) {
      throw .badField(
        path: file.path, field: "element \(index) of \(name)", value: "\(values[index])", expected: "a finite number")
    }
    return values
  }

  /// Types of safetensors that are read as numbers.
  static let readable = SafetensorsType.numbers + ["F8_E4M3 with scales"]
}
