/// The NF4 data type (Dettmers et al. 2023; values as in bitsandbytes, which differ from the paper's equation 4).
package enum NF4 {
  /// Index to value, ascending; seven negatives, zero at 7, eight positives.
  package static let codebook: [Float] = bits([
    0xBF80_0000, 0xBF32_39B1, 0xBF06_6B30, 0xBECA_32A0, 0xBE91_A24D, 0xBE3D_353F, 0xBDBA_7871, 0x0000_0000,
    0x3DA2_FAFF, 0x3E24_CAE3, 0x3E7C_04DD, 0x3EAD_033A, 0x3EE1_A4B8, 0x3F10_07AB, 0x3F39_13B3, 0x3F80_0000,
  ])
  /// A value takes the index that counts the thresholds strictly below it: midpoints of the codebook in f32.
  package static let thresholds: [Float] = bits([
    0xBF59_1CD8, 0xBF1C_5270, 0xBEEB_8480, 0xBEAD_EA76, 0xBE70_3CEC, 0xBE0D_38BC, 0xBD3A_7871, 0x3D22_FAFF,
    0x3DF6_4862, 0x3E50_67E0, 0x3E95_82D4, 0x3EC7_53F9, 0x3F00_6D04, 0x3F24_8DAF, 0x3F5C_89DA,
  ])
  /// Code of the n-th smallest value.
  package static let order: [UInt32] = Array(0..<16)
}

/// bitsandbytes' own FP4: sign, two exponent bits, one mantissa bit, all divided by 12. Index order is bit pattern.
package enum FP4 {
  package static let codebook: [Float] = bits([
    0x0000_0000, 0x3BAA_AAAB, 0x3F2A_AAAB, 0x3F80_0000, 0x3EAA_AAAB, 0x3F00_0000, 0x3E2A_AAAB, 0x3E80_0000,
    0x0000_0000, 0xBBAA_AAAB, 0xBF2A_AAAB, 0xBF80_0000, 0xBEAA_AAAB, 0xBF00_0000, 0xBE2A_AAAB, 0xBE80_0000,
  ])
  /// Midpoints of the table sorted by value, as the CPU kernel of bitsandbytes uses; zero has two codes.
  package static let thresholds: [Float] = bits([
    0xBF55_5556, 0xBF15_5556, 0xBED5_5556, 0xBE95_5556, 0xBE55_5556, 0xBDB0_0000, 0xBB2A_AAAB, 0x0000_0000,
    0x3B2A_AAAB, 0x3DB0_0000, 0x3E55_5556, 0x3E95_5556, 0x3ED5_5556, 0x3F15_5556, 0x3F55_5556,
  ])
  package static let order: [UInt32] = [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3]
}

/// Uniform 4-bit integers scaled to [-1, 1]: -7/7 to 7/7. As in bitsandbytes' "int4" map the sixteenth entry is a
/// second zero, so that the range is symmetric.
package enum Int4 {
  package static let codebook: [Float] = [-7, -6, -5, -4, -3, -2, -1, 0, 0, 1, 2, 3, 4, 5, 6, 7].map { $0 / 7 }
  package static let thresholds: [Float] = zip(codebook, codebook.dropFirst()).map { ($0 + $1) / 2 }
  package static let order: [UInt32] = Array(0..<16)
}

private func bits(_ patterns: [UInt32]) -> [Float] { patterns.map(Float.init(bitPattern:)) }
