import Formats

/// The metadata of GGUF files: the keys of llama.cpp (gguf-py 0.19, constants.py). `{arch}` stands for the value of
/// general.architecture.
package enum GGUFTable {
  package static let table = FieldTable(
    [
      row(["general.architecture", "general.alignment"], .honoured),
      row(["general.type"], .only(["model"], "a model, no adapter and no matrix of importances")),
      row(["split.count"], .only([0, 1], "a model in one file; join the parts with llama-gguf-split")),
      row(["split.no", "split.tensors.count"], .harmless("counts only with split.count")),
      row(["general.sampling.*"], .harmless("options of llama.cpp's sampler; model:generate has its own")),
      row(["general.*"], .harmless("notes about the file; each tensor says its own type")),
      row(["quantize.*", "imatrix.*"], .harmless("notes of the quantizer")),
      row(
        [
          "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
          "tokenizer.ggml.bos_token_id", "tokenizer.ggml.padding_token_id",
        ], .honoured),
      row(["tokenizer.*"], .harmless("the tokenizer's; it checks them itself")),

      row(
        [
          "{arch}.vocab_size", "{arch}.context_length", "{arch}.embedding_length", "{arch}.block_count",
          "{arch}.feed_forward_length", "{arch}.attention.head_count", "{arch}.attention.head_count_kv",
          "{arch}.attention.key_length", "{arch}.attention.value_length", "{arch}.attention.layer_norm_rms_epsilon",
          "{arch}.rope.dimension_count", "{arch}.rope.freq_base", "{arch}.rope.scaling.type",
          "{arch}.rope.scaling.factor", "{arch}.rope.scale_linear", "{arch}.rope.scaling.original_context_length",
          "{arch}.rope.scaling.attn_factor", "{arch}.rope.scaling.yarn_attn_factor",
          "{arch}.rope.scaling.yarn_beta_fast", "{arch}.rope.scaling.yarn_beta_slow",
          "{arch}.rope.scaling.yarn_log_multiplier", "{arch}.rope.scaling.yarn_ext_factor",
        ], .honoured),
      row(["{arch}.tensor_data_layout"], .harmless("llama.cpp reads it nowhere")),
      row(["{arch}.rope.scaling.finetuned"], .harmless("a note about how the model was made")),
      row(["{arch}.rope.scaling.alpha"], .only([0], "of dynamic scaling, which GGUF files have in theta")),
      row(["{arch}.rope.freq_base_swa"], .only([0], "every layer of this family turns alike")),
      row(["{arch}.attention.causal"], .only([true], "a decoder")),
      row(["{arch}.use_parallel_residual"], .only([false], "attention and feed-forward layer one after the other")),
      row(["{arch}.pooling_type"], .only([0], "a model of text, not of embeddings")),
      row(
        ["{arch}.logit_scale", "{arch}.embedding_scale", "{arch}.residual_scale"],
        .only([0, 1], "this family multiplies by 1")),
      row(["{arch}.attention.scale"], .only([0], "products are divided by the root of the head's width")),
      row(["{arch}.expert_*"], .only([0, false], "dense layers")),
      row(
        [
          "{arch}.attention.sliding_window", "{arch}.attention.sliding_window_pattern",
          "{arch}.attention.shared_kv_layers", "{arch}.attention.clamp_kqv", "{arch}.attention.max_alibi_bias",
          "{arch}.attn_logit_softcapping", "{arch}.final_logit_softcapping", "{arch}.nextn_predict_layers",
          "{arch}.leading_dense_block_count", "{arch}.moe_every_n_layers", "{arch}.interleave_moe_layer_step",
          "{arch}.attention.temperature_length", "{arch}.attention.temperature_scale",
          "{arch}.attention.output_scale",
        ], .only([0, false], "the families read here have none")),
    ], unknown: .said(except: [place]))

  /// What the keys of config.json are called under `{arch}.`, for errors about numbers that both kinds of files have.
  static let names = [
    "hidden_size": "embedding_length", "intermediate_size": "feed_forward_length", "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length", "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon", "layer_norm_eps": "attention.layer_norm_epsilon",
    "rope_theta": "rope.freq_base", "partial_rotary_factor": "rope.dimension_count",
    "rope_scaling.attention_factor": "rope.scaling.attn_factor", "sliding_window": "attention.sliding_window",
    "embedding_multiplier": "embedding_scale", "residual_multiplier": "residual_scale",
    "attention_multiplier": "attention.scale", "logits_scaling": "logit_scale",
    "num_experts": "expert_count", "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
    "linear_num_key_heads": "ssm.group_count", "linear_num_value_heads": "ssm.time_step_rank",
    "linear_key_head_dim": "ssm.state_size", "linear_value_head_dim": "ssm.inner_size / ssm.time_step_rank",
    "linear_conv_kernel_dim": "ssm.conv_kernel",
  ]

  /// A word of every key under `{arch}.`: what stands there is about the architecture.
  private static let place = "arch"

  private static func row(_ keys: [String], _ decision: FieldDecision) -> FieldTable.Row {
    FieldTable.Row(keys, decision)
  }
}

