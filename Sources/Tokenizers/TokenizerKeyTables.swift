/// The decisions. A key of tokenizers 0.23, transformers 5.23 or sentencepiece 0.2 that has none fails a test.
extension TokenizerKeys {
  package static let all = [
    file, model, normalizer, preTokenizer, postProcessor, decoder, addedToken, config, sentencePiece, trainer,
    sentencePieceNormalizer,
  ]

  static let file = TokenizerKeys(
    "tokenizer.json",
    [
      Key("version", .harmless), Key("added_tokens"), Key("normalizer"), Key("pre_tokenizer"), Key("post_processor"),
      Key("decoder"), Key("model"),
      Key("truncation", .harmless, "transformers switches it off at each call too; samples are cut by `max_length`"),
      Key("padding", .harmless, "transformers switches it off at each call too; samples are packed, not padded"),
    ])

  static let model = TokenizerKeys(
    "tokenizer.json: model",
    [
      Key("type"), Key("vocab"), Key("merges"), Key("unk_token"), Key("fuse_unk"), Key("byte_fallback"),
      Key("ignore_merges"), Key("dropout", .only([nil, 0, 0.0]), "ids would be random"),
      Key("continuing_subword_prefix", .only([nil, ""])), Key("end_of_word_suffix", .only([nil, ""])),
    ])

  static let normalizer = TokenizerKeys(
    "tokenizer.json: normalizer",
    [
      Key("type"), Key("normalizers"), Key("prepend"), Key("pattern"), Key("content"), Key("strip_left"),
      Key("strip_right"),
    ])

  static let preTokenizer = TokenizerKeys(
    "tokenizer.json: pre_tokenizer",
    [
      Key("type"), Key("pretokenizers"), Key("add_prefix_space"), Key("use_regex"),
      Key("trim_offsets", .harmless, "offsets only"), Key("pattern"), Key("behavior"), Key("invert"),
      Key("individual_digits"), Key("replacement"), Key("prepend_scheme"), Key("split"),
      Key("str_rep", .harmless, "the replacement again, in old files"),
    ])

  static let postProcessor = TokenizerKeys(
    "tokenizer.json: post_processor",
    [
      Key("type"), Key("processors"), Key("single"), Key("special_tokens"),
      Key("pair", .harmless, "pairs of texts are never encoded"), Key("add_prefix_space", .harmless, "offsets only"),
      Key("trim_offsets", .harmless, "offsets only"), Key("use_regex", .harmless, "offsets only"),
    ])

  static let decoder = TokenizerKeys(
    "tokenizer.json: decoder",
    [
      Key("type"), Key("decoders"), Key("pattern"), Key("content"), Key("start"), Key("stop"), Key("replacement"),
      Key("prepend_scheme"), Key("add_prefix_space"), Key("split", .harmless, "no part of decoding"),
      Key("str_rep", .harmless, "the replacement again, in old files"),
      Key("trim_offsets", .harmless, "offsets only"), Key("use_regex", .harmless, "no part of decoding"),
    ])

  static let addedToken = TokenizerKeys(
    "Added tokens, in tokenizer.json and in added_tokens_decoder",
    [
      Key("id"), Key("content"), Key("special"), Key("normalized"), Key("single_word"), Key("lstrip"), Key("rstrip"),
      Key("__type", .harmless, "says that it is a token"),
    ])

