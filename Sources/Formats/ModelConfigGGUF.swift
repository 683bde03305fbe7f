import Glibc

extension ModelConfig {
  /// Reads the metadata of a GGUF file. Mistral models carry architecture `llama` there and come back as llama.
  public init(gguf: GGUFFile) throws(FormatError) {
    let path = gguf.path
    let architecture = gguf.metadata["general.architecture"]?.string ?? "absent"
    let types: [String: ModelType] = ["llama": .llama, "qwen2": .qwen2, "qwen3": .qwen3]
    guard let type = types[architecture] else {
      throw .unsupportedModel(
        path: path, field: "general.architecture", value: architecture, supported: types.keys.sorted())
    }
    func integer(_ name: String) -> Int? { gguf.metadata[architecture + "." + name]?.int }
    func required(_ name: String) throws(FormatError) -> Int {
      guard let value = integer(name) else {
        throw .badField(
          path: path, field: architecture + "." + name,
          value: gguf.metadata[architecture + "." + name].map { "\($0)" } ?? "absent", expected: "an integer")
      }
      return value
    }
    if let experts = integer("expert_count"), experts > 0 {
      throw .unsupportedModel(path: path, field: "expert_count", value: "\(experts)", supported: ["0"])
    }
    let embedding = try gguf.tensor("token_embd.weight")
    guard embedding.shape.count == 2 else {
      throw .badField(
        path: path, field: "shape of token_embd.weight", value: "\(embedding.shape)", expected: "two sizes")
    }
    let hidden = try required("embedding_length")
    let heads = try required("attention.head_count")
    guard heads > 0 else {
      throw .badField(path: path, field: "attention.head_count", value: "\(heads)", expected: "at least 1")
    }
    let dimension = integer("attention.key_length") ?? hidden / heads
    if let rotary = integer("rope.dimension_count"), rotary != dimension {
      throw .unsupportedModel(
        path: path, field: "rope.dimension_count", value: "\(rotary)", supported: ["\(dimension)"])
    }
    self.init(
      modelType: type, hiddenSize: hidden, intermediateSize: try required("feed_forward_length"),
      layerCount: try required("block_count"), headCount: heads,
      keyValueHeadCount: integer("attention.head_count_kv") ?? heads, headDimension: dimension,
      vocabularySize: embedding.shape[0], maxPositions: try required("context_length"))
    normEpsilon = gguf.metadata[architecture + ".attention.layer_norm_rms_epsilon"]?.double ?? 1e-6
    ropeTheta = gguf.metadata[architecture + ".rope.freq_base"]?.double ?? 10000
    tiesEmbeddings = !gguf.contains("output.weight")
    hasQKVBias = gguf.contains("blk.0.attn_q.bias")
    hasOutputBias = gguf.contains("blk.0.attn_output.bias")
    hasMLPBias = gguf.contains("blk.0.ffn_gate.bias")
    bosTokenID = gguf.metadata["tokenizer.ggml.bos_token_id"]?.int
    eosTokenIDs = gguf.metadata["tokenizer.ggml.eos_token_id"]?.int.map { [$0] } ?? []
    padTokenID = gguf.metadata["tokenizer.ggml.padding_token_id"]?.int
    try validate(path: path)
    switch gguf.metadata[architecture + ".rope.scaling.type"]?.string ?? "none" {
    case "none": ropeScaling = .none
    case "linear":
      let factor = gguf.metadata[architecture + ".rope.scaling.factor"]?.double ?? 1
      guard factor > 0, factor.isFinite else {
        throw .badField(path: path, field: "rope.scaling.factor", value: "\(factor)", expected: "a positive number")
      }
      ropeScaling = factor == 1 ? .none : .linear(factor: factor)
    case let other:
      throw .unsupportedModel(path: path, field: "rope.scaling.type", value: other, supported: ["none", "linear"])
    }
    if gguf.contains("rope_freqs.weight") { ropeScaling = try llama3Scaling(gguf) }
    try validate(path: path)
  }

  /// llama.cpp replaces the parameters of llama3 scaling by their divisors per frequency. The published models use
  /// low 1, high 4 and 8192 positions, and the largest divisor is the factor; the divisors that follow from these
  /// must be those of the file.
  private func llama3Scaling(_ gguf: GGUFFile) throws(FormatError) -> RopeScaling {
    let tensor = try gguf.tensor("rope_freqs.weight")
    guard tensor.shape == [headDimension / 2] else {
      throw .shape(path: gguf.path, tensor: tensor.name, expected: [headDimension / 2], actual: tensor.shape)
    }
    var divisors = [Float](repeating: 0, count: headDimension / 2)
    try gguf.dequantize(tensor.name, rows: 0..<1, into: &divisors)
    let factor = Double(divisors.max() ?? 0)
    let positions = 8192.0
    for (i, divisor) in divisors.enumerated() {
      let frequency = pow(ropeTheta, -2 * Double(i) / Double(headDimension))
      let wavelength = 2 * Double.pi / frequency
      var expected = 1.0
      if wavelength > positions {
        expected = factor
      } else if wavelength >= positions / 4 {
        let smooth = (positions / wavelength - 1) / 3
        expected = 1 / ((1 - smooth) / factor + smooth)
      }
      guard abs(Double(divisor) - expected) <= 1e-3 * expected else {
        throw .unsupportedModel(
          path: gguf.path, field: "rope_freqs[\(i)]", value: "\(divisor)", supported: ["\(expected) (llama3 scaling)"])
      }
    }
    return factor == 1
      ? .none
      : .llama3(factor: factor, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalPositions: Int(positions))
  }
}
