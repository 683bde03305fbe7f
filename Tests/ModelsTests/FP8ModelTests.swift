import CPUBackend
import Formats
import Foundation
import Quantization
import Tensors
import Testing

@testable import Models

private let folder = SmolLM2.root.appendingPathComponent("Tests/Fixtures/fp8").path
private let kinds = ["blocks", "powers", "tensor", "channel", "compressed_blocks"]
private let ids: [Int32] = (0..<24).map { (i: Int) -> Int32 in Int32((7 * i * i + 3 * i + 5) % 64) }
private let query = "model.layers.0.self_attn.q_proj"

/// Models with weights in fp8 (Tests/Fixtures/fp8/make_fp8.py).
@Suite struct FP8ModelTests {
  private func load(_ path: String, _ options: LoadOptions = LoadOptions(computeType: .f32)) throws -> LanguageModel {
    try ModelLoader(backend: CPUBackend(threadCount: 2), options: options).load(path)
  }

  @Test(arguments: kinds) func logitsEqualTransformersOnDecodedWeights(name: String) throws {
    let model = try load("\(folder)/\(name)")
    let wanted = try WeightSource(path: "\(folder)/\(name)/golden.safetensors").read("logits")
    #expect(relativeError(try model.logits(ids).floats(), wanted) < 2e-5)
    #expect(model.notices.contains { $0.contains("fp8") } && model.spec.quantizationConfig == nil)
  }

