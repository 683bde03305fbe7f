import Tensors
import Testing

@testable import Formats

@Suite struct GGUFTests {
  @Test func everyTypeMatchesTheReferenceBitForBit() throws {
    let file = try GGUFFile(path: Fixture.path("types.gguf"))
    let golden = try Fixture.bytes("types.f32").withUnsafeBytes { raw in
      (0..<raw.count / 4).map { raw.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
    }
    #expect(Set(file.tensors.compactMap(\.type)) == Set(GGMLType.allCases))
    #expect(golden.count == file.tensors.count * 3 * 512)
    for (i, tensor) in file.tensors.enumerated() {
      #expect(tensor.shape == [3, 512])
      var out = [Float](repeating: .nan, count: 3 * 512)
      try file.dequantize(tensor.name, rows: 0..<3, into: &out)
      let expected = golden[i * 1536..<(i + 1) * 1536]
      let wrong = zip(out, expected).filter { $0.bitPattern != $1.bitPattern }.count
      #expect(wrong == 0, "\(tensor.name): \(wrong) differ")
      var row = [Float](repeating: .nan, count: 512)
      try file.dequantize(tensor.name, rows: 1..<2, into: &row)
      #expect(row.map(\.bitPattern) == out[512..<1024].map(\.bitPattern))
    }
  }

  @Test func everyMetadataTypeReads() throws {
    let m = try GGUFFile(path: Fixture.path("types.gguf")).metadata
    #expect(m["general.architecture"]?.string == "llama")
    #expect(m["t.u8"]?.int == 200 && m["t.i8"]?.int == -100 && m["t.u16"]?.int == 60000)
    #expect(m["t.i16"]?.int == -30000 && m["t.u32"]?.int == 4_000_000_000 && m["t.i32"]?.int == -2_000_000_000)
    #expect(m["t.u64"] == .unsigned(1 << 63 + 1) && m["t.u64"]?.int == nil && m["t.i64"]?.int == -(1 << 62))
    #expect(m["t.f32"]?.double == 1e-5 && m["t.f64"]?.double == 0.1 && m["t.bool"]?.bool == true)
    #expect(m["t.string"]?.string == "héllo")
    #expect(m["t.strings"]?.array == [.string("a"), .string(""), .string("\u{212b}")])
    #expect(m["t.ints"]?.array?.map(\.int) == [1, -2, 3])
    #expect(m["t.floats"]?.array?.map(\.double) == [0.5, 1.5])
  }

  @Test func rowsOutsideAreRefused() throws {
    let file = try GGUFFile(path: Fixture.path("types.gguf"))
    var out: [Float] = [0]
    #expect(throws: FormatError.self) { try file.dequantize("x.F32", rows: 3..<4, into: &out) }
    #expect(throws: FormatError.missingTensor(path: file.path, tensor: "nope")) {
      try file.dequantize("nope", rows: 0..<0, into: &out)
    }
  }

  @Test func namesMapToHuggingFaceAndBack() {
    let layout = GGUFLayout(
      whole: [("output", "lm_head")], block: [("attn_q", "self_attn.q_proj"), ("ffn_up", "mlp.up_proj")],
      pairsHeads: false)
    for (gguf, huggingFace) in [
      ("blk.12.attn_q.weight", "model.layers.12.self_attn.q_proj.weight"),
      ("blk.0.ffn_up.bias", "model.layers.0.mlp.up_proj.bias"), ("output.weight", "lm_head.weight"),
    ] {
      #expect(layout.huggingFace(gguf) == huggingFace && layout.gguf(huggingFace) == gguf)
    }
    for name in ["blk.03.attn_q.weight", "blk.-1.attn_q.weight", "blk.3.attn_k.weight", "rope_freqs.weight", "output"] {
      #expect(layout.huggingFace(name) == nil)
    }
    #expect(layout.gguf("model.layers.03.self_attn.q_proj.weight") == nil && layout.gguf("attn_q.weight") == nil)
  }

  @Test func unpermutingInvertsLlamaCppsPermutation() throws {
    // llama.cpp: reshape(heads, 2, d / 2) then swap the last two axes.
    let heads = 3, d = 8
    var stored: [Int] = []
    for h in 0..<heads { for i in 0..<d / 2 { for s in 0..<2 { stored.append(h * d + s * d / 2 + i) } } }
    let map = try #require(GGUFFile.unpermuteRows(rowCount: heads * d, headCount: heads))
    #expect((0..<heads * d).map { stored[map($0)] } == Array(0..<heads * d))
    #expect(GGUFFile.unpermuteRows(rowCount: 9, headCount: 3) == nil)
  }
}
