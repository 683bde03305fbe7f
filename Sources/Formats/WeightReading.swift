import Glibc
import Tensors

extension WeightSource {
  /// Decodes rows to f32, row-major: `rows.count * rowLength` values. A vector is one row.
  package func read(
    _ name: String, rows: Range<Int>, into out: UnsafeMutablePointer<Float>
  ) throws(FormatError) {
    let tensor = try tensor(name)
    guard rows.lowerBound >= 0, rows.upperBound <= tensor.rowCount else {
      throw .rows(path: path, tensor: name, rows: rows, available: tensor.rowCount)
    }
    if try readPlaced(tensor, rows: rows, into: out) { return }
    switch origin {
    case .safetensors(let checkpoint):
      let (file, entry) = try checkpoint.find(tensor.stored)
      if entry.type == .f8e4m3 { return try readFP8(tensor, entry, in: file, checkpoint, rows: rows, into: out) }
      guard let decode = entry.type.decode else {
        throw .unsupportedType(path: file.path, tensor: name, type: entry.type.rawValue, supported: Self.readable)
      }
      guard !rows.isEmpty, tensor.rowLength > 0, let base = file.bytes(of: entry).baseAddress else { return }
      let start = (tensor.firstRow + rows.lowerBound) * tensor.rowLength * entry.type.byteCount
      decode(base + start, rows.count * tensor.rowLength, out)
    case .gguf(let file, let queryHeads, let keyHeads):
      let map = try permutation(tensor, queryHeads: queryHeads, keyHeads: keyHeads)
      if let map, tensor.shape.count == 1 {
        guard !rows.isEmpty else { return }
        var whole = [Float](repeating: 0, count: tensor.rowLength)
        try file.dequantize(tensor.stored, rows: 0..<1, into: &whole)
        for i in 0..<whole.count { out[i] = whole[map(i)] }
      } else if let map {
        for (i, row) in rows.enumerated() {
          let from = map(row)
          try file.dequantize(tensor.stored, rows: from..<from + 1, into: out + i * tensor.rowLength)
        }
      } else {
        let first = tensor.firstRow
        try file.dequantize(tensor.stored, rows: first + rows.lowerBound..<first + rows.upperBound, into: out)
      }
      try restore(tensor, rows: rows.count, out)
    }
  }

  /// Makes of decoded rows of a GGUF file what the Hugging Face tensor has.
  /// - Throws: `FormatError.badField` for negated exponentials that are not below 0.
  private func restore(_ tensor: Tensor, rows: Int, _ out: UnsafeMutablePointer<Float>) throws(FormatError) {
    let width = tensor.rowLength
    if layout?.hasOneAdded(tensor.name) ?? false { for i in 0..<rows * width { out[i] -= 1 } }
    if layout?.isNegatedExponential(tensor.name) ?? false {
      for i in 0..<rows * width {
        guard out[i] < 0 else {
          throw .badField(path: path, field: tensor.stored, value: "\(out[i])", expected: "numbers below 0")
        }
        out[i] = Float(log(-Double(out[i])))
      }
    }
    guard let map = try columnOrder(tensor) else { return }
    var row = [Float](repeating: 0, count: width)
    for first in stride(from: 0, to: rows * width, by: width) {
      for i in 0..<width { row[i] = out[first + map(i)] }
      for i in 0..<width { out[first + i] = row[i] }
    }
  }

  private func columnOrder(_ tensor: Tensor) throws(FormatError) -> ((Int) -> Int)? {
    guard tensor.shape.count == 2 else { return nil }
    return try layout?.storedColumn(tensor.name, columns: tensor.rowLength, path: path)
  }

  /// The whole tensor as f32.
  package func read(_ name: String) throws(FormatError) -> [Float] {
    let tensor = try tensor(name)
    // The element count of an unreadable type was not checked against the file; do not allocate for it.
    if case .unreadable(let type) = tensor.encoding {
      throw .unsupportedType(path: path, tensor: name, type: type, supported: GGMLType.supported)
    }
    var values = [Float](repeating: 0, count: tensor.rowCount * tensor.rowLength)
    try read(name, rows: 0..<tensor.rowCount, into: &values)
    return values
  }

