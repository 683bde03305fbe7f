import Tensors
import Testing

@testable import Formats

@Suite struct WeightSourceTests {
  @Test func safetensorsRowsReadAsFloats() throws {
    let source = try WeightSource(path: Fixture.folder + "/model.safetensors")
    let name = "model.layers.0.self_attn.k_proj.weight"
    let tensor = try source.expect(name, shape: [32, 64])
    let (raw, dtype) = try #require(try source.rawBytes(name))
    #expect(dtype == .bf16 && raw.count == tensor.byteCount)
    let whole = try source.read(name)
    for i in whole.indices {
      #expect(whole[i].bitPattern == UInt32(raw.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)) << 16)
    }
    var part = [Float](repeating: 0, count: 3 * 64)
    try source.read(name, rows: 5..<8, into: &part)
    #expect(part == Array(whole[5 * 64..<8 * 64]))
    #expect(throws: FormatError.rows(path: source.path, tensor: name, rows: 31..<33, available: 32)) {
      try source.read(name, rows: 31..<33, into: &part)
    }
  }

  @Test func wrongShapeNamesEverything() throws {
    let source = try WeightSource(path: Fixture.folder + "/model.safetensors")
    let error = #expect(throws: FormatError.self) { try source.expect("model.norm.weight", shape: [65]) }
    let text = try #require(error).description
    for part in ["model.safetensors", "model.norm.weight", "[65]", "[64]"] { #expect(text.contains(part)) }
  }

  @Test func integersAreNotFloats() throws {
    try Fixture.withFolder { folder in
      let path = folder + "/a.safetensors"
      try SafetensorsWriter.write(
        path: path,
        [
          .init(name: "ids", dtype: .i64, shape: [1], bytes: [1, 0, 0, 0, 0, 0, 0, 0]),
          .init(
            name: "halves", dtype: .f16, shape: [2, 3], bytes: [0, 0x3C, 1, 0, 0, 0xFC, 0xFF, 0x7B, 0, 0x80, 0xFF, 3]),
        ])
      let source = try WeightSource(path: path)
      let halves = try source.read("halves")
      #expect(halves == [1, 0x1p-24, -Float.infinity, 65504, -0.0, 1023 * 0x1p-24] && halves[4].sign == .minus)
      #expect(throws: FormatError.self) { try source.read("ids") }
      #expect(try source.rawBytes("ids")?.dtype == .i64)
    }
  }

  /// Rounded to the nearest, as torch rounds them.
  @Test func doublesAreReadAsFloats() throws {
    try Fixture.withFolder { folder in
      let path = folder + "/a.safetensors", values = [0.1, -1 / 3.0, 1e300, -0.0, 0x1p-149, 16_777_217]
      let header = #"{"w": {"dtype": "F64", "shape": [2, 3], "data_offsets": [0, 48]}}"#
      // The doubles begin at an odd place.
      let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) }
      let data = values.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }
      try Fixture.write(path, length + Array(header.utf8) + data)
      let source = try WeightSource(path: path)
      #expect(try source.read("w").map(\.bitPattern) == values.map { Float($0).bitPattern })
      var row = [Float](repeating: 0, count: 3)
      try source.read("w", rows: 1..<2, into: &row)
      #expect(row == values[3...].map { Float($0) })
      #expect(try source.rawBytes("w") == nil && source.floatType("w") == nil)
    }
  }

  /// A GGUF of architecture llama written here: q rows stored in llama.cpp's order come back in Hugging Face's.
  @Test func ggufQueriesAreUnpermuted() throws {
    try Fixture.withFolder { folder in
      func u32(_ v: UInt32) -> [UInt8] { withUnsafeBytes(of: v.littleEndian) { Array($0) } }
      func u64(_ v: UInt64) -> [UInt8] { withUnsafeBytes(of: v.littleEndian) { Array($0) } }
      func text(_ s: String) -> [UInt8] { u64(UInt64(s.utf8.count)) + Array(s.utf8) }
      var bytes = Array("GGUF".utf8) + u32(3) + u64(4) + u64(3)
      bytes += text("general.architecture") + u32(8) + text("llama")
      bytes += text("llama.attention.head_count") + u32(4) + u32(2)
      bytes += text("llama.attention.head_count_kv") + u32(4) + u32(1)
      bytes += text("blk.0.attn_q.weight") + u32(2) + u64(2) + u64(8) + u32(0) + u64(0)
      bytes += text("blk.0.attn_k.bias") + u32(1) + u64(4) + u32(0) + u64(64)
      bytes += text("rope_freqs.weight") + u32(1) + u64(4) + u32(99) + u64(96)
      // A type that cannot be read, with more elements than any memory holds.
      bytes += text("output.weight") + u32(2) + u64(1 << 29) + u64(1 << 29) + u32(16) + u64(0)
      bytes += [UInt8](repeating: 0, count: (32 - bytes.count % 32) % 32)
      for row in [0, 2, 1, 3, 4, 6, 5, 7] as [Float] {
        bytes += u32(row.bitPattern) + u32((row + 0.5).bitPattern)
      }
      for value in [0, 2, 1, 3] as [Float] { bytes += u32(value.bitPattern) }
      bytes += [UInt8](repeating: 0, count: 32)
      try Fixture.write(folder + "/m.gguf", bytes)
      let layout = GGUFLayout(
        whole: [("output", "lm_head")], block: [("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj")],
        pairsHeads: true)
      let source = try WeightSource(path: folder) {
        $0.metadata["general.architecture"]?.string == "llama" ? layout : nil
      }
      #expect(try WeightSource(path: folder).contains("rope_freqs.weight"))
      let q = "model.layers.0.self_attn.q_proj.weight"
      #expect(try source.read(q) == (0..<8).flatMap { [Float($0), Float($0) + 0.5] })
      var rows = [Float](repeating: 0, count: 4)
      try source.read(q, rows: 1..<3, into: &rows)
      #expect(rows == [1, 1.5, 2, 2.5])
      #expect(try source.read("model.layers.0.self_attn.k_proj.bias") == [0, 1, 2, 3])
      #expect(try source.rawBytes(q) == nil)
      #expect(!source.contains("rope_freqs.weight"))
      #expect(
        throws: FormatError.unsupportedType(
          path: source.path, tensor: "lm_head.weight", type: "IQ2_XXS", supported: GGMLType.supported)
      ) { try source.read("lm_head.weight") }
      var one: [Float] = [0]
      #expect(throws: FormatError.self) { try source.gguf?.dequantize("rope_freqs.weight", rows: 0..<1, into: &one) }
    }
  }
}