/// Access to a GGUF file's metadata under the prefix of its architecture: absent gives nil, a value of another kind is
/// an error that names the key.
package struct GGUFFields {
  package let file: GGUFFile
  package let architecture: String

  private func name(_ name: String) -> String { name.hasPrefix("tokenizer.") ? name : "\(architecture).\(name)" }

  private func value<T>(
    _ name: String, _ expected: String, _ read: (GGUFValue) -> T?
  ) throws(FormatError) -> T? {
    guard let value = file.metadata[self.name(name)] else { return nil }
    guard let found = read(value) else {
      throw .badField(path: file.path, field: self.name(name), value: value.json.text(), expected: expected)
    }
    return found
  }

  package func integer(_ name: String) throws(FormatError) -> Int? { try value(name, "an integer", \.int) }
  package func bool(_ name: String) throws(FormatError) -> Bool? { try value(name, "true or false", \.bool) }
  package func string(_ name: String) throws(FormatError) -> String? { try value(name, "a text", \.string) }
  package func double(_ name: String) throws(FormatError) -> Double? {
    try value(name, "a finite number") { $0.double.flatMap { $0.isFinite ? $0 : nil } }
  }

  package func required<T>(_ name: String, _ value: T?) throws(FormatError) -> T {
    guard let value else {
      throw .badField(path: file.path, field: self.name(name), value: "absent", expected: "a number")
    }
    return value
  }

  package func required(_ name: String) throws(FormatError) -> Int { try required(name, try integer(name)) }

  /// Layers of the model: those that predict ahead are counted in the file, and not read.
  package func layerCount() throws(FormatError) -> Int {
    let ahead = try integer("nextn_predict_layers") ?? 0, all = try required("block_count")
    guard ahead >= 0, ahead < all else {
      throw .badField(
        path: file.path, field: name("nextn_predict_layers"), value: "\(ahead)", expected: "0 to \(all - 1)")
    }
    return try DecoderSpec.checked(layerCount: all - ahead, path: file.path)
  }

  /// Which layers have a window: of `interval` layers all but the last, where attention.sliding_window_pattern does not
  /// say another interval (0: all layers) or each layer's own (llama.cpp, `load_swa_pattern`).
  package func slidingLayers(every interval: Int, count: Int) throws(FormatError) -> [Bool] {
    let name = "attention.sliding_window_pattern"
    if case .array? = file.metadata[self.name(name)] { return try bools(name, count: count) ?? [] }
    let own = try value(name, "an interval of layers, or true or false for each of \(count)") { value in
      value.int.flatMap { $0 < 0 ? nil : $0 }
    }
    return (1...count).map { !$0.isMultiple(of: own ?? interval) }
  }

  /// One truth value for each layer.
  package func bools(_ name: String, count: Int) throws(FormatError) -> [Bool]? {
    try value(name, "true or false for each of \(count) layers") { value in
      let values = value.array?.compactMap { $0.bool ?? $0.int.map { $0 != 0 } }
      return values?.count == count ? values : nil
    }
  }

  /// Checks every key.
  /// - Returns: what is to be said about the file.
  @discardableResult
  package func check(_ family: any DecoderFamily.Type) throws(FormatError) -> [String] {
    var own = family.ownGGUFKeys
    if family.slidingRope != nil { own["rope.freq_base_swa"] = .honoured }
    let prefix = architecture + "."
    let keys = file.metadata.keys.sorted()
    let general = keys.map { $0.hasPrefix(prefix) ? "{arch}." + $0.dropFirst(prefix.count) : $0 }
    let values = Dictionary(zip(general, keys), uniquingKeysWith: { first, _ in first })
    do {
      return try GGUFTable.table.check(
        general, path: file.path,
        own: Dictionary(uniqueKeysWithValues: own.map { ("{arch}." + $0.key, $0.value) })
      ) {
        values[$0].flatMap { file.metadata[$0]?.json } ?? .null
      }
    } catch {
      throw error.naming { $0.hasPrefix("{arch}.") ? prefix + $0.dropFirst("{arch}.".count) : $0 }
    }
  }

  /// An error about a decoder that this file describes, in the keys of the file: it may name those of config.json, or
  /// leave out the architecture.
  func named(_ error: FormatError, _ family: any DecoderFamily.Type) -> FormatError {
    func key(_ field: String) -> String {
      let own = GGUFTable.names[field] ?? field
      let isKnown =
        own != field || family.ownGGUFKeys[own] != nil || GGUFTable.table.decision(of: "{arch}." + own) != nil
      return isKnown ? "\(architecture).\(own)" : field
    }
    return error.naming(expected: { $0.replacing(/[a-z_]+(\.[a-z_]+)*/) { key(String($0.0)) } }, key)
  }
}

extension FormatError {
  /// The same error about a field of another name; `expected` changes what that of a bad field says.
  func naming(
    expected words: (String) -> String = { $0 }, _ name: (String) -> String
  ) -> FormatError {
    switch self {
    case .unsupportedModel(let path, let field, let value, let supported):
      .unsupportedModel(path: path, field: name(field), value: value, supported: supported)
    case .badField(let path, let field, let value, let expected):
      .badField(path: path, field: name(field), value: value, expected: words(expected))
    case .unknownField(let path, let field, let value): .unknownField(path: path, field: name(field), value: value)
    default: self
    }
  }
}
