import Formats
import Foundation
import Tensors
import Testing

@testable import Models

/// Parameters that the hub counts in the safetensors files of published models: of Gemma 3 from 4b on less those of the
/// images' part (416 866 032 of the tower, and the projection).
private let parameters: [(name: String, count: Int)] = [
  ("phi-3-mini-4k", 3_821_079_552), ("phi-3-medium-4k", 13_960_238_080), ("phi-4", 14_659_507_200),
  ("gemma-2-2b", 2_614_341_888), ("gemma-2-9b-it", 9_241_705_984), ("gemma-2-27b", 27_227_128_320),
  ("gemma-3-270m", 268_098_176), ("gemma-3-1b-it", 999_885_952), ("gemma-3-4b-pt", 3_880_263_168),
  ("gemma-3-12b-it", 11_766_034_176), ("gemma-3-27b-it", 27_009_346_304),
  ("pythia-14m", 14_067_712), ("pythia-70m", 70_426_624), ("pythia-160m", 162_322_944),
  ("pythia-410m-deduped", 405_334_016), ("pythia-1b", 1_011_781_632), ("pythia-1.4b", 1_414_647_808),
  ("pythia-2.8b", 2_775_208_960), ("pythia-6.9b", 6_857_302_016), ("pythia-12b", 11_846_072_320),
]

/// config.json as the authors of published models wrote it, with keys that say nothing and keys of old versions.
@Suite struct PublishedConfigTests {
  private static let factors = JSON.array((0..<48).map { .number(1 + Double($0) / 8) })

  private static let phi: JSON = [
    "_name_or_path": "Phi-3-mini-128k-instruct", "architectures": ["Phi3ForCausalLM"], "attention_bias": false,
    "attention_dropout": 0.0, "auto_map": ["AutoConfig": "configuration_phi3.Phi3Config"], "bos_token_id": 1,
    "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072, "initializer_range": 0.02,
    "intermediate_size": 8192, "max_position_embeddings": 131072, "model_type": "phi3", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "original_max_position_embeddings": 4096,
    "pad_token_id": 32000, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05,
    "rope_scaling": ["long_factor": factors, "short_factor": factors, "type": "su"], "rope_theta": 10000.0,
    "sliding_window": 262144, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true,
    "vocab_size": 32064,
  ]

  private func read(_ json: JSON, _ changes: [(String, JSON)] = []) throws -> DecoderSpec {
    var members = json.object ?? JSONObject()
    for (key, value) in changes { members[key] = value }
    let spec = try DecoderSpec(json: .object(members), path: "config.json")
    #expect(try DecoderSpec(json: spec.toJSON(), path: "again") == spec.whole)
    return spec
  }

