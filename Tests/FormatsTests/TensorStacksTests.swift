import Tensors
import Testing

@testable import Formats

/// Tensors of several modules, as gpt-oss has them.
@Suite struct TensorStacksTests {
  private let stacks = TensorStacks(modules: ["mlp.experts.#.up", "mlp.experts.#.down"])

  private func open(_ tensors: [(String, DType, [Int])], _ body: (WeightSource) throws -> Void = { _ in }) throws {
    try Fixture.withFolder { folder in
      let path = folder + "/a.safetensors"
      try SafetensorsWriter.write(
        path: path,
        tensors.map { name, dtype, shape in
          let bytes = (0..<shape.reduce(1, *) * dtype.byteCount).map { UInt8(truncatingIfNeeded: 37 * $0 + 11) }
          return .init(name: name, dtype: dtype, shape: shape, bytes: bytes)
        })
      try body(try WeightSource(path: path, stacks: stacks))
    }
  }

  @Test func transposedMatricesAreTurned() throws {
    try open([("m.0.mlp.experts.up", .bf16, [3, 20, 33]), ("m.0.mlp.experts.up_bias", .bf16, [3, 33])]) { source in
      #expect(source.tensors.count == 6)
      let whole = try WeightSource(path: source.path).read("m.0.mlp.experts.up")
      for expert in 0..<3 {
        let name = "m.0.mlp.experts.\(expert).up"
        try source.expect(name + ".weight", shape: [33, 20])
        let matrix = try source.read(name + ".weight")
        #expect(try source.rawBytes(name + ".weight") == nil)
        for row in 0..<33 {
          for column in 0..<20 {
            #expect(
              matrix[row * 20 + column].bitPattern == whole[(expert * 20 + column) * 33 + row].bitPattern)
          }
        }
        var part = [Float](repeating: 0, count: 40)
        try source.read(name + ".weight", rows: 30..<32, into: &part)
        #expect(part.map(\.bitPattern) == matrix[600..<640].map(\.bitPattern))
        let bias = try #require(try source.rawBytes(name + ".bias")).bytes
        #expect(bias.count == 66 && bias[0] == UInt8(truncatingIfNeeded: 37 * 66 * expert + 11))
        let values = try source.read(name + ".bias")
        #expect(values[0].bitPattern >> 16 == UInt32(bias[0]) | UInt32(bias[1]) << 8)
      }
    }
  }

  /// By the definition of the format: e2m1 codes, the low half of a byte first, times two to the scale less 127.
  @Test func blocksAndScalesAreMXFP4() throws {
    let blocks = ("m.0.mlp.experts.down_blocks", DType.u8, [2, 3, 4, 16])
    try open([blocks, ("m.0.mlp.experts.down_scales", .u8, [2, 3, 4])]) { source in
      let values: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
      for expert in 0..<2 {
        let name = "m.0.mlp.experts.\(expert).down.weight"
        try source.expect(name, shape: [3, 128])
        let wanted = (0..<384).map { (index: Int) -> Float in
          let element = 384 * expert + index
          let code = UInt8(truncatingIfNeeded: 37 * (element / 2) + 11) >> (element % 2 * 4) & 15
          let scale = Int(UInt8(truncatingIfNeeded: 37 * (element / 32) + 11)) - 127
          return values[Int(code & 7)] * (code > 7 ? -1 : 1) * Float(sign: .plus, exponent: scale, significand: 1)
        }
        #expect(try source.read(name) == wanted)
        // Codes and scales are parts of the file.
        let stored = try #require(try source.blocks(name))
        #expect(stored.type == .mxfp4 && stored.parts.map(\.count) == [12 * 16, 12] && stored.byteCount == 12 * 17)
        #expect(stored.bytes[0] == UInt8(truncatingIfNeeded: 37 * 192 * expert + 11))
        #expect(stored.rows.second?[0] == UInt8(truncatingIfNeeded: 37 * 12 * expert + 11))
      }
    }
  }

  @Test func modulesHaveAPlaceByTheirNumber() {
    #expect(stacks.place(of: "m.0.mlp.experts.12.up")! == ("m.0.mlp.experts.up", 12))
    for name in ["m.0.mlp.experts.up", "m.0.mlp.experts.01.up", "m.0.mlp.experts.-1.up", "m.0.mlp.up"] {
      #expect(stacks.place(of: name) == nil)
    }
  }

  /// Hostile files: errors that name the tensor.
  @Test func whatIsNoStackIsRefused() throws {
    let (up, down) = ("m.0.mlp.experts.up", "m.0.mlp.experts.down")
    let cases: [([(String, DType, [Int])], String)] = [
      ([(up, .f32, [2, 3])], "[experts, in, out]"),
      ([(up, .f32, [0, 3, 4])], "1 to 4096 experts"),
      ([(up, .f32, [4097, 1, 1])], "1 to 4096 experts"),
      ([(up + "_bias", .f32, [2, 3, 4])], "[experts, out]"),
      ([(down + "_blocks", .u8, [2, 3, 1, 16])], down + "_scales"),
      ([(down + "_scales", .u8, [2, 3, 1])], down + "_blocks"),
      ([(down + "_blocks", .u8, [2, 3, 1, 15]), (down + "_scales", .u8, [2, 3, 1])], "in / 32, 16"),
      ([(down + "_blocks", .u8, [2, 3, 2, 16]), (down + "_scales", .u8, [2, 3, 1])], "[2, 3, 2]"),
      ([(down + "_blocks", .u8, [2, 3, 1, 16]), (down + "_scales", .f32, [2, 3, 1])], "F32"),
      ([(up, .f32, [2, 3, 4]), ("m.0.mlp.experts.1.up.weight", .f32, [4, 3])], "m.0.mlp.experts.1.up.weight"),
      (
        [(up, .f32, [1, 32, 4]), (up + "_blocks", .u8, [1, 4, 1, 16]), (up + "_scales", .u8, [1, 4, 1])],
        "m.0.mlp.experts.0.up.weight"
      ),
    ]
    for (tensors, part) in cases {
      let error = #expect(throws: FormatError.self, "\(tensors)") { try open(tensors) }
      #expect(error?.description.contains(part) ?? false, "\(String(describing: error))")
    }
    try open([(up, .u8, [1, 2, 3])]) { source in
      #expect(throws: FormatError.self) { try source.read("m.0.mlp.experts.0.up.weight") }
    }
  }
}
