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
    try fields.check(family)
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
    let dimension = try fields.integer("attention.key_length") ?? hidden / heads
    let same: [(String, Int)] = [
      ("rope.dimension_count", dimension), ("attention.value_length", dimension), ("vocab_size", embedding.shape[0]),
    ]
    for (name, size) in same {
      if let value = try fields.integer(name), value != size {
        throw .unsupportedModel(path: path, field: name, value: "\(value)", supported: ["\(size)"])
      }
    }
    self.init(
      family, hiddenSize: hidden, intermediateSize: try fields.required("feed_forward_length"),
      layerCount: try Self.checked(layerCount: try fields.required("block_count"), path: path), headCount: heads,
      keyValueHeadCount: try fields.integer("attention.head_count_kv") ?? heads, headDimension: dimension,
      vocabularySize: embedding.shape[0], maxPositions: try fields.required("context_length"))
    let epsilon = "attention.layer_norm_rms_epsilon"
    normEpsilon = try fields.required(epsilon, try fields.double(epsilon))
    rope.theta = try fields.double("rope.freq_base") ?? 10000
    tiesEmbeddings = !gguf.contains("output.weight")
    modules.setBiases(
      queryKeyValue: gguf.contains("blk.0.\(modules.query.gguf).bias"),
      output: gguf.contains("blk.0.\(modules.output.gguf).bias"),
      feedForward: gguf.contains("blk.0.\(modules.gate.gguf).bias"))
    bosTokenID = try fields.integer("tokenizer.ggml.bos_token_id")
    padTokenID = try fields.integer("tokenizer.ggml.padding_token_id")
    // llama.cpp ends a text at each of these: the end of text, of a turn and of a message.
    for name in ["eos", "eot", "eom"] {
      guard let id = try fields.integer("tokenizer.ggml.\(name)_token_id"), !eosTokenIDs.contains(id) else { continue }
      eosTokenIDs.append(id)
    }
    try validate(path: path)
    rope.scaling = try linearScaling(fields)
    if gguf.contains("rope_freqs.weight") {
      let divisors = try llama3Scaling(gguf)
      guard rope.scaling == .none || divisors == .none else {
        throw .unsupportedModel(
          path: path, field: "rope_freqs.weight", value: "beside linear scaling", supported: ["one of both"])
      }
      if divisors != .none { rope.scaling = divisors }
    }
    try family.read(fields, into: &self)
    try validate(path: path)
  }

  /// A factor without a type is one of linear scaling, as in llama.cpp; with type `none` it is not used.
  private func linearScaling(_ fields: GGUFFields) throws(FormatError) -> Rope.Scaling {
    let type = try fields.string("rope.scaling.type") ?? "linear"
    guard ["none", "linear"].contains(type) else {
      throw .unsupportedModel(
        path: fields.file.path, field: "rope.scaling.type", value: type, supported: ["none", "linear"])
    }
    let named = try fields.double("rope.scaling.factor"), older = try fields.double("rope.scale_linear")
    let given = named ?? older ?? 1
    // llama.cpp takes 0 for a factor that is not there.
    let factor = given == 0 ? 1 : given
    guard factor > 0, Float(factor).isFinite else {
      throw .badField(
        path: fields.file.path, field: "rope.scaling.factor", value: "\(given)", expected: "a positive number")
    }
    return factor == 1 || type == "none" ? .none : .linear(factor: factor)
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
