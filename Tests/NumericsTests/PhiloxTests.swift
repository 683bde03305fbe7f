import Numerics
import Testing

@Suite struct PhiloxTests {
  /// Known answers of Random123 (kat_vectors, philox4x32 with 10 rounds).
  @Test func knownAnswers() {
    #expect(Philox.block(0, seed: 0, stream: 0) == SIMD4(0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8))
    let ones = UInt64.max
    #expect(Philox.block(ones, seed: ones, stream: ones) == SIMD4(0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD))
    #expect(
      Philox.block(0x85A3_08D3_243F_6A88, seed: 0x299F_31D0_A409_3822, stream: 0x0370_7344_1319_8A2E)
        == SIMD4(0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1))
  }
}
