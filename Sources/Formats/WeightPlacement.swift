import Tensors

// Matrices that do not lie in a file row after row: put together here, a matrix at a time.

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
  }

  /// What it takes to keep a matrix in the blocks of its file where they are no one run of ggml's: their number of bytes,
  /// and the row of `assemble`'s result of each row; nil for another tensor.
  package func assembly(
    _ name: String
  ) throws(FormatError) -> (type: GGMLType, byteCount: Int, order: [Int32]?)? {
    let tensor = try tensor(name)
    guard case .block(let type) = tensor.encoding, type.isBlocked, tensor.shape.count == 2,
      tensor.rowLength % type.blockSize == 0
    else { return nil }
    let (rows, half) = (tensor.rowCount, tensor.rowCount / 2)
    let byteCount = rows * (tensor.rowLength / type.blockSize) * type.blockBytes
    switch tensor.placement {
    case .rows, .columns: return nil
    case .mxfp4: return (type, byteCount, nil)
    case .alternating(let other):
      guard case .gguf(let file, _, _) = origin, try file.tensor(other).type == type else { return nil }
      return (type, byteCount, (0..<rows).map { Int32($0 % 2 * half + $0 / 2) })
    }
  }

  /// Writes the blocks that `assembly` counts.
  package func assemble(_ name: String, into out: UnsafeMutableRawPointer) throws(FormatError) {
    let tensor = try tensor(name)
    switch (tensor.placement, origin) {
    case (.mxfp4(let number, let scales), .safetensors(let files)):
      try interleave(tensor, number, scales, files, rows: 0..<tensor.rowCount, into: out)
    case (.alternating(let other), .gguf(let file, _, _)):
      let half = tensor.byteCount / 2, start = tensor.firstRow / max(1, tensor.rowCount / 2) * half
      for (index, stored) in [tensor.stored, other].enumerated() {
        let bytes = UnsafeRawBufferPointer(rebasing: try file.bytes(of: stored)[start..<start + half])
        if let base = bytes.baseAddress { (out + index * half).copyMemory(from: base, byteCount: half) }
      }
    default: break
    }
  }

  /// Decodes rows of a tensor that is not placed row after row; false for others.
  func readPlaced(
    _ tensor: Tensor, rows: Range<Int>, into out: UnsafeMutablePointer<Float>
  ) throws(FormatError) -> Bool {
    switch (tensor.placement, origin) {
    case (.columns(let number), .safetensors(let files)):
      try readColumns(tensor, number, files, rows: rows, into: out)
    case (.mxfp4(let number, let scales), .safetensors(let files)):
      let blocks = tensor.rowLength / 32
      var row = [UInt8](repeating: 0, count: blocks * GGMLType.mxfp4.blockBytes)
      for (index, at) in rows.enumerated() {
        try Self.withBytes(of: &row) { bytes throws(FormatError) in
          try interleave(tensor, number, scales, files, rows: at..<at + 1, into: bytes)
          BlockDecoder.run(.mxfp4, bytes, blocks: blocks, into: out + index * tensor.rowLength)
        }
      }
    case (.alternating(let other), .gguf(let file, _, _)):
      try readAlternating(tensor, other, file, rows: rows, into: out)
    default: return false
    }
    return true
  }

  private static func withBytes(
    of row: inout [UInt8], _ body: (UnsafeMutableRawPointer) throws(FormatError) -> Void
  ) throws(FormatError) {
    var failure: FormatError?
    row.withUnsafeMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      do throws(FormatError) { try body(base) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// Rows are columns in the file: sixteen of these are decoded at a time and written side by side.
  private func readColumns(
    _ tensor: Tensor, _ number: Int, _ files: WeightFiles, rows: Range<Int>, into out: UnsafeMutablePointer<Float>
  ) throws(FormatError) {
    let (file, entry) = try files.find(tensor.stored)
    guard let type = entry.type.floatLayout else {
      throw .unsupportedType(
        path: file.path, tensor: tensor.stored, type: entry.type.rawValue, supported: ["F32", "F16", "BF16"])
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
          BlockDecoder.run(type, base + start, blocks: rows.count, into: buffer + column * rows.count)
        }
        for row in 0..<rows.count {
          for column in 0..<count { out[row * width + first + column] = buffer[column * rows.count + row] }
        }
      }
    }
  }

  /// Blocks of ggml from blocks and scales: the scale first, then the codes, of which element 2k is in the low half of
  /// byte k there and here those of the first sixteen elements are the low halves.
  private func interleave(
    _ tensor: Tensor, _ number: Int, _ scales: String, _ files: WeightFiles, rows: Range<Int>,
    into out: UnsafeMutableRawPointer
  ) throws(FormatError) {
    let codes = try files.find(tensor.stored), exponents = try files.find(scales)
    guard let codes = codes.file.bytes(of: codes.entry).baseAddress,
      let exponents = exponents.file.bytes(of: exponents.entry).baseAddress
    else { return }
    let perRow = tensor.rowLength / 32, step = GGMLType.mxfp4.blockBytes
    let first = (number * tensor.rowCount + rows.lowerBound) * perRow
    for block in 0..<rows.count * perRow {
      let source = codes + (first + block) * 16, target = out + block * step
      func code(_ element: Int) -> UInt8 {
        source.load(fromByteOffset: element / 2, as: UInt8.self) >> (element % 2 * 4) & 15
      }
      target.storeBytes(of: exponents.load(fromByteOffset: first + block, as: UInt8.self), as: UInt8.self)
      for j in 0..<16 {
        target.storeBytes(of: code(j) | code(j + 16) << 4, toByteOffset: 1 + j, as: UInt8.self)
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
    case .rows, .alternating: firstRow / max(1, rowCount)
    }
  }
}
