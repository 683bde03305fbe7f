import Glibc
import Numerics
import Tensors

extension CPUBackend {
  public func quantize4(
    _ x: Tensor, kind: FourBitKind, blockSize: Int, codes: Tensor, absmax: Tensor
  ) throws -> Int? {
    let count = x.elementCount
    let blocks = (count + blockSize - 1) / blockSize
    let tableOf = kind == .nf4 ? (NF4.thresholds, NF4.order) : (FP4.thresholds, FP4.order)
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
    return (0..<chunks).lazy.map { findings.value[$0] }.first { $0 >= 0 }
  }

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
      codes: operand.absmax, absmax: nested.absmax, map: nested.map, blockSize: nested.blockSize, into: scales)
    let values = scales.floatAddress
    for index in 0..<scales.elementCount { values[index] += nested.offset }
    return scales
  }

  public func quantize8(_ x: Tensor, map: Tensor, blockSize: Int, codes: Tensor, absmax: Tensor) throws {
    let count = x.elementCount
    let (source, table, bytes, scales) = (
      Shared(x.floatAddress), Shared(map.floatAddress), Shared(codes.byteAddress), Shared(absmax.floatAddress)
    )
    let kernels = tables.quantization
    pool.forEachRange((count + blockSize - 1) / blockSize, grain: max(1, 4096 / blockSize)) { range, _ in
      let first = range.lowerBound * blockSize
      kernels.quantize8(
        source.value + first, min(range.upperBound * blockSize, count) - first, blockSize, table.value,
        bytes.value + first, scales.value + range.lowerBound)
    }
  }

  public func dequantize8(
    codes: Tensor, absmax: Tensor, map: Tensor, blockSize: Int, into y: Tensor
  ) throws {
    tables.quantization.dequantize8(
      codes.byteAddress, absmax.floatAddress, map.floatAddress, codes.elementCount, blockSize, y.floatAddress)
  }

  public func update(
    _ rule: OptimizerUpdate, parameter: Tensor, gradient: Tensor, state: [UnsafeMutableRawPointer], step: Int,
    gradientScale: Float
  ) throws {
    let numbers = OptimizerStep(
      learningRate: rule.learningRate, beta1: rule.beta1, beta2: rule.beta2, epsilon: rule.epsilon,
      weightDecay: rule.weightDecay, gradientScale: gradientScale,
      correction1: Float(1 - pow(Double(rule.beta1), Double(step))),
      correction2: Float((1 - pow(Double(rule.beta2), Double(step))).squareRoot()))
    let (p, g, states) = (Shared(parameter.floatAddress), Shared(gradient.floatAddress), Shared(state))
    let kernels = tables.optimizer
    let (signed, unsigned) = (DynamicMap.signed, DynamicMap.unsigned)
    let count = parameter.elementCount
    // Whole blocks of 8-bit state per chunk.
    let block = 256
    pool.forEachRange((count + block - 1) / block, grain: 64) { range, _ in
      let first = range.lowerBound * block
      let size = min(range.upperBound * block, count) - first
      func floats(_ index: Int, _ offset: Int) -> UnsafeMutablePointer<Float> {
        states.value[index].assumingMemoryBound(to: Float.self) + offset
      }
      func codes(_ index: Int) -> UnsafeMutablePointer<UInt8> {
        states.value[index].assumingMemoryBound(to: UInt8.self) + first
      }
      withUnsafePointer(to: numbers) { numbers in
        let (target, source) = (p.value + first, UnsafePointer(g.value + first))
        switch (rule.rule, rule.bits) {
        case (.adamW, 8):
          kernels.adamW8(
            numbers, target, source, size, codes(0), floats(1, range.lowerBound), codes(2),
            floats(3, range.lowerBound), signed, unsigned)
        case (.adamW, _): kernels.adamW(numbers, target, source, size, floats(0, first), floats(1, first))
        case (.lion, 8):
          kernels.lion8(numbers, target, source, size, codes(0), floats(1, range.lowerBound), signed)
        case (.lion, _): kernels.lion(numbers, target, source, size, floats(0, first))
        case (.sgd, _): kernels.sgd(numbers, target, source, size, floats(0, first))
        }
      }
    }
  }
}