  /// The stored bytes, where they are plain numbers in row-major order of the Hugging Face tensor; nil for block
  /// formats, for what GGUF files have in another order or as other numbers, and for matrices that are put together.
  /// Zero copy; valid while this source lives; any alignment.
  package func rawBytes(_ name: String) throws(FormatError) -> (bytes: UnsafeRawBufferPointer, dtype: DType)? {
    let tensor = try tensor(name)
    guard tensor.placement == .rows else { return nil }
    switch origin {
    case .safetensors(let checkpoint):
      let (file, entry) = try checkpoint.find(tensor.stored)
      guard let dtype = entry.type.dtype else { return nil }
      let start = tensor.firstRow * tensor.rowLength * dtype.byteCount
      return (UnsafeRawBufferPointer(rebasing: file.bytes(of: entry)[start..<start + tensor.byteCount]), dtype)
    case .gguf(let file, let queryHeads, let keyHeads):
      guard case .block(let type) = tensor.encoding, let dtype = Self.floatTypes[type],
        !(layout?.hasOneAdded(tensor.name) ?? false), !(layout?.isNegatedExponential(tensor.name) ?? false),
        try columnOrder(tensor) == nil,
        try permutation(tensor, queryHeads: queryHeads, keyHeads: keyHeads) == nil
      else { return nil }
      let bytes = try file.bytes(of: tensor.stored)
      let start = tensor.firstRow * tensor.rowLength * dtype.byteCount
      return (UnsafeRawBufferPointer(rebasing: bytes[start..<start + tensor.byteCount]), dtype)
    }
  }

  /// The block format of a tensor; nil for another form.
  package func blockFormat(_ name: String) throws(FormatError) -> GGMLType? {
    guard case .block(let type) = try tensor(name).encoding, type.isBlocked else { return nil }
    return type
  }

  /// The stored blocks of a matrix in a block format whose blocks are a product's; nil for other tensors, also for
  /// columns in another order. Zero copy; valid while this source lives; any alignment.
  package func blocks(_ name: String) throws(FormatError) -> StoredBlocks? {
    let tensor = try tensor(name)
    guard case .block(let type) = tensor.encoding, type.isBlocked, tensor.shape.count == 2 else { return nil }
    switch (tensor.placement, origin) {
    case (.rows, .gguf(let file, let queryHeads, let keyHeads)):
      guard try columnOrder(tensor) == nil else { return nil }
      let map = try permutation(tensor, queryHeads: queryHeads, keyHeads: keyHeads)
      let order = map.map { map in (0..<tensor.shape[0]).map { Int32(map($0)) } }
      return StoredBlocks(
        type: type, bytes: Self.part(tensor.number, of: try file.bytes(of: tensor.stored), tensor.byteCount),
        rows: order.map { .reordered($0) } ?? .inOrder)
    case (.alternating(let other), .gguf(let file, _, _)):
      guard try file.tensor(other).type == type else { return nil }
      let half = tensor.byteCount / 2, number = tensor.firstRow / max(1, tensor.rowCount / 2)
      return StoredBlocks(
        type: type, bytes: Self.part(number, of: try file.bytes(of: tensor.stored), half),
        rows: .alternating(with: Self.part(number, of: try file.bytes(of: other), half)))
    case (.mxfp4(let number, let scales), .safetensors(let files)):
      let codes = try files.find(tensor.stored), exponents = try files.find(scales)
      let count = tensor.rowCount * tensor.rowLength / type.blockSize
      return StoredBlocks(
        type: type, bytes: Self.part(number, of: codes.file.bytes(of: codes.entry), 16 * count),
        rows: .scaledApart(by: Self.part(number, of: exponents.file.bytes(of: exponents.entry), count)))
    default: return nil
    }
  }

