import Tensors

// Matrices that do not lie in a file row after row.

extension WeightSource {
  /// How a tensor lies in its file.
  package enum Placement: Sendable, Equatable {
    /// Row after row, from `firstRow` of the stored tensor on.
    case rows
    /// This matrix of a stack of transposed ones, [in, out].
    case columns(Int)
    /// This matrix of a stack of MXFP4 blocks, whose scales are a tensor of their own.
    case mxfp4(Int, scales: String)
    /// The even rows as above, the odd ones so in another tensor.
    case alternating(with: String)
    /// Queries, keys and values as above, the gates of all heads in another tensor; see `GGUFDeltaNet.Split`.
    case perHead(gates: String)
  }

  /// Decodes rows of a tensor that is not placed row after row; false for others.
  func readPlaced(
    _ tensor: Tensor, rows: Range<Int>, into out: UnsafeMutablePointer<Float>
  ) throws(FormatError) -> Bool {
    switch (tensor.placement, origin) {
    case (.columns(let number), .safetensors(let files)):
      try readColumns(tensor, number, files, rows: rows, into: out)
    case (.mxfp4, .safetensors):
      guard let stored = try blocks(tensor.name), let codes = stored.bytes.baseAddress,
        let scales = stored.rows.second?.baseAddress
      else { return true }
      let blocks = tensor.rowLength / stored.type.blockSize, first = rows.lowerBound * blocks
      BlockDecoder.runApart(codes + 16 * first, scales: scales + first, blocks: rows.count * blocks, into: out)
    case (.alternating(let other), .gguf(let file, _, _)):
      try readAlternating(tensor, other, file, rows: rows, into: out)
    case (.perHead(let gates), .gguf(let file, _, _)):
      guard let deltaNet = layout?.deltaNet else { return false }
      for (index, row) in rows.enumerated() {
        let (isGate, from) = deltaNet.splitPlace(row)
        try file.dequantize(
          isGate ? gates : tensor.stored, rows: from..<from + 1, into: out + index * tensor.rowLength)
      }
    default: return false
    }
    return true
  }

  /// Rows are columns in the file: sixteen of these are decoded at a time and written side by side.
  private func readColumns(
    _ tensor: Tensor, _ number: Int, _ files: WeightFiles, rows: Range<Int>, into out: UnsafeMutablePointer<Float>
  ) throws(FormatError) {
    let (file, entry) = try files.find(tensor.stored)
    guard let decode = entry.type.decode else {
      throw .unsupportedType(
        path: file.path, tensor: tensor.stored, type: entry.type.rawValue, supported: SafetensorsType.numbers)
    }
    guard !rows.isEmpty, let base = file.bytes(of: entry).baseAddress else { return }
    let (width, height, size) = (tensor.rowLength, tensor.rowCount, entry.type.byteCount), tile = 16
    var values = [Float](repeating: 0, count: tile * rows.count)
    for first in stride(from: 0, to: width, by: tile) {
      let count = min(tile, width - first)
      values.withUnsafeMutableBufferPointer { values in
        guard let buffer = values.baseAddress else { return }
        for column in 0..<count {
          let start = ((number * width + first + column) * height + rows.lowerBound) * size
          decode(base + start, rows.count, buffer + column * rows.count)
        }
        for row in 0..<rows.count {
          for column in 0..<count { out[row * width + first + column] = buffer[column * rows.count + row] }
        }
      }
    }
  }

  private func readAlternating(
    _ tensor: Tensor, _ other: String, _ file: GGUFFile, rows: Range<Int>, into out: UnsafeMutablePointer<Float>
  ) throws(FormatError) {
    if tensor.shape.count == 1 {
      let half = tensor.rowLength / 2, first = tensor.firstRow
      var values = [Float](repeating: 0, count: half)
      for (place, stored) in [tensor.stored, other].enumerated() where !rows.isEmpty {
        try file.dequantize(stored, rows: first..<first + 1, into: &values)
        for i in 0..<half { out[2 * i + place] = values[i] }
      }
      return
    }
    for (index, row) in rows.enumerated() {
      let from = tensor.firstRow + row / 2
      try file.dequantize(
        row.isMultiple(of: 2) ? tensor.stored : other, rows: from..<from + 1, into: out + index * tensor.rowLength)
    }
  }
}

extension WeightSource.Tensor {
  /// Which of the tensors of its size in the stored one it is.
  var number: Int {
    switch placement {
    case .columns(let number), .mxfp4(let number, _): number
    case .rows, .alternating, .perHead: firstRow / max(1, rowCount)
    }
  }
}
