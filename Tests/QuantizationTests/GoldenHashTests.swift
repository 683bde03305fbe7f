import CPUBackend
import Formats
import Numerics
import Tensors
import Testing

@testable import Quantization

/// The portable golden vector: exact in f32, 300 blocks of 64.
private func goldenWeights(_ backend: CPUBackend) throws -> Tensor {
  let values = (0..<19200).map { (i: Int) -> Float in
    let base: Int = i * 7919 % 2003 - 1001
    let growth: Int = 1 + i / 64 % 17
    return Float(base * growth) / 1024
  }
  return try Tensor(values, shape: [300, 64], on: backend)
}

private func hash(_ tensor: Tensor) throws -> String { try tensor.withHostBytes { SHA256.hash($0) } }

private let backends = InstructionSet.allCases.filter(\.isSupported)

/// SHA-256 of what bitsandbytes 0.50.2 gives for the same bytes, on every instruction set of this machine.
@Suite struct GoldenHashTests {
  @Test(arguments: backends)
  func fourBitBytesEqualBitsandbytes(set: InstructionSet) throws {
    let backend = CPUBackend(threadCount: 2, instructionSet: set)
    let w = try goldenWeights(backend)
    #expect(try hash(w) == "9450601c92295fde1e10cc4c7fddfc48ebbe45d9672c1546d0f789b55df7e12b")
    let nf4 = try FourBit.quantize(w, kind: .nf4, double: false, name: "w")
    #expect(try hash(nf4.codes) == "7586e85a22f30d34476a47ba0b8db12c98e8890ffefbd6033a0477730fd8be9a")
    #expect(try hash(nf4.absmax) == "ec7d45bef28aba7780de275940a540362d13697af4919acb9b64a1784e86e0f0")
    #expect(try hash(nf4.dequantized()) == "d938f7f1ecc88d439452cc6274fafb61eb94d4daf31d09dd68c5f4046145e70d")
    #expect(try hash(nf4.dequantized(to: .bf16)) == "1fc97156d4ca035da2212df403d365f35c92d57dc40ab63be493ba9e57515293")
    let fp4 = try FourBit.quantize(w, kind: .fp4, double: false, name: "w")
    #expect(try hash(fp4.codes) == "0f52d989b71648ed4348226dc046290751aabde4144ab58461ae95bcd8df9d2c")
    #expect(try hash(fp4.dequantized()) == "a9990a49ebdaceb4da20dd24617cf5b889cb144689877a96721182ce398d64df")
    let wide = try FourBit.quantize(w, kind: .nf4, blockSize: 128, double: false, name: "w")
    #expect(try hash(wide.codes) == "5e95020bebfbba042d070e8c41a03f71f9e931fdf26386161480585dedf34085")
    let rounded = try FourBit.quantize(try w.converted(to: .bf16), kind: .nf4, double: false, name: "w")
    #expect(try hash(rounded.codes) == "c89a810885a88891c8a662be923a9cad4beb3d3e3b50da9a26d52984cd93edec")
  }

  @Test(arguments: backends)
  func doubleQuantizationEqualsTheExactRule(set: InstructionSet) throws {
    let backend = CPUBackend(threadCount: 2, instructionSet: set)
    let double = try FourBit.quantize(try goldenWeights(backend), kind: .nf4, double: true, name: "w")
    let nested = try #require(double.nested)
    #expect(nested.offset.bitPattern == 0x4109_B4E1)
    #expect(try hash(double.absmax) == "4b44a80eb050e0f5895145a172d0b1e9603d6af4fa63bc1cb9497b092b13f261")
    #expect(try nested.absmax.floats().map(\.bitPattern) == [0x4100_2F1F, 0x40FA_863E])
    #expect(try hash(double.scales()) == "11d8baf28b188a92bb5cfbbb0b06cadb376b179c754bf2083e52763bf398c354")
    #expect(try hash(double.dequantized()) == "322578caafa190da930a5bda27e95a174c5df00df684a423aea37229eb5235e8")
    #expect(abs(double.bitsPerParameter - 4.126953125) < 0.01)
  }

  /// Fixtures/peers/make_scale_codes.py holds the formulas and prints the hashes.
  @Test func scaleCodesEqualTheTableOfBitsandbytes() throws {
    var scales = (0..<100_003).map { (k: Int) -> Float in
      Float(k * 2_654_435_761 % (1 << 24)) / Float(1 << 24) * 3 - 1
    }
    scales.replaceSubrange(1280..<1536, with: repeatElement(0, count: 256))
    let (codes, maxima) = CoarseCodes.quantize(scales, blockSize: 256)
    #expect(
      codes.withUnsafeBytes { SHA256.hash($0) } == "105814951d6516781372158942c066cacdd99da8cf910194f3dba2951c62a808")
    #expect(
      maxima.withUnsafeBytes { SHA256.hash($0) } == "9e7990de4e637c1ed644e44e21a1f78bbe4b7ae0d92e772369a5cfcf2e2d620a")
  }

  @Test func theRuleOfBitsandbytesGivesItsBytes() throws {
    let backend = CPUBackend(threadCount: 2)
    let values = (0..<1 << 15).map { (k: Int) -> Float in
      Float((k * 2_654_435_761 % 31 - 15) * (k / 64 * 40703 % 2039 + 1)) / 4096
    }
    let w = try Tensor(values, shape: [512, 64], on: backend)
    let theirs = try FourBit.quantize(w, kind: .nf4, double: true, rule: .bitsandbytes, name: "w")
    #expect(try hash(theirs.absmax) == "f235d91d2a8b8aa21202a17d27364fcdc2f80764db3393f950134d9a456cfc6a")
    #expect(
      try hash(try #require(theirs.nested).absmax) == "1fff4078cf5482f493a7a322ad7bb3a4aacdba042144843b1b8273323ae2ca0b"
    )
    #expect(theirs.nested?.offset == 3.7797045707702637)
    let ours = try FourBit.quantize(w, kind: .nf4, double: true, name: "w")
    #expect(zip(try theirs.absmax.integers(), try ours.absmax.integers()).contains { $0 != $1 })
  }

  @Test func dynamicMapsEqualBitsandbytes() throws {
    func hash(_ map: [Float]) -> String { map.withUnsafeBytes { SHA256.hash($0) } }
    #expect(hash(DynamicMap.signed) == "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c")
    #expect(hash(DynamicMap.unsigned) == "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398")
  }
}