  /// The run of this number of a tensor that has several of `count` bytes.
  private static func part(_ number: Int, of bytes: UnsafeRawBufferPointer, _ count: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: bytes[number * count..<(number + 1) * count])
  }

  /// The float dtype that the elements of a tensor have in the file; nil for other types and for block formats.
  package func floatType(_ name: String) throws(FormatError) -> DType? {
    switch try tensor(name).encoding {
    case .plain(let type): type.dtype.flatMap { $0.isFloat ? $0 : nil }
    case .block(let type): Self.floatTypes[type]
    case .unreadable: nil
    }
  }

  private static let floatTypes: [GGMLType: DType] = [.f32: .f32, .f16: .f16, .bf16: .bf16]

  /// Tells the kernel that a tensor's pages will be wanted soon, or no more.
  package func advise(_ advice: MappedFile.Advice, _ name: String) throws(FormatError) {
    let tensor = try tensor(name)
    switch origin {
    case .safetensors(let checkpoint):
      let (file, entry) = try checkpoint.find(tensor.stored)
      let start = entry.byteOffset + tensor.number * tensor.byteCount
      file.file.advise(advice, start..<start + tensor.byteCount)
    case .gguf(let file, _, _):
      if case .perHead(let gates) = tensor.placement {
        for stored in [try file.tensor(tensor.stored), try file.tensor(gates)] {
          file.file.advise(advice, stored.byteOffset..<stored.byteOffset + stored.byteCount)
        }
        return
      }
      var pieces = [tensor.stored], count = tensor.byteCount, rows = tensor.rowCount
      if case .alternating(let other) = tensor.placement {
        pieces.append(other)
        (count, rows) = (count / 2, rows / 2)
      }
      for stored in pieces {
        let start = try file.tensor(stored).byteOffset + tensor.firstRow / max(1, rows) * count
        file.file.advise(advice, start..<start + count)
      }
    }
  }

  /// Takes all pages of the files out of this process.
  package func releaseAll() {
    switch origin {
    case .safetensors(let checkpoint): for file in checkpoint.files { file.file.advise(.dontNeed) }
    case .gguf(let file, _, _): file.file.advise(.dontNeed)
    }
  }

  /// From Hugging Face rows to stored rows, nil where they are the same.
  private func permutation(
    _ tensor: Tensor, queryHeads: Int, keyHeads: Int
  ) throws(FormatError) -> ((Int) -> Int)? {
    guard queryHeads > 0 || layout?.deltaNet != nil else { return nil }
    return try layout?.storedRow(
      tensor.name, rows: tensor.shape.first ?? 0, queryHeads: queryHeads, keyHeads: keyHeads, path: path)
  }
}

/// A matrix in a block format as its file holds it.
package struct StoredBlocks {
  package let type: GGMLType
  package let bytes: UnsafeRawBufferPointer
  package let rows: BlockRows<UnsafeRawBufferPointer>

  /// All parts.
  package var parts: [UnsafeRawBufferPointer] { [bytes] + [rows.second].compactMap { $0 } }
  package var byteCount: Int { parts.reduce(0) { $0 + $1.count } }
}

extension SafetensorsType {
  /// Makes f32 of so many elements at any alignment, doubles rounded as transformers rounds them on loading; nil for a
  /// type that is not read as numbers.
  var decode: ((_ source: UnsafeRawPointer, _ count: Int, _ out: UnsafeMutablePointer<Float>) -> Void)? {
    switch self {
    case .f32: { BlockDecoder.run(.f32, $0, blocks: $1, into: $2) }
    case .f16: { BlockDecoder.run(.f16, $0, blocks: $1, into: $2) }
    case .bf16: { BlockDecoder.run(.bf16, $0, blocks: $1, into: $2) }
    case .f64: { for i in 0..<$1 { $2[i] = Float($0.loadUnaligned(fromByteOffset: 8 * i, as: Double.self)) } }
    default: nil
    }
  }

  /// The types that are read as numbers.
  static let numbers = allCases.filter { $0.decode != nil }.map(\.rawValue)
}