  @Test(arguments: parameters) func knownModelsHaveThePublishedSize(name: String, count: Int) throws {
    let modules = ModuleTree(try #require(try DecoderSpec.known(name: name))).modules
    #expect(modules.reduce(0) { $0 + $1.parameterCount } == count)
  }

  @Test func phi() throws {
    let spec = try read(Self.phi)
    #expect(spec.headDimension == 96 && spec.layers.allSatisfy { $0.window == 262144 })
    guard case .longrope(let long) = spec.rope.scaling else {
      Issue.record("\(spec.rope.scaling)")
      return
    }
    #expect(long.originalPositions == 4096 && long.longFactors.count == 48)
    #expect(spec.modules.all.map(\.name).contains("self_attn.qkv_proj"))
    #expect(spec.size(.queriesKeysAndValues) == 3 * 3072 && spec.size(.gateAndUp) == 16384)

    // Phi-4 mini: a part of each head turns, and keys that transformers does not read.
    let mini = try read(
      Self.phi,
      [
        ("full_attn_mod", 1), ("interpolate_factor", 1), ("lm_head_bias", false), ("mlp_bias", false),
        ("num_attention_heads", 24), ("num_key_value_heads", 8), ("partial_rotary_factor", 0.75),
        ("tie_word_embeddings", true),
        ("rope_scaling", ["long_factor": Self.factors, "short_factor": Self.factors, "type": "longrope"]),
      ])
    #expect(mini.rope.width(headDimension: mini.headDimension) == 96 && mini.size(.queriesKeysAndValues) == 5120)
    for (key, value) in [
      ("full_attn_mod", 2), ("interpolate_factor", 2), ("attention_bias", true),
      ("rope_scaling", ["rope_type": "linear", "factor": 2.0]),
    ] as [(String, JSON)] {
      #expect(throws: FormatError.self, "\(key)") { try read(Self.phi, [(key, value)]) }
    }
  }

  @Test func gemma2() throws {
    let json: JSON = [
      "architectures": ["Gemma2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
      "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 107],
      "final_logit_softcapping": 30.0, "head_dim": 128, "hidden_act": "gelu_pytorch_tanh",
      "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 4608, "initializer_range": 0.02,
      "intermediate_size": 36864, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 32,
      "num_hidden_layers": 46, "num_key_value_heads": 16, "pad_token_id": 0, "query_pre_attn_scalar": 144,
      "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "sliding_window_size": 4096,
      "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 256000,
    ]
    let spec = try read(json)
    #expect(spec.queryKeyScale == 1 / 12 && spec.scoreCap == 50 && spec.logitCap == 30 && spec.tiesEmbeddings)
    #expect(spec.layers.map { $0.window != nil } == (0..<46).map { $0 % 2 == 0 })
    #expect(spec.embeddingScale == Double(4608).squareRoot() && spec.eosTokenIDs == [1, 107])
    let free = try read(json, [("attn_logit_softcapping", .null), ("final_logit_softcapping", .null)])
    #expect(free.scoreCap == nil && free.logitCap == nil)
    for (key, value) in [
      ("query_pre_attn_scalar", 0), ("query_pre_attn_scalar", 1e300), ("query_pre_attn_scalar", 0.5),
      ("attn_logit_softcapping", -1), ("final_logit_softcapping", "a"),
      ("hidden_activation", "gelu"), ("sliding_window", .null), ("use_bidirectional_attention", true),
    ] as [(String, JSON)] {
      let error = #expect(throws: FormatError.self, "\(key)") { try read(json, [(key, value)]) }
      #expect(error?.description.contains(key) ?? false)
    }
  }

  /// The file of a multimodal model leaves out what the class of its text model has.
  @Test func gemma3() throws {
    let json: JSON = [
      "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999, "eoi_token_index": 256000,
      "eos_token_id": [1, 106], "image_token_index": 262144, "initializer_range": 0.02, "mm_tokens_per_image": 256,
      "model_type": "gemma3",
      "text_config": [
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": ["factor": 8.0, "rope_type": "linear"], "sliding_window": 1024,
      ],
      "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0",
      "vision_config": ["hidden_size": 1152, "model_type": "siglip_vision_model", "vision_use_head": false],
    ]
    let spec = try read(json)
    #expect(spec.modelType == "gemma3_text" && spec.vocabularySize == 262208 && spec.headCount == 8)
    #expect(spec.keyValueHeadCount == 4 && spec.headDimension == 256 && spec.eosTokenIDs == [1, 106])
    #expect(spec.storedType == "bfloat16" && spec.bosTokenID == 2 && spec.maxPositions == 131072)
    #expect(spec.layers.map { $0.window != nil } == (0..<34).map { ($0 + 1) % 6 != 0 })
    #expect(spec.ropes.count == 2 && spec.rope.theta == 1e6 && spec.rope.scaling == .linear(factor: 8))
    #expect(spec.layers[0].rotation == .own(Rope(theta: 10000)) && spec.layers[5].rotation == .model)
    #expect(spec.outerNames.layers == "model.language_model.layers." && spec.isPart && !spec.whole.isPart)
    var unnamed = json["text_config"]?.object ?? JSONObject()
    unnamed["model_type"] = nil
    #expect(try read(json, [("text_config", .object(unnamed))]) == spec)
    for text in [.null, [], ["model_type": "llama"], ["model_type": "gemma3_text", "qk_norm": true]] as [JSON] {
      #expect(throws: FormatError.self) { try read(json, [("text_config", text)]) }
    }

    let small = try read(
      [
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "attn_logit_softcapping": .null, "bos_token_id": 2, "cache_implementation": "hybrid",
        "eos_token_id": [1, 106], "final_logit_softcapping": .null, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "initializer_range": 0.02,
        "intermediate_size": 6912, "max_position_embeddings": 32768, "model_type": "gemma3_text",
        "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1, "pad_token_id": 0,
        "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000, "rope_scaling": .null,
        "rope_theta": 1_000_000, "sliding_window": 512, "sliding_window_pattern": 6, "torch_dtype": "bfloat16",
        "use_cache": true, "vocab_size": 262144,
      ])
    #expect(small.layers.filter { $0.window == 512 }.count == 22 && small.rope.scaling == .none && !small.isPart)
  }

  /// transformers 5.23 takes token ids and dtype from outside where they are there, and ties by the outer key alone;
  /// its own save_pretrained leaves another one inside.
  @Test func theWholeGoesBeforeItsTextModel() throws {
    let gemma: JSON = [
      "model_type": "gemma3",
      "text_config": [
        "model_type": "gemma3_text", "bos_token_id": 3, "eos_token_id": 1, "tie_word_embeddings": false,
        "dtype": "float16",
      ],
    ]
    let inner = try read(gemma)
    #expect(inner.bosTokenID == 3 && inner.eosTokenIDs == [1] && inner.storedType == "float16" && inner.tiesEmbeddings)
    let outer = try read(
      gemma,
      [
        ("bos_token_id", .null), ("eos_token_id", [1, 34]), ("torch_dtype", "bfloat16"), ("tie_word_embeddings", false),
      ])
    #expect(outer.bosTokenID == 3 && outer.eosTokenIDs == [1, 34] && outer.storedType == "bfloat16")
    #expect(!outer.tiesEmbeddings)
    #expect(try read(gemma, [("tie_word_embeddings", true)]).tiesEmbeddings)
    for type in ["qwen3_5", "qwen3_5_moe"] {
      let qwen: JSON = ["model_type": .string(type), "text_config": ["tie_word_embeddings": false]]
      #expect(try read(qwen, [("tie_word_embeddings", true)]).tiesEmbeddings)
      #expect(try !read(qwen, [("text_config", ["tie_word_embeddings": true])]).tiesEmbeddings)
    }
    let none = DecoderSpec.withoutTokens(["model_type": "gemma3", "text_config": ["model_type": "gemma3_text"]])
    let silent = try read(none)
    #expect(silent.bosTokenID == nil && silent.eosTokenIDs.isEmpty && silent.padTokenID == nil)
  }

  @Test func pythiaAndNeoX() throws {
    let json: JSON = [
      "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu",
      "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
      "max_position_embeddings": 2048, "model_type": "gpt_neox", "num_attention_heads": 12, "num_hidden_layers": 12,
      "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": false, "torch_dtype": "float16",
      "transformers_version": "4.24.0", "use_cache": true, "use_parallel_residual": true, "vocab_size": 50304,
    ]
    let spec = try read(json)
    #expect(
      spec.isParallel && spec.activation == .gelu && spec.normalization == Normalization(form: .layer, epsilon: 1e-5))
    #expect(spec.rope.width(headDimension: 64) == 16 && spec.modules.all.filter(\.hasBias).count == 4)
    let old = try read(
      json,
      [
        ("hidden_act", "gelu_fast"), ("use_parallel_residual", false), ("rotary_pct", 1.0), ("rotary_emb_base", 500),
        ("attention_probs_dropout_prob", 0), ("hidden_dropout_prob", 0), ("attention_bias", false),
        ("layer_norm_eps", 1e-3),
      ])
    #expect(old.activation == .geluTanh && !old.isParallel && old.rope == Rope(theta: 500) && old.normEpsilon == 1e-3)
    #expect(old.modules.all.filter(\.hasBias).count == 2)
    for (key, value) in [
      ("hidden_act", "relu"), ("rms_norm_eps", 1e-6), ("head_dim", 32), ("num_key_value_heads", 4),
      ("rope_theta", 700), ("rotary_pct", 2.0), ("rotary_pct", 0), ("use_parallel_residual", "yes"),
    ] as [(String, JSON)] {
      #expect(throws: FormatError.self, "\(key)") { try read(json, [(key, value)]) }
    }
  }
}