  /// Decoded weights are quantized as stored ones are, and what is saved says nothing of fp8.
  @Test(arguments: kinds) func whatIsQuantizedAndSavedIsNoLongerFP8(name: String) throws {
    var options = LoadOptions(quantization: .nf4, computeType: .f32)
    options.wantedBlockSize = 64
    let quantized = try load("\(folder)/\(name)", options)
    let decoded = try WeightSource(path: "\(folder)/\(name)/golden.safetensors").read("weight")
    let operand = try #require(quantized.module(query)?.quantized)
    let weight = try Tensor(decoded, shape: [40, 40], on: quantized.backend)
    let own = try FourBit.quantize(weight, kind: .nf4, blockSize: 64, double: true, rule: .nearest, name: "w")
    #expect(try operand.dequantized(to: .f32).floats() == own.dequantized(to: .f32).floats())
    try withFolder { target in
      let model = try load("\(folder)/\(name)")
      try model.save(directory: target.path + "/dense")
      try ModelQuantizer(backend: model.backend, options: .init())
        .convert("\(folder)/\(name)", to: target.path + "/quantized")
      func config(_ name: String) throws -> JSON? {
        try JSON.read(path: "\(target.path)/\(name)/config.json")["quantization_config"]
      }
      #expect(try config("dense") == nil && config("quantized")?["quant_method"] == "bitsandbytes")
      #expect(try load(target.path + "/dense").logits(ids).elementCount == 24 * 64)
      #expect(
        try load(target.path + "/quantized").module(query)?.quantized?.dequantized(to: .f32).floats()
          == own.dequantized(to: .f32).floats())
    }
  }

  /// A folder with a fixture, changed in config.json, in the header of its weights and in the bytes of a tensor.
  private func changed<R>(
    _ name: String, config: (inout JSONObject) -> Void = { _ in }, header: (inout JSONObject) -> Void = { _ in },
    bytes: (String, (Int) -> UInt8)? = nil, _ body: (String) throws -> R
  ) throws -> R {
    try withFolder { target in
      var members = try #require(try JSON.read(path: "\(folder)/\(name)/config.json").object)
      config(&members)
      try JSON.object(members).text().write(
        toFile: target.path + "/config.json", atomically: true, encoding: .utf8)
      var file = [UInt8](try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(name)/model.safetensors")))
      let length = Int(file[0]) + Int(file[1]) << 8 + Int(file[2]) << 16
      var entries = try #require(try file[8..<8 + length].withUnsafeBytes { try JSON.parse($0, path: "x") }.object)
      var data = Array(file[(8 + length)...])
      if let (tensor, byte) = bytes {
        let range = try #require(entries[tensor]?["data_offsets"]?.array).compactMap(\.int)
        for index in range[0]..<range[1] { data[index] = byte(index - range[0]) }
      }
      header(&entries)
      let text = Array(JSON.object(entries).text().utf8)
      file = withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text + data
      try Data(file).write(to: target.appendingPathComponent("model.safetensors"))
      return try body(target.path)
    }
  }

  @Test func whatIsMissingOrIllShapedIsNamed() throws {
    let scale = query + ".weight_scale_inv"
    func message(
      _ name: String = "blocks", header: (inout JSONObject) -> Void = { _ in },
      bytes: (String, (Int) -> UInt8)? = nil, config: (inout JSONObject) -> Void = { _ in }
    ) throws -> String {
      var text = "nothing was thrown"
      try changed(name, config: config, header: header, bytes: bytes) { path in
        do { _ = try load(path) } catch { text = "\(error)" }
      }
      return text
    }
    // A scale that is not there, of another shape, of integers.
    let absent = try message { header in
      (header[query + ".input_scale"], header[scale]) = (header[scale], nil)
    }
    #expect(absent.contains("no tensor " + scale))
    #expect(
      try message(header: { $0[scale] = $0[scale]?.object.map { .object($0.setting("shape", [2, 3])) } }).contains(
        "\(scale) has shape [2, 3], expected [3, 2]"))
    #expect(try message(config: { $0["quantization_config"] = .null }).contains("q_proj.weight"))
    // NaN as a code and as a scale, and a product that no f32 holds.
    #expect(try message(bytes: (query + ".weight", { $0 == 7 ? 0x7F : 0 })).contains("element 7 of \(query).weight"))
    #expect(try message(bytes: (query + ".weight", { _ in 0xFF })).contains("element 0 of \(query).weight"))
    #expect(try message(bytes: (scale, { _ in 0xFF })).contains("element 0 of \(scale)"))
    #expect(try message("powers", bytes: (scale, { _ in 254 })).contains("scale too large"))
    #expect(try message("powers", bytes: (scale, { _ in 255 })).contains("element 0 of \(scale)"))
    // A scale beside no fp8 weight is a tensor that nothing reads.
    let nothing: JSON = ["dtype": "F32", "shape": [0], "data_offsets": [0, 0]]
    #expect(try message(header: { $0[query + ".input_zero_point"] = nothing }).contains("input_zero_point"))
  }

  @Test(
    arguments: [
      ("blocks", "weight_block_size", [16]), ("blocks", "weight_block_size", [16, 0]),
      ("blocks", "weight_block_size", [16, "x"]), ("blocks", "weight_block_size", 16), ("blocks", "fmt", "e5m2"),
      ("blocks", "expert_dtype", "fp4"), ("blocks", "weight_scale_bits", 4), ("blocks", "quant_method", "fp4"),
      ("channel", "format", "pack-quantized"), ("channel", "kv_cache_scheme", ["num_bits": 8]),
      ("channel", "config_groups", [:]), ("channel", "config_groups", ["g": ["weights": nil]]),
      ("channel", "config_groups", ["g": ["weights": ["num_bits": 4]]]),
      ("channel", "config_groups", ["g": ["weights": ["strategy": "group"]]]),
      ("channel", "quantization_status", "initialized"), ("channel", "sparsity_config", ["format": "sparse"]),
      (
        "channel", "config_groups",
        ["a": ["weights": ["strategy": "tensor"]], "b": ["weights": ["strategy": "channel"]]]
      ), ("channel", "config_groups", ["g": ["weights": ["strategy": "block", "block_structure": [1]]]]),
      ("channel", "config_groups", ["g": ["weights": ["strategy": "tensor"], "format": "nvfp4-pack-quantized"]]),
    ] as [(String, String, JSON)]) func settingsThatAreNotComputedAreRefusedByName(
      name: String, field: String, value: JSON
    ) throws
  {
    let error = #expect(throws: FormatError.self) {
      try changed(
        name,
        config: { members in
          var quantization = members["quantization_config"]?.object ?? JSONObject()
          quantization[field] = value
          members["quantization_config"] = .object(quantization)
        }
      ) { try load($0) }
    }
    #expect(error?.description.contains("quantization_config.\(field)") ?? false, "\(String(describing: error))")
  }
}

extension JSONObject {
  fileprivate func setting(_ key: String, _ value: JSON) -> JSONObject {
    var copy = self
    copy[key] = value
    return copy
  }
}
