import Formats
import Glibc

extension DecoderSpec {
  /// Reads the metadata of a GGUF file. Mistral models carry architecture `llama` there and come back as llama.
  /// - Throws: `unsupportedModel` for what the engine does not compute, `badField` for what makes no sense.
  package init(gguf: GGUFFile) throws(FormatError) {
    let path = gguf.path
    let architecture = gguf.metadata["general.architecture"]?.string ?? "absent"
    guard let family = Families.reading(architecture) else {
      throw .unsupportedModel(
        path: path, field: "general.architecture", value: architecture,
        supported: Families.all.compactMap { $0.ggufArchitecture }.sorted())
    }
    let fields = GGUFFields(file: gguf, architecture: architecture)
    if let experts = fields.integer("expert_count"), experts > 0 {
      throw .unsupportedModel(path: path, field: "expert_count", value: "\(experts)", supported: ["0"])
    }
    let embedding = try gguf.tensor("token_embd.weight")
    guard embedding.shape.count == 2 else {
      throw .badField(
        path: path, field: "shape of token_embd.weight", value: "\(embedding.shape)", expected: "two sizes")
    }
    let hidden = try fields.required("embedding_length")
    let heads = try fields.required("attention.head_count")
    guard heads > 0 else {
      throw .badField(path: path, field: "attention.head_count", value: "\(heads)", expected: "at least 1")
    }
    let dimension = fields.integer("attention.key_length") ?? hidden / heads
    if let rotary = fields.integer("rope.dimension_count"), rotary != dimension {
      throw .unsupportedModel(
        path: path, field: "rope.dimension_count", value: "\(rotary)", supported: ["\(dimension)"])
    }
    self.init(
      family, hiddenSize: hidden, intermediateSize: try fields.required("feed_forward_length"),
      layerCount: try Self.checked(layerCount: try fields.required("block_count"), path: path), headCount: heads,
      keyValueHeadCount: fields.integer("attention.head_count_kv") ?? heads, headDimension: dimension,
      vocabularySize: embedding.shape[0], maxPositions: try fields.required("context_length"))
    normEpsilon = fields.double("attention.layer_norm_rms_epsilon") ?? 1e-6
    rope.theta = fields.double("rope.freq_base") ?? 10000
    tiesEmbeddings = !gguf.contains("output.weight")
    modules.setBiases(
      queryKeyValue: gguf.contains("blk.0.\(modules.query.gguf).bias"),
      output: gguf.contains("blk.0.\(modules.output.gguf).bias"),
      feedForward: gguf.contains("blk.0.\(modules.gate.gguf).bias"))
    bosTokenID = gguf.metadata["tokenizer.ggml.bos_token_id"]?.int
    eosTokenIDs = gguf.metadata["tokenizer.ggml.eos_token_id"]?.int.map { [$0] } ?? []
    padTokenID = gguf.metadata["tokenizer.ggml.padding_token_id"]?.int
    try validate(path: path)
    switch fields.string("rope.scaling.type") ?? "none" {
    case "none": break
    case "linear":
      let factor = fields.double("rope.scaling.factor") ?? 1
      guard factor > 0, factor.isFinite else {
        throw .badField(path: path, field: "rope.scaling.factor", value: "\(factor)", expected: "a positive number")
      }
      rope.scaling = factor == 1 ? .none : .linear(factor: factor)
    case let other:
      throw .unsupportedModel(path: path, field: "rope.scaling.type", value: other, supported: ["none", "linear"])
    }
    if gguf.contains("rope_freqs.weight") { rope.scaling = try llama3Scaling(gguf) }
    try family.read(fields, into: &self)
    try validate(path: path)
  }

  /// llama.cpp replaces the parameters of llama3 scaling by their divisors per frequency. The published models use
  /// low 1, high 4 and 8192 positions, and the largest divisor is the factor; the divisors that follow from these
  /// must be those of the file.
  private func llama3Scaling(_ gguf: GGUFFile) throws(FormatError) -> Rope.Scaling {
    let tensor = try gguf.tensor("rope_freqs.weight")
    guard tensor.shape == [headDimension / 2] else {
      throw .shape(path: gguf.path, tensor: tensor.name, expected: [headDimension / 2], actual: tensor.shape)
    }
    var divisors = [Float](repeating: 0, count: headDimension / 2)
    try gguf.dequantize(tensor.name, rows: 0..<1, into: &divisors)
    let factor = Double(divisors.max() ?? 0)
    let positions = 8192.0
    for (i, divisor) in divisors.enumerated() {
      let frequency = pow(rope.theta, -2 * Double(i) / Double(headDimension))
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
