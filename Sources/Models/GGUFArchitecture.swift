/// What llama.cpp (llama-cpp-python 0.3.36, src/models) reads of one architecture where architectures differ. A tensor
/// that it does not read keeps a file from loading, as does one that it misses; a key that it does not read changes
/// what it computes.
struct GGUFArchitecture: Sendable {
  /// Whether a tensor that not every model has is read.
  enum Reading { case never, optional, always }

  /// Biases of queries, keys and values.
  var inputBias = Reading.optional
  /// Biases of attention's output.
  var outputBias = Reading.never
  var feedForwardBias = Reading.never
  /// The output matrix; without one the embedding is it.
  var output = Reading.optional
  /// Divisors of frequencies: `rope_freqs.weight`.
  var readsDivisors = false
  /// Divisors by length: `rope_factors_long.weight` and `rope_factors_short.weight`.
  var readsFactors = false
  /// Whether the heads together are as wide as the residual stream.
  var headsFillHidden = false
  /// Whether layers with a window turn by the theta of the others.
  var windowsShareTheta = false
  /// Whether yarn's factor of cosines and sines multiplies those of layers with a window too.
  var windowsShareAttentionFactor = false

  /// By `general.architecture`; those that no model is written as have no row.
  static let table: [String: GGUFArchitecture] = [
    "llama": wide, "granite": wide,
    "qwen2": GGUFArchitecture(headsFillHidden: true),
    "qwen3": GGUFArchitecture(), "qwen35": GGUFArchitecture(), "smollm3": GGUFArchitecture(),
    "olmo2": GGUFArchitecture(output: .always, headsFillHidden: true, windowsShareTheta: true),
    "phi3": GGUFArchitecture(readsFactors: true, headsFillHidden: true),
    "gemma": GGUFArchitecture(output: .never), "gemma2": GGUFArchitecture(output: .never),
    "gemma3": GGUFArchitecture(windowsShareAttentionFactor: true),
    "gptneox": GGUFArchitecture(inputBias: .always, outputBias: .always, feedForwardBias: .always, output: .always),
  ]

  private static let wide = GGUFArchitecture(
    outputBias: .optional, feedForwardBias: .optional, readsDivisors: true, readsFactors: true)

  /// Names of config.json's fields by which llama.cpp would load no file of this decoder, or compute something else.
  func fieldsNotRead(of spec: DecoderSpec) -> [String] {
    var fields: [String] = []
    let attention = spec.modules.attention
    if !inputBias.admits(attention.inputsHaveBias) || !outputBias.admits(attention.output.hasBias) {
      fields.append("attention_bias")
    }
    if !feedForwardBias.admits(spec.modules.feedForward.hasBias) { fields.append("mlp_bias") }
    if output == .never, !spec.tiesEmbeddings { fields.append("tie_word_embeddings") }
    if headsFillHidden, spec.headCount * spec.headDimension != spec.hiddenSize { fields.append("head_dim") }
    if let deltaNet = spec.deltaNet, deltaNet.keyDimension != deltaNet.valueDimension {
      fields.append("linear_value_head_dim")
    }
    let own = spec.layers.first { $0.window != nil }.flatMap { spec.rope(of: $0) }
    if windowsShareTheta, let own, own.theta != spec.rope.theta { fields.append("rope_theta of sliding_attention") }
    return fields + fieldsNotRead(of: spec.rope, hasWindows: own != nil)
  }

  private func fieldsNotRead(of rope: Rope, hasWindows: Bool) -> [String] {
    switch rope.scaling {
    case .none, .linear: return []
    case .dynamic: return ["rope_type dynamic"]
    case .llama3: return readsDivisors ? [] : ["rope_type llama3"]
    case .longrope: return readsFactors ? [] : ["rope_type longrope"]
    case .yarn(let yarn):
      let usual = Rope.YaRN(
        factor: yarn.factor, attentionFactor: Rope.YaRN.attentionFactor(yarn.factor),
        originalPositions: yarn.originalPositions)
      var fields: [String] = []
      if yarn.betaFast != usual.betaFast { fields.append("beta_fast of yarn") }
      if yarn.betaSlow != usual.betaSlow { fields.append("beta_slow of yarn") }
      if yarn.truncates != usual.truncates { fields.append("truncate of yarn") }
      if windowsShareAttentionFactor, hasWindows, yarn.attentionFactor != usual.attentionFactor {
        fields.append("attention_factor of yarn")
      }
      return fields
    }
  }
}

extension GGUFArchitecture.Reading {
  /// Whether a file with such a tensor, or without one, is read.
  fileprivate func admits(_ isThere: Bool) -> Bool {
    switch self {
    case .never: !isThere
    case .optional: true
    case .always: isThere
    }
  }
}
