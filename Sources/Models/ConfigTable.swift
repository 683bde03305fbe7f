import Formats

/// The keys of config.json: those of transformers 5.23 (PreTrainedConfig and the configs of our families), those that
/// earlier versions and other programs write, and keys of other models that change the arithmetic. What a family reads
/// besides the honoured ones is its `ownKeys`.
package enum ConfigTable {
  package static let table = FieldTable(
    [
      row(
        ["model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"],
        .honoured),
      row(["max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "rope_theta"], .honoured),
      row(["original_max_position_embeddings"], .honoured),
      row(["num_key_value_heads", "head_dim", "rope_scaling", "rope_parameters", "layer_types"], .nullable),
      row(["bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype", "quantization_config"], .nullable),
      row(["hidden_act"], .only(["silu", "swish"], "the gate's activation")),
      row(["hidden_activation"], .only([.null, "silu", "swish"], "another name of hidden_act")),
      row(["partial_rotary_factor"], .only([.null, 1], "whole heads are rotated")),

      row(["attention_bias", "mlp_bias"], .only([.null, false], "this family has no such bias")),
      row(["sliding_window"], .only([.null], "this family has no windows")),
      row(["use_sliding_window"], .only([.null, false], "this family has no windows")),
      row(["max_window_layers"], .harmless("counts only with use_sliding_window")),
      row(["no_rope_layers"], .only([.null, []], "every layer of this family is rotated")),
      row(["no_rope_layer_interval"], .only([.null, 0], "every layer of this family is rotated")),
      row(
        ["embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"],
        .only([.null, 1], "this family multiplies by 1")),

      row(["text_config"], .only([.null, [:]], "a model inside another; give the config of the text model")),
      row(["per_layer_config"], .only([.null, [:]], "layers of different sizes")),
      row(["is_encoder_decoder", "add_cross_attention", "tie_encoder_decoder"], .only([.null, false], "a decoder")),
      row(["pruned_heads"], .only([.null, [:]], "all heads are computed")),
      row(["rope_interleaved"], .only([.null, false], "halves of a head are paired, as in transformers")),
      row(
        ["attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "clip_qkv"],
        .only([.null], "no such cap or scale")),
      row(["logit_scale"], .only([.null, 1], "no such scale")),
      row(["full_attn_mod", "interpolate_factor"], .only([.null, 1], "of Phi-4; transformers does not read it")),
      row(["num_experts", "num_local_experts", "n_routed_experts"], .only([.null, 0], "dense layers")),
      row(["num_nextn_predict_layers", "mtp_num_hidden_layers"], .only([.null, 0], "no layers that predict ahead")),
      row(["quantization", "compression_config"], .only([.null], "quantized by MLX or compressed-tensors")),

      row(
        [
          "attention_dropout", "hidden_dropout", "embedding_dropout", "resid_pdrop", "embd_pdrop",
          "attention_probs_dropout_prob", "hidden_dropout_prob",
        ],
        .said([.null, 0], "training here drops nothing in the base model; adapters have a dropout of their own")),
      row(
        ["auto_map"],
        .said(
          [.null, [:]], "code of the model's own is not run; the family is computed as transformers has it built in")),
      row(
        ["dual_chunk_attention_config"],
        .said(
          [.null, [:]], "attention in chunks beyond the trained length is not computed; it is whole, as in transformers"
        )),

      row(
        ["architectures"], .harmless("model_type names the family; a head of another class is a tensor nobody knows")),
      row(["initializer_range"], .harmless("for new random models; qlora.new_model reads it")),
      row(["pretraining_tp", "chunk_size_feed_forward"], .harmless("the same products in other pieces")),
      row(["use_cache", "cache_implementation"], .harmless("generation always caches, training never")),
      row(
        [
          "output_hidden_states", "output_attentions", "return_dict", "torchscript", "tie_last_hidden_states",
          "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
          "_attn_implementation_autoset", "experts_implementation", "_experts_implementation",
          "_experts_implementation_internal", "gradient_checkpointing", "use_bfloat16", "use_flash_attn",
          "use_flash_attention", "use_flash_attention_2",
        ], .harmless("how transformers computes or returns the same numbers")),
      row(
        ["id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params"],
        .harmless("for classifiers")),
      row(
        [
          "transformers_version", "_name_or_path", "name_or_path", "_commit_hash", "tokenizer_class", "is_llama_config",
          "transformers.js_config", "unsloth_fixed", "unsloth_version", "max_sequence_length", "model_max_length",
        ], .harmless("notes about the file")),
      row(
        [
          "is_decoder", "cross_attention_hidden_size", "decoder_start_token_id", "sep_token_id", "prefix",
          "tf_legacy_loss",
        ], .harmless("for other kinds of models")),
      row(
        [
          "max_length", "max_new_tokens", "min_length", "min_new_tokens", "do_sample", "early_stopping", "num_beams",
          "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "min_p", "typical_p",
          "epsilon_cutoff", "eta_cutoff", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
          "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "bad_words_ids", "num_return_sequences",
          "output_scores", "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id",
          "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
        ], .harmless("transformers 5 drops options of generate from config.json")),
    ], unknown: .said(except: arithmetic))

  /// The keys inside rope_parameters and rope_scaling.
  package static let rope = FieldTable(
    [
      row(
        [
          "rope_type", "type", "rope_theta", "low_freq_factor", "high_freq_factor", "short_factor", "long_factor",
          "original_max_position_embeddings", "truncate",
        ], .honoured),
      row(["factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"], .nullable),
      row(["partial_rotary_factor"], .only([.null, 1], "whole heads are rotated")),
      row(["mrope_section"], .only([.null], "positions in three dimensions")),
      row(["finetuned"], .harmless("a note about how the model was made")),
    ], unknown: .refused)

  /// Parts of names that speak of arithmetic.
  static let arithmetic: Set<String> = [
    "act", "activation", "alibi", "attention", "attn", "bias", "block", "cap", "clip", "conv", "embedding",
    "embeddings",
    "expert", "experts", "factor", "gate", "head", "heads", "hidden", "kv", "layer", "layers", "logit", "logits", "mla",
    "mlp", "moe", "mrope", "mup", "multiplier", "norm", "parallel", "qk", "qkv", "quant", "quantization", "residual",
    "rms", "rope", "rotary", "router", "scale", "scaling", "sink", "sinks", "skip", "sliding", "softcap", "softcapping",
    "swiglu", "theta", "tie", "tied", "window", "yarn",
  ]

  private static func row(_ keys: [String], _ decision: FieldDecision) -> FieldTable.Row {
    FieldTable.Row(keys, decision)
  }
}

extension ConfigFields {
  /// Checks every key, also those of quantization_config.
  /// - Returns: what is to be said about the file.
  @discardableResult
  package func check(_ family: any DecoderFamily.Type) throws(FormatError) -> [String] {
    var own = family.ownKeys
    if family.rotatesPartOfHeads { own["partial_rotary_factor"] = .nullable }
    let said = try ConfigTable.table.check(json, path: path, own: own)
    if let quantization = json["quantization_config"], !quantization.isNull {
      try check(quantization: quantization, family)
    }
    return said
  }

  /// Weights in 4 bits of bitsandbytes say themselves how they are stored; other forms than these, MXFP4 and fp8 are
  /// not read. The first configs of bitsandbytes have no quant_method.
  private func check(quantization: JSON, _ family: any DecoderFamily.Type) throws(FormatError) {
    let keys = ["quant_method", "load_in_4bit", "_load_in_4bit", "load_in_8bit", "_load_in_8bit"]
    guard keys.contains(where: { quantization[$0] != nil }) else {
      throw .badField(
        path: path, field: "quantization_config", value: quantization.text(), expected: "an object with quant_method")
    }
    if try FP8Config.scales(quantization, path: path) != nil { return }
    let method = quantization["quant_method"] ?? "bitsandbytes"
    // Its tensors of blocks and scales say themselves what they are.
    if method == "mxfp4", !family.tensorStacks.modules.isEmpty { return }
    guard method == "bitsandbytes" else {
      throw .unsupportedModel(
        path: path, field: "quantization_config.quant_method", value: method.text(),
        supported: (["bitsandbytes"] + FP8Config.methods).map { "\"\($0)\"" })
    }
    if (quantization["load_in_8bit"] ?? quantization["_load_in_8bit"]) == true {
      throw .unsupportedModel(
        path: path, field: "quantization_config.load_in_8bit", value: "true (weights in 8 bits)",
        supported: ["bitsandbytes' 4 bits", "fp8"])
    }
    let bits = quantization["load_in_4bit"] ?? quantization["_load_in_4bit"] ?? .null
    guard bits == true else {
      throw .unsupportedModel(
        path: path, field: "quantization_config.load_in_4bit", value: bits.text(), supported: ["true"])
    }
  }
}
