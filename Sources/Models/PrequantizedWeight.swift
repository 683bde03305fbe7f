import Formats
import Quantization
import Tensors

/// A 4-bit weight as transformers and bitsandbytes store it: packed codes under the weight's own name, statistics under
/// `.absmax`, `.quant_map`, `.nested_absmax`, `.nested_quant_map`, and a JSON text under
/// `.quant_state.bitsandbytes__nf4` or `__fp4` (bitsandbytes 0.50, QuantState.as_dict(packed=True)).
struct PrequantizedWeight {
  let operand: QuantizedOperand

  /// - Returns: nil when the tensor is not stored in 4 bits.
  /// - Throws: `ModelError.badQuantization` naming file and tensor.
  init?(_ source: LoadedSource, _ name: String, shape: [Int], _ backend: any Backend) throws {
    let kinds = [FourBitKind.nf4, .fp4].filter { source.contains("\(name).quant_state.bitsandbytes__\($0.rawValue)") }
    guard let kind = kinds.first else { return nil }
    let reader = Reader(source: source, name: name, backend: backend)
    guard kinds.count == 1 else { throw reader.problem("has two quantization states") }
    let state = try reader.state("quant_state.bitsandbytes__\(kind.rawValue)")
    guard state["quant_type"]?.string == kind.rawValue else {
      throw reader.problem("quant_type is \(state["quant_type"]?.text() ?? "missing"), expected \"\(kind.rawValue)\"")
    }
    guard let blockSize = state["blocksize"]?.int, FourBit.blockSizes.contains(blockSize) else {
      throw reader.problem(
        "blocksize is \(state["blocksize"]?.text() ?? "missing"), expected one of \(FourBit.blockSizes)")
    }
    guard state["shape"]?.array?.compactMap(\.int) == shape else {
      throw reader.problem("shape is \(state["shape"]?.text() ?? "missing"), the configuration expects \(shape)")
    }
    let count = shape.reduce(1, *)
    let blocks = (count + blockSize - 1) / blockSize
    let codes = try reader.bytes(name, count: (count + 1) / 2)
    let codebook = try reader.floats("quant_map", count: 16)
    guard try codebook.floats() == FourBit.codebookValues(kind) else {
      throw reader.problem("quant_map is not the \(kind.rawValue) table")
    }
    let absmax: Tensor
    var nested: QuantizedOperand.Nested?
    if source.contains("\(name).nested_absmax") {
      guard let offset = state["nested_offset"]?.double, offset.isFinite,
        let nestedBlock = state["nested_blocksize"]?.int, nestedBlock == FourBit.nestedBlockSize
      else { throw reader.problem("nested_offset or nested_blocksize is missing or not \(FourBit.nestedBlockSize)") }
      absmax = try reader.bytes("\(name).absmax", count: blocks)
      nested = QuantizedOperand.Nested(
        absmax: try reader.floats("nested_absmax", count: (blocks + nestedBlock - 1) / nestedBlock),
        map: try reader.floats("nested_quant_map", count: 256), offset: Float(offset), blockSize: nestedBlock)
    } else {
      absmax = try reader.floats("absmax", count: blocks)
    }
    operand = QuantizedOperand(
      kind: kind, shape: shape, blockSize: blockSize, codes: codes, codebook: codebook, absmax: absmax, nested: nested)
  }
}

private struct Reader {
  let source: LoadedSource
  let name: String
  let backend: any Backend

  func problem(_ reason: String) -> ModelError { .badQuantization(tensor: name, path: source.path, reason: reason) }

  private func plain(_ key: String) throws -> (UnsafeRawBufferPointer, DType) {
    guard source.contains(key) else { throw ModelError.missingTensor(name: key, path: source.path) }
    guard let plain = try source.rawBytes(key) else { throw problem("\(key) is stored in an unexpected type") }
    return plain
  }

  /// The JSON text of the quantization state.
  func state(_ suffix: String) throws -> JSON {
    let (bytes, _) = try plain("\(name).\(suffix)")
    return try JSON.parse(bytes, path: source.path)
  }

  /// A view of `count` bytes, whatever element type they are declared as (quant_storage).
  func bytes(_ key: String, count: Int) throws -> Tensor {
    let (bytes, _) = try plain(key)
    guard bytes.count == count else { throw problem("\(key) has \(bytes.count) bytes, expected \(count)") }
    return try adopted(bytes, .u8, count)
  }

  private func adopted(_ bytes: UnsafeRawBufferPointer, _ dtype: DType, _ count: Int) throws -> Tensor {
    Tensor(storage: try backend.adopt(FileBytes(bytes, owner: source.owner)), dtype: dtype, shape: [count])
  }

  /// Scales as f32: a view of the file where they are aligned, as in every file that safetensors or we wrote. Files
  /// written after a packed evaluation hold them in bf16 and two-dimensional, which would decode to wrong weights:
  /// refused.
  func floats(_ suffix: String, count: Int) throws -> Tensor {
    let key = "\(name).\(suffix)"
    let (bytes, dtype) = try plain(key)
    guard dtype == .f32, bytes.count == 4 * count else {
      throw problem("\(suffix) is \(dtype.name) with \(bytes.count) bytes, expected f32 with \(4 * count)")
    }
    if UInt(bitPattern: bytes.baseAddress) % 4 == 0 { return try adopted(bytes, .f32, count) }
    let values = try Tensor(empty: [count], category: .weights, on: backend)
    try values.write(bytes)
    return values
  }
}
