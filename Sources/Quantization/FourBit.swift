import Numerics
import Tensors

/// 4-bit blockwise quantization with the bytes of bitsandbytes 0.50 (`quantize_4bit`, Dettmers et al. 2023).
public enum FourBit {
  /// What bitsandbytes accepts.
  public static let blockSizes = [32, 64, 128, 256, 512, 1024, 2048, 4096]
  /// Scales per nested block in double quantization.
  public static let nestedBlockSize = 256

  /// Quantizes a matrix (or any tensor) of f32, bf16 or f16 to two codes a byte and one f32 maximum per block.
  ///
  /// With `double` the block maxima lose their mean and are themselves stored in 8 bits against the signed dynamic map,
  /// by `rule`.
  /// `name` is told in the error for an element that is NaN or infinite; `category` is where the result is counted.
  /// - Throws: `QuantizationError.badBlockSize`, `.notFloat`, `.empty`, `.nonFinite`; `TensorError.outOfMemory`.
  public static func quantize(
    _ x: Tensor, kind: FourBitKind, blockSize: Int = 64, double: Bool, rule: ScaleRule = .nearest, name: String,
    category: MemoryCategory = .weights
  ) throws -> QuantizedOperand {
    guard blockSizes.contains(blockSize) else { throw QuantizationError.badBlockSize(blockSize) }
    guard x.dtype.isFloat else { throw QuantizationError.notFloat(dtype: x.dtype.name) }
    let count = x.elementCount
    guard count > 0 else { throw QuantizationError.empty(shape: x.shape) }
    let backend = x.backend
    let blocks = (count + blockSize - 1) / blockSize
    let codes = try Tensor(empty: [(count + 1) / 2], dtype: .u8, category: category, on: backend)
    let absmax = try Tensor(
      empty: [blocks], dtype: .f32, category: double ? .workspace : category, on: backend)
    let firstBad = try Tensor(empty: [1], dtype: .i64, category: .workspace, on: backend)
    try backend.quantize4(
      try x.contiguous(), kind: kind, blockSize: blockSize, codes: codes, absmax: absmax, firstBad: firstBad)
    if (backend as? any RehearsalBackend)?.isRehearsal != true {
      let bad = try firstBad.integers()[0]
      guard bad < 0 else { throw QuantizationError.nonFinite(tensor: name, index: bad) }
    }
    let codebook = try makeCodebook(kind, backend)
    guard double else {
      return QuantizedOperand(
        kind: kind, shape: x.shape, blockSize: blockSize, codes: codes, codebook: codebook, absmax: absmax, nested: nil)
    }
    let (scaleCodes, nested) = try quantizeScales(absmax, rule, category: category)
    return QuantizedOperand(
      kind: kind, shape: x.shape, blockSize: blockSize, codes: codes, codebook: codebook, absmax: scaleCodes,
      nested: nested)
  }

  /// The second level: offset = mean (summed in double precision), then 8-bit codes per 256 scales.
  private static func quantizeScales(
    _ absmax: Tensor, _ rule: ScaleRule, category: MemoryCategory
  ) throws -> (codes: Tensor, nested: QuantizedOperand.Nested) {
    let backend = absmax.backend
    let count = absmax.elementCount
    let mean = try Tensor(empty: [1], category: .workspace, on: backend)
    try backend.reduce(.mean, absmax, outer: 1, count: count, inner: 1, into: mean)
    try backend.binary(.subtract, absmax, mean, into: absmax)
    let map = try makeDynamicMap(backend)
    let offset = try mean.floats()[0]
    if rule == .bitsandbytes {
      let (codes, maxima) = CoarseCodes.quantize(try absmax.floats(), blockSize: nestedBlockSize)
      let nested = QuantizedOperand.Nested(
        absmax: try Tensor(maxima, category: category, on: backend), map: map, offset: offset)
      let tensor = try Tensor(empty: [count], dtype: .u8, category: category, on: backend)
      try codes.withUnsafeBytes { try tensor.write($0) }
      return (tensor, nested)
    }
    let codes = try Tensor(empty: [count], dtype: .u8, category: category, on: backend)
    let nestedAbsmax = try Tensor(
      empty: [(count + nestedBlockSize - 1) / nestedBlockSize], dtype: .f32, category: category, on: backend)
    try backend.quantize8(absmax, blockSize: nestedBlockSize, codes: codes, absmax: nestedAbsmax)
    return (codes, QuantizedOperand.Nested(absmax: nestedAbsmax, map: map, offset: offset))
  }

  /// The codebook as a tensor; one for all matrices of a backend would need a registry, and 64 bytes do not pay for it.
  /// - Throws: `TensorError.outOfMemory`.
  public static func makeCodebook(_ kind: FourBitKind, _ backend: any Backend) throws -> Tensor {
    try Tensor(codebookValues(kind), category: .weights, on: backend)
  }

  /// The signed dynamic map of 8-bit scales as a tensor, f32 [256].
  /// - Throws: `TensorError.outOfMemory`.
  public static func makeDynamicMap(_ backend: any Backend) throws -> Tensor {
    try Tensor(DynamicMap.signed, category: .weights, on: backend)
  }

  /// The 16 values of a code, by code.
  public static func codebookValues(_ kind: FourBitKind) -> [Float] {
    switch kind {
    case .nf4: NF4.codebook
    case .fp4: FP4.codebook
    case .int4: Int4.codebook
    }
  }
}

extension QuantizedOperand {
  /// The values f32(codebook[code] * absmax), rounded once to `dtype`, a float one.
  /// - Throws: `TensorError.outOfMemory`.
  public func dequantized(to dtype: DType = .f32, category: MemoryCategory = .activations) throws -> Tensor {
    let y = try Tensor(empty: shape, dtype: dtype, category: category, on: codes.backend)
    try codes.backend.dequantize4(self, into: y)
    return y
  }

  /// The block maxima as f32 [blocks]: the stored tensor itself, or decoded ones when they are double-quantized.
  /// - Throws: `TensorError.outOfMemory`.
  public func scales() throws -> Tensor {
    guard let nested else { return absmax }
    let values = try Tensor(empty: absmax.shape, dtype: .f32, on: absmax.backend)
    try absmax.backend.dequantize8(
      codes: absmax, absmax: nested.absmax, map: nested.map, blockSize: nested.blockSize,
      offset: nested.offset, into: values)
    return values
  }

  /// Stored bits per element, with all statistics.
  public var bitsPerParameter: Double { Double(byteCount * 8) / Double(max(1, elementCount)) }
}
