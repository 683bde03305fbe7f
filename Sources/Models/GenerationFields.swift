import Formats

/// generation_config.json of a model folder. transformers takes the end tokens of generation from it; the other fields
/// are options of its `generate`.
package enum GenerationFields {
  package static let table = FieldTable(
    [
      FieldTable.Row(["eos_token_id"], .nullable),
      FieldTable.Row(
        ["bos_token_id", "pad_token_id", "decoder_start_token_id"],
        .harmless("config.json and the tokenizer name them; batches here have no padding")),
      FieldTable.Row(
        ["_from_model_config", "transformers_version", "_name_or_path"], .harmless("notes about the file")),
      FieldTable.Row(
        [
          "use_cache", "cache_implementation", "cache_config", "max_cache_len", "use_mtp", "prefill_chunk_size",
          "compile_config", "disable_compile", "continuous_batching_config", "low_memory", "return_legacy_cache",
        ], .harmless("how transformers computes the same tokens")),
      FieldTable.Row(
        [
          "output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate",
          "num_return_sequences",
        ], .harmless("what transformers returns besides the tokens")),
      FieldTable.Row(
        [
          "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
          "prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit", "assistant_lookbehind",
          "target_lookbehind", "assistant_ensemble_weight", "speculation_type",
        ], .harmless("a second model that guesses ahead")),
      FieldTable.Row(
        ["max_length", "max_new_tokens", "min_length", "min_new_tokens", "max_time"],
        .harmless("model:generate is told how long a text may be")),
      FieldTable.Row(["do_sample"], .said([.null, false], option)),
      FieldTable.Row(
        [
          "temperature", "top_p", "typical_p", "repetition_penalty", "encoder_repetition_penalty", "length_penalty",
          "guidance_scale",
        ], .said([.null, 1], option)),
      FieldTable.Row(["top_k"], .said([.null, 0, 50], option)),
      FieldTable.Row(["num_beams", "num_beam_groups"], .said([.null, 1], option)),
      FieldTable.Row(
        [
          "min_p", "top_h", "epsilon_cutoff", "eta_cutoff", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
          "diversity_penalty", "penalty_alpha",
        ], .said([.null, 0], option)),
      FieldTable.Row(
        [
          "early_stopping", "renormalize_logits", "remove_invalid_values", "token_healing",
        ], .said([.null, false], option)),
      FieldTable.Row(
        [
          "stop_strings", "bad_words_ids", "force_words_ids", "constraints", "forced_bos_token_id",
          "forced_eos_token_id", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
          "sequence_bias", "watermarking_config", "dola_layers", "forced_decoder_ids",
        ], .said([.null, []], option)),
    ], unknown: .said(except: []))

  private static let option = "an option of transformers' generate; model:generate does what its own options say"

  /// Reads the file of a folder, if it has one.
  /// - Returns: the end tokens it names, and what is to be said about it.
  /// - Throws: `json`, `system`, `badField`.
  static func read(folder: String) throws(FormatError) -> (endTokens: [Int], said: [String]) {
    let path = folder + "/" + FileName.generationConfig
    guard FileSystem.exists(path) else { return ([], []) }
    let json = try JSON.read(path: path)
    guard json.object != nil else {
      throw .badField(path: path, field: "the file", value: json.text(), expected: "an object")
    }
    let said = try table.check(json, path: path)
    return (try ConfigFields(json: json, path: path).tokenIDs("eos_token_id"), said)
  }
}
