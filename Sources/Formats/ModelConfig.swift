import Tensors

/// What a decoder-only model is made of, from `config.json`, GGUF metadata or the table of known models.
/// Counts are elements; every value has been checked, so that products of two sizes cannot overflow.
public struct ModelConfig: Sendable, Equatable {
  public enum ModelType: String, Sendable, CaseIterable { case llama, mistral, qwen2, qwen3 }

  /// How positions are stretched beyond the pretraining length (`rope_type` of transformers).
  public enum RopeScaling: Sendable, Equatable {
    case none
    case linear(factor: Double)
    case llama3(factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalPositions: Int)
  }

  public var modelType: ModelType
  public var hiddenSize: Int
  public var intermediateSize: Int
  public var layerCount: Int
  public var headCount: Int
  public var keyValueHeadCount: Int
  public var headDimension: Int
  public var vocabularySize: Int
  public var maxPositions: Int
  public var normEpsilon: Double = 1e-6
  public var ropeTheta: Double = 10000
  public var ropeScaling: RopeScaling = .none
  /// Tokens a query may look back to, itself included, in layers with a window; nil for full attention everywhere.
  public var slidingWindow: Int?
  /// Layers that use the window; nil for all of them.
  public var windowedLayers: [Bool]?
  public var tiesEmbeddings = false
  /// Biases of q, k and v.
  public var hasQKVBias = false
  /// Bias of the attention output; llama with `attention_bias`.
  public var hasOutputBias = false
  public var hasMLPBias = false
  /// RMS norms of each query and key head; qwen3.
  public var hasQKNorm: Bool { modelType == .qwen3 }
  public var bosTokenID: Int?
  public var eosTokenIDs: [Int] = []
  public var padTokenID: Int?
  /// As written in the file, for example `bfloat16`.
  public var storedType: String?
  /// Unchanged from the file; interpreted by whoever knows the quantization.
  public var quantizationConfig: JSON?

  public init(
    modelType: ModelType, hiddenSize: Int, intermediateSize: Int, layerCount: Int, headCount: Int,
    keyValueHeadCount: Int, headDimension: Int, vocabularySize: Int, maxPositions: Int
  ) {
    self.modelType = modelType
    self.hiddenSize = hiddenSize
    self.intermediateSize = intermediateSize
    self.layerCount = layerCount
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headDimension = headDimension
    self.vocabularySize = vocabularySize
    self.maxPositions = maxPositions
    hasQKVBias = modelType == .qwen2
  }

  /// The window of one layer, nil for full attention.
  public func slidingWindow(layer: Int) -> Int? {
    guard let windowedLayers else { return slidingWindow }
    return windowedLayers.indices.contains(layer) && windowedLayers[layer] ? slidingWindow : nil
  }

  /// Checks the sizes; `path` is named in the error.
  public func validate(path: String) throws(FormatError) {
    let limits: [(String, Int, Int)] = [
      ("hidden_size", hiddenSize, 1 << 20), ("intermediate_size", intermediateSize, 1 << 22),
      ("num_hidden_layers", layerCount, 4096), ("num_attention_heads", headCount, 1 << 14),
      ("num_key_value_heads", keyValueHeadCount, headCount), ("head_dim", headDimension, 1 << 14),
      ("vocab_size", vocabularySize, 1 << 24), ("max_position_embeddings", maxPositions, 1 << 30),
    ]
    for (field, value, most) in limits where value < 1 || value > most {
      throw .badField(path: path, field: field, value: "\(value)", expected: "1 to \(most)")
    }
    guard headCount % keyValueHeadCount == 0 else {
      throw .badField(
        path: path, field: "num_attention_heads", value: "\(headCount)",
        expected: "a multiple of num_key_value_heads (\(keyValueHeadCount))")
    }
    guard headDimension % 2 == 0 else {
      throw .badField(path: path, field: "head_dim", value: "\(headDimension)", expected: "an even number")
    }
    guard normEpsilon > 0, normEpsilon < 1 else {
      throw .badField(path: path, field: "rms_norm_eps", value: "\(normEpsilon)", expected: "between 0 and 1")
    }
    guard ropeTheta > 0, ropeTheta.isFinite else {
      throw .badField(path: path, field: "rope_theta", value: "\(ropeTheta)", expected: "a positive number")
    }
    if let slidingWindow, slidingWindow < 1 {
      throw .badField(path: path, field: "sliding_window", value: "\(slidingWindow)", expected: "at least 1")
    }
    for id in [bosTokenID, padTokenID].compactMap({ $0 }) + eosTokenIDs where id < -1 || id >= 1 << 24 {
      throw .badField(path: path, field: "token id", value: "\(id)", expected: "below 2^24")
    }
  }

  /// Every tensor of the model under its Hugging Face name, with its shape, in layer order.
  public var tensors: [(name: String, shape: [Int])] {
    var all: [(name: String, shape: [Int])] = [("model.embed_tokens.weight", [vocabularySize, hiddenSize])]
    let queries = headCount * headDimension, keys = keyValueHeadCount * headDimension
    for layer in 0..<layerCount {
      let prefix = "model.layers.\(layer)."
      func linear(_ name: String, _ out: Int, _ input: Int, bias: Bool) {
        all.append((prefix + name + ".weight", [out, input]))
        if bias { all.append((prefix + name + ".bias", [out])) }
      }
      all.append((prefix + "input_layernorm.weight", [hiddenSize]))
      linear("self_attn.q_proj", queries, hiddenSize, bias: hasQKVBias)
      linear("self_attn.k_proj", keys, hiddenSize, bias: hasQKVBias)
      linear("self_attn.v_proj", keys, hiddenSize, bias: hasQKVBias)
      linear("self_attn.o_proj", hiddenSize, queries, bias: hasOutputBias)
      if hasQKNorm {
        all.append((prefix + "self_attn.q_norm.weight", [headDimension]))
        all.append((prefix + "self_attn.k_norm.weight", [headDimension]))
      }
      all.append((prefix + "post_attention_layernorm.weight", [hiddenSize]))
      linear("mlp.gate_proj", intermediateSize, hiddenSize, bias: hasMLPBias)
      linear("mlp.up_proj", intermediateSize, hiddenSize, bias: hasMLPBias)
      linear("mlp.down_proj", hiddenSize, intermediateSize, bias: hasMLPBias)
    }
    all.append(("model.norm.weight", [hiddenSize]))
    if !tiesEmbeddings { all.append(("lm_head.weight", [vocabularySize, hiddenSize])) }
    return all
  }

  /// Number of parameters, tied embeddings counted once.
  public var parameterCount: Int { tensors.reduce(0) { $0 + $1.shape.reduce(1, *) } }
}
