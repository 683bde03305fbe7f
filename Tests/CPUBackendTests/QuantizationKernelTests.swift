import CPUBackend
import Numerics
import Tensors
import Testing

/// Blockwise quantization between guard pages; the bytes themselves are compared with bitsandbytes in
/// QuantizationTests.
@Suite struct QuantizationKernelTests {
  private static func table(_ kind: FourBitKind) -> (codebook: [Float], thresholds: [Float], order: [UInt32]) {
    switch kind {
    case .nf4: (NF4.codebook, NF4.thresholds, NF4.order)
    case .fp4: (FP4.codebook, FP4.thresholds, FP4.order)
    case .int4: (Int4.codebook, Int4.thresholds, Int4.order)
    }
  }

  /// The last count is more than one chunk of blocks.
  @Test(arguments: [1, 2, 31, 33, 64, 131, 1027, 70_001], [DType.f32, .bf16, .f16])
  func fourBits(count: Int, type: DType) throws {
    for backend in backends {
      for (kind, block) in [(FourBitKind.nf4, 64), (.fp4, 32), (.int4, 256)] {
        let blocks = (count + block - 1) / block
        let x = try GuardedTensor(random: count, [count], type, on: backend)
        let codes = GuardedTensor(empty: [(count + 1) / 2], .u8, on: backend)
        let absmax = GuardedTensor(empty: [blocks], on: backend)
        let firstBad = GuardedTensor(empty: [1], .i64, on: backend)
        try backend.quantize4(
          x.tensor, kind: kind, blockSize: block, codes: codes.tensor, absmax: absmax.tensor, firstBad: firstBad.tensor)
        #expect(try firstBad.tensor.integers() == [-1] && firstBad.isIntact)
        let (codebook, thresholds, order) = Self.table(kind)
        let values = try x.values()
        var (wantedCodes, wantedValues) = ([Int](repeating: 0, count: (count + 1) / 2), [Float]())
        let peaks = stride(from: 0, to: count, by: block).map { first in
          values[first..<min(count, first + block)].reduce(0) { max($0, $1.magnitude) }
        }
        for (i, value) in values.enumerated() {
          let peak = peaks[i / block]
          let isFull = (i / block + 1) * block <= count
          let s = isFull ? value * (1 / peak) : value / peak
          let code = Int(order[thresholds.count { s > $0 }])
          wantedCodes[i / 2] |= i % 2 == 0 ? code << 4 : code
          wantedValues.append(codebook[code] * peak)
        }
        if count % 2 == 1 { wantedCodes[count / 2] |= Int(order[thresholds.count { 0 > $0 }]) }
        #expect(try codes.tensor.integers() == wantedCodes)
        #expect(try absmax.values() == peaks)
        let book = try GuardedTensor(codebook, [16], on: backend)
        let y = GuardedTensor(empty: [count], type, on: backend)
        try backend.dequantize4(
          QuantizedOperand(
            kind: kind, shape: [count], blockSize: block, codes: codes.tensor, codebook: book.tensor,
            absmax: absmax.tensor, nested: nil), into: y.tensor)
        #expect(try y.values() == GuardedTensor(wantedValues, [count], type, on: backend).values())
        #expect(codes.isIntact && absmax.isIntact && y.isIntact)
      }
    }
  }

  /// Values at the thresholds, where a product with the reciprocal of the maximum and a division part ways: full blocks
  /// multiply, short ones divide, as bitsandbytes does.
  @Test(arguments: [46, 64])
  func fullBlocksMultiplyAndShortOnesDivide(count: Int) throws {
    for backend in backends where backend.pool.threadCount == 1 {
      var random = TestRandom(7)
      for _ in 0..<200 {
        let peak = 1 + abs(random.unit())
        let near = NF4.thresholds.flatMap { [($0 * peak).nextDown, $0 * peak, ($0 * peak).nextUp] }
        let values = [peak] + near + [Float](repeating: 0, count: count - 46)
        let codes = GuardedTensor(empty: [count / 2], .u8, on: backend)
        let absmax = GuardedTensor(empty: [1], on: backend)
        try backend.quantize4(
          try GuardedTensor(values, [count], on: backend).tensor, kind: .nf4, blockSize: 64, codes: codes.tensor,
          absmax: absmax.tensor, firstBad: try Tensor(empty: [1], dtype: .i64, on: backend))
        let wanted = values.map { value in
          let s = count == 64 ? value * (1 / peak) : value / peak
          return NF4.thresholds.count { s > $0 }
        }
        #expect(try codes.tensor.integers() == (0..<count / 2).map { wanted[2 * $0] << 4 | wanted[2 * $0 + 1] })
      }
    }
  }

  @Test(arguments: [1, 15, 256, 300, 10_003])
  func eightBits(count: Int) throws {
    let block = 256
    let map = DynamicMap.signed
    for backend in backends {
      let x = try GuardedTensor(random: count, [count], scale: 3, on: backend)
      let codes = GuardedTensor(empty: [count], .u8, on: backend)
      let absmax = GuardedTensor(empty: [(count + block - 1) / block], on: backend)
      try backend.quantize8(x.tensor, blockSize: block, codes: codes.tensor, absmax: absmax.tensor)
      let (values, got, peaks) = (try x.values(), try codes.tensor.integers(), try absmax.values())
      let wantedPeaks = stride(from: 0, to: count, by: block).map { first in
        values[first..<min(count, first + block)].reduce(0) { max($0, $1.magnitude) }
      }
      #expect(peaks == wantedPeaks)
      let far = values.indices.filter { i in
        let s = values[i] * (1 / peaks[i / block])
        func distance(_ code: Int) -> Float { abs(map[code] - s) }
        // The neighbours are no nearer.
        return [got[i] - 1, got[i] + 1].contains {
          map.indices.contains($0) && distance($0) < distance(got[i]) * (1 - 1e-6)
        }
      }
      #expect(far.isEmpty)
      let table = try GuardedTensor(map, [256], on: backend)
      let y = GuardedTensor(empty: [count], on: backend)
      try backend.dequantize8(
        codes: codes.tensor, absmax: absmax.tensor, map: table.tensor, blockSize: block, offset: 0.37, into: y.tensor)
      #expect(try y.values() == values.indices.map { map[got[$0]] * peaks[$0 / block] + 0.37 })
      #expect(codes.isIntact && absmax.isIntact && y.isIntact)
    }
  }
}