  static let config = TokenizerKeys(
    "tokenizer_config.json and special_tokens_map.json",
    [
      Key("bos_token", .honoured, "must be in the vocabulary"),
      Key("eos_token", .honoured, "must be in the vocabulary"),
      Key("pad_token", .honoured, "must be in the vocabulary"),
      Key("unk_token", .honoured, "must be in the vocabulary"),
      Key("sep_token", .honoured, "a special token of the text"),
      Key("cls_token", .honoured, "a special token of the text"),
      Key("mask_token", .honoured, "a special token of the text"),
      Key("eot_token", .honoured, "a special token of the text"),
      Key("prefix_token", .honoured, "a special token of the text"),
      Key("middle_token", .honoured, "a special token of the text"),
      Key("suffix_token", .honoured, "a special token of the text"),
      Key("fill_token", .honoured, "a special token of the text"),
      Key("additional_special_tokens", .honoured, "special tokens of the text"),
      Key("extra_special_tokens", .honoured, "special tokens of the text"),
      Key("model_specific_special_tokens", .honoured, "special tokens of the text"),
      Key("added_tokens_decoder", .honoured, "with it, added_tokens.json and special_tokens_map.json are not read"),
      Key(
        "add_bos_token", .honoured,
        "with tokenizer.model; beside a tokenizer.json the post_processor decides, as in transformers 5"),
      Key(
        "add_eos_token", .honoured,
        "with tokenizer.model; beside a tokenizer.json the post_processor decides, as in transformers 5"),
      Key("add_prefix_space", .honoured, "for tokenizer.model; beside a tokenizer.json it must say the same"),
      Key("legacy", .honoured, "for tokenizer.model; false when absent. A tokenizer.json is as it says itself"),
      Key("split_special_tokens", .honoured, "special tokens in a text stay text"),
      Key("chat_template"), Key("tokenizer_class", .honoured, "decides how a tokenizer.model is read"),
      Key("do_lower_case", .only([nil, false])), Key("keep_accents", .only([nil, true])),
      Key("sp_model_kwargs", .only([nil, [:]]), "ids would be random"),
      Key("errors", .only([nil, "replace"]), "bytes that are no text become U+FFFD"),
      Key("fix_mistral_regex", .only([nil, false]), "would change the word pattern"),
      Key("tokenizer_truncation", .harmless, "as truncation in tokenizer.json"),
      Key("tokenizer_padding", .harmless, "as padding in tokenizer.json"),
      Key("clean_up_tokenization_spaces", .harmless, "text is never changed behind the ids' back"),
      Key(
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", .harmless,
        "as clean_up_tokenization_spaces"),
      Key("spaces_between_special_tokens", .harmless, "the decoder alone joins tokens"),
    ]
      + [
        "auto_map", "backend", "chat_control_tokens", "device_map", "extra_ids", "files_loaded", "from_slow",
        "gguf_file", "init_inputs", "is_local", "local_files_only", "max_len", "max_length", "merges", "merges_file",
        "model_input_names", "model_max_length", "name_or_path", "pad_to_multiple_of", "pad_token_type_id",
        "padding_side", "post_processor", "processor_class", "response_schema", "response_template",
        "return_token_type_ids", "special_tokens_map_file", "stride", "tokenizer", "tokenizer_file",
        "tokenizer_object", "truncation_side", "truncation_strategy", "trust_remote_code", "unk_id",
        "use_default_system_prompt", "use_fast", "verbose", "vocab", "vocab_file",
      ].map { Key($0, .harmless) }, isClosed: false)

  static let sentencePiece = TokenizerKeys(
    "tokenizer.model: ModelProto and its pieces",
    [
      Key("pieces"), Key("trainer_spec"), Key("normalizer_spec"), Key("piece"), Key("score"),
      Key("type", .honoured, "unused pieces are never made"),
      Key("self_test_data", .harmless), Key("denormalizer_spec.precompiled_charsmap", .refused, "unless empty"),
    ])

  static let trainer = TokenizerKeys(
    "tokenizer.model: trainer_spec",
    [
      Key("model_type", .only(["bpe"])), Key("byte_fallback"), Key("treat_whitespace_as_suffix", .only([false])),
      Key("unk_id", .harmless, "the type of the piece says it"), Key("bos_id", .harmless, "as unk_id"),
      Key("eos_id", .harmless, "as unk_id"), Key("pad_id", .harmless, "as unk_id"),
      Key("unk_piece", .harmless, "as unk_id"), Key("bos_piece", .harmless, "the control piece <s>"),
      Key("eos_piece", .harmless, "the control piece </s>"), Key("pad_piece", .harmless, "as unk_id"),
      Key("unk_surface", .harmless, "unknown tokens are spelled as their piece"),
    ]
      + [
        "accept_language", "allow_whitespace_only_pieces", "auto_character_coverage", "character_coverage",
        "control_symbols",
        "differential_privacy_clipping_threshold", "differential_privacy_noise_level",
        "enable_differential_privacy", "hard_vocab_limit", "input", "input_format", "input_sentence_size",
        "max_sentence_length", "max_sentencepiece_length", "mining_sentence_size", "model_prefix",
        "num_sub_iterations", "num_threads", "pretokenization_delimiter", "required_chars", "seed_sentencepiece_size",
        "seed_sentencepieces_file", "self_test_sample_size", "shrinking_factor", "shuffle_input_sentence",
        "split_by_number", "split_by_unicode_script", "split_by_whitespace", "split_digits",
        "train_extremely_large_corpus", "training_sentence_size", "use_all_vocab", "user_defined_symbols",
        "vocab_size", "vocabulary_output_piece_score",
      ].map { Key($0, .harmless, "of training; the pieces say what came of it") })

  static let sentencePieceNormalizer = TokenizerKeys(
    "tokenizer.model: normalizer_spec",
    [
      Key("name", .harmless, "the character map decides"),
      Key("precompiled_charsmap", .refused, "unless empty: nfkc, nmt_nfkc"),
      Key("add_dummy_prefix"), Key("remove_extra_whitespaces"), Key("escape_whitespaces", .only([true])),
      Key("normalization_rule_tsv", .harmless, "the source of the character map"),
    ])
}
