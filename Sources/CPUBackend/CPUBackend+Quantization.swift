import Glibc
import Numerics
import Tensors

extension CPUBackend {
  /// Quantizes whole blocks in chunks of about 65536 elements and reports the first bad element.
  /// - Throws: Nothing.
  public func quantize4(
    _ x: Tensor, kind: FourBitKind, blockSize: Int, codes: Tensor, absmax: Tensor, firstBad: Tensor
  ) throws {
    let count = x.elementCount
    let blocks = (count + blockSize - 1) / blockSize
    let tableOf =
      switch kind {
      case .nf4: (NF4.thresholds, NF4.order)
      case .fp4: (FP4.thresholds, FP4.order)
      case .int4: (Int4.thresholds, Int4.order)
      }
    let (source, bytes, scales) = (Shared(x.address), Shared(codes.byteAddress), Shared(absmax.floatAddress))
    let (kernels, type, size) = (tables.quantization, x.type, x.dtype.byteCount)
    let chunk = max(1, 65536 / blockSize)
    let chunks = (blocks + chunk - 1) / chunk
    let findings = Shared(UnsafeMutablePointer<Int>.allocate(capacity: max(1, chunks)))
    defer { findings.value.deallocate() }
    // Block sizes are even, so every chunk starts at a whole byte of codes.
    pool.run(chunks) { index, _ in
      let first = index * chunk * blockSize
      let elements = min(chunk * blockSize, count - first)
      let found = kernels.quantize4(
        source.value + first * size, type, elements, blockSize, tableOf.0, tableOf.1, bytes.value + first / 2,
        scales.value + index * chunk)
      findings.value[index] = found < 0 ? -1 : first + found
    }
    if pool.isRehearsal { return }
    let found = (0..<chunks).lazy.map { findings.value[$0] }.first { $0 >= 0 }
    firstBad.address.storeBytes(of: Int64(found ?? -1), as: Int64.self)
  }

  /// Decodes whole blocks in parallel; doubly quantized maxima are decoded before, all of them.
  /// - Throws: `TensorError.outOfMemory` for these maxima.
  public func dequantize4(_ operand: QuantizedOperand, into y: Tensor) throws {
    let (count, blockSize) = (operand.elementCount, operand.blockSize)
    let scales = try decodedScales(operand)
    let (bytes, maxima, codebook, target) = (
      Shared(operand.codes.byteAddress), Shared(scales.floatAddress), Shared(operand.codebook.floatAddress),
      Shared(y.address)
    )
    let (kernels, type, size) = (tables.quantization, y.type, y.dtype.byteCount)
    let blocks = (count + blockSize - 1) / blockSize
    pool.forEachRange(blocks, grain: max(1, 16384 / blockSize)) { range, _ in
      let first = range.lowerBound * blockSize
      let elements = min(range.upperBound * blockSize, count) - first
      kernels.dequantize4(
        bytes.value + first / 2, maxima.value + range.lowerBound, codebook.value, elements, blockSize,
        target.value + first * size, type)
    }
  }

  /// absmax = map[code] * nested + offset, each operation rounded.
  private func decodedScales(_ operand: QuantizedOperand) throws -> Tensor {
    guard let nested = operand.nested else { return operand.absmax }
    let scales = try Tensor(empty: operand.absmax.shape, category: .workspace, on: self)
    try dequantize8(
      codes: operand.absmax, absmax: nested.absmax, map: nested.map, blockSize: nested.blockSize,
      offset: nested.offset, into: scales)
    return scales
  }

  /// Quantizes whole blocks in parallel.
  /// - Throws: Nothing.
  public func quantize8(_ x: Tensor, blockSize: Int, codes: Tensor, absmax: Tensor) throws {
    let count = x.elementCount
    let (source, bytes, scales) = (Shared(x.floatAddress), Shared(codes.byteAddress), Shared(absmax.floatAddress))
    let kernels = tables.quantization
    pool.forEachRange((count + blockSize - 1) / blockSize, grain: max(1, 4096 / blockSize)) { range, _ in
      let first = range.lowerBound * blockSize
      withUnsafePointer(to: DynamicCodec.signed) { codec in
        kernels.quantize8(
          source.value + first, min(range.upperBound * blockSize, count) - first, blockSize, codec,
          bytes.value + first, scales.value + range.lowerBound)
      }
    }
  }

  /// Decodes whole blocks in parallel; product and sum are rounded each.
  /// - Throws: Nothing.
  public func dequantize8(
    codes: Tensor, absmax: Tensor, map: Tensor, blockSize: Int, offset: Float, into y: Tensor
  ) throws {
    let count = codes.elementCount
    let (bytes, scales, table, target) = (
      Shared(codes.byteAddress), Shared(absmax.floatAddress), Shared(map.floatAddress), Shared(y.floatAddress)
    )
    let kernels = tables.quantization
    pool.forEachRange((count + blockSize - 1) / blockSize, grain: max(1, 16384 / blockSize)) { range, _ in
      let first = range.lowerBound * blockSize
      kernels.dequantize8(
        bytes.value + first, scales.value + range.lowerBound, table.value,
        min(range.upperBound * blockSize, count) - first, blockSize, offset, target.value + first)
    }
  }
}