/// Blocks, partial blocks and edges against a scalar twin of the rule.
@Suite struct BlockTests {
  private func twin(_ values: [Float], _ block: Int, _ thresholds: [Float], _ order: [UInt32]) -> ([UInt8], [Float]) {
    var codes = [UInt8](repeating: 0, count: (values.count + 1) / 2)
    var scales: [Float] = []
    for start in stride(from: 0, to: values.count, by: block) {
      let part = values[start..<min(start + block, values.count)]
      let peak = part.map(\.magnitude).max() ?? 0
      let isFull = part.count == block
      scales.append(isFull ? peak : max(peak, 1e-38))
      for (offset, value) in part.enumerated() {
        let divisor = max(peak, 1e-38)
        let s = isFull ? value * (1 / divisor) : value / divisor
        let code = UInt8(order[thresholds.count { s > $0 }])
        codes[(start + offset) / 2] |= (start + offset) % 2 == 0 ? code << 4 : code
      }
    }
    if values.count % 2 == 1 { codes[values.count / 2] |= UInt8(order[thresholds.count { 0 > $0 }]) }
    return (codes, scales)
  }

  @Test(arguments: backends)
  func allBlockSizesAndOddCounts(set: InstructionSet) throws {
    let backend = CPUBackend(threadCount: 3, instructionSet: set)
    var state: UInt64 = 5
    for block in FourBit.blockSizes {
      for count in [1, 2, 31, block - 1, block, block + 1, 3 * block + 17] {
        let values = (0..<count).map { _ -> Float in
          state = state &* 6_364_136_223_846_793_005 &+ 1
          return Float(Int64(bitPattern: state) >> 40) * 0x1p-20
        }
        for (kind, table) in [
          (FourBitKind.nf4, (NF4.thresholds, NF4.order)), (.fp4, (FP4.thresholds, FP4.order)),
          (.int4, (Int4.thresholds, Int4.order)),
        ] {
          let got = try FourBit.quantize(
            try Tensor(values, on: backend), kind: kind, blockSize: block, double: false, name: "w")
          let (codes, scales) = twin(values, block, table.0, table.1)
          #expect(try got.codes.integers() == codes.map(Int.init), "\(kind) block \(block) count \(count)")
          #expect(try got.absmax.floats() == scales)
        }
      }
    }
  }

  /// Uniform steps: what comes back is a whole number of sevenths of the block's maximum, and none is nearer.
  @Test func int4RoundsToSevenths() throws {
    let backend = CPUBackend(threadCount: 2)
    let values = (0..<640).map { (i: Int) -> Float in Float(i * 7919 % 2003 - 1001) / 512 }
    let got = try FourBit.quantize(
      try Tensor(values, on: backend), kind: .int4, blockSize: 64, double: false, name: "w"
    ).dequantized().floats()
    for start in stride(from: 0, to: values.count, by: 64) {
      let peak = values[start..<start + 64].map(\.magnitude).max() ?? 0
      for index in start..<start + 64 {
        let sevenths = got[index] / peak * 7
        #expect(abs(sevenths - sevenths.rounded()) < 1e-5, "\(index)")
        #expect(abs(got[index] - values[index]) < peak / 14 * 1.0001, "\(index)")
      }
    }
  }

  @Test func zerosAndThresholdsAndDamage() throws {
    let backend = CPUBackend(threadCount: 2)
    let zeros = try FourBit.quantize(
      try Tensor(full: [128], value: 0, on: backend), kind: .nf4, double: false, name: "w")
    #expect(try zeros.codes.integers() == Array(repeating: 0x77, count: 64))
    #expect(try zeros.absmax.floats() == [0, 0])
    // A value on a threshold takes the lower index.
    var ties = NF4.thresholds + [1]
    ties += [Float](repeating: 0, count: 48)
    let tied = try FourBit.quantize(try Tensor(ties, on: backend), kind: .nf4, double: false, name: "w")
    #expect(try tied.codes.integers().prefix(7) == [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD])
    for bad in [Float.nan, .infinity, -.infinity] {
      var values = [Float](repeating: 1, count: 200)
      values[150] = bad
      #expect(throws: QuantizationError.nonFinite(tensor: "layer.weight", index: 150)) {
        try FourBit.quantize(try Tensor(values, on: backend), kind: .nf4, double: true, name: "layer.weight")
      }
    }
    #expect(throws: QuantizationError.badBlockSize(48)) {
      try FourBit.quantize(try Tensor([1], on: backend), kind: .nf4, blockSize: 48, double: true, name: "w")
    }
  }
}
