import Formats
import Foundation
import Testing

@testable import Models

/// Metadata of GGUF files acts as in llama.cpp, or is an error that names the key.
@Suite struct GGUFFieldTests {
  private func spec(
    _ architecture: String = "llama", _ changes: [String: GGUFBytes.Value] = [:], without: String? = nil,
    _ tensors: [(String, [UInt64], [Float])] = []
  ) throws -> DecoderSpec {
    var metadata: [String: GGUFBytes.Value] = [
      "general.architecture": .text(architecture), "tokenizer.ggml.eos_token_id": .integer(7),
    ]
    let sizes: [(String, UInt32)] = [
      ("embedding_length", 16), ("feed_forward_length", 24), ("block_count", 1), ("attention.head_count", 4),
      ("attention.head_count_kv", 2), ("context_length", 64), ("attention.key_length", 4),
    ]
    for (name, size) in sizes { metadata["\(architecture).\(name)"] = .integer(size) }
    metadata["\(architecture).attention.layer_norm_rms_epsilon"] = .float(1e-5)
    metadata.merge(changes) { $1 }
    if let without { metadata[without] = nil }
    return try withFolder { folder in
      let embedding = ("token_embd.weight", [16, 3] as [UInt64], [Float](repeating: 1, count: 48))
      try GGUFBytes.make(metadata, [embedding] + tensors).write(to: folder.appendingPathComponent("m.gguf"))
      return try DecoderSpec(gguf: GGUFFile(path: folder.path + "/m.gguf"))
    }
  }

  @Test func endsOfTurnsAndMessagesEndATextToo() throws {
    let ends = try spec(
      "llama", ["tokenizer.ggml.eot_token_id": .integer(9), "tokenizer.ggml.eom_token_id": .integer(11)])
    #expect(ends.eosTokenIDs == [7, 9, 11])
    let same = try spec("llama", ["tokenizer.ggml.eot_token_id": .integer(7)])
    #expect(same.eosTokenIDs == [7])
  }

  /// llama-vocab.cpp ends a text at tokens of these names, whatever the keys say.
  @Test func tokensThatLlamaCppEndsAtEndATextToo() throws {
    func ends(_ tokens: [String]) throws -> [Int] {
      try spec("llama", ["tokenizer.ggml.tokens": .texts(tokens)]).eosTokenIDs
    }
    #expect(try ends(["a", "<|endoftext|>", "b", "<|im_end|>"]) == [7, 1, 3])
    #expect(try ends(["<|eot_id|>", "<|end|>", "</s>"]) == [7, 0, 1, 2])
    // Of Harmony's tokens <|end|> ends a part only; where a tool answers, </s> is plain text.
    #expect(try ends(["<|end|>", "<|return|>", "<|call|>"]) == [7, 1, 2])
    #expect(try ends(["</s>", "<|tool_response>"]) == [7, 1])
    #expect(try ends(["a", "b", "c", "d", "e", "f", "g", "<|im_end|>"]) == [7])
  }

  @Test func unsupportedArchitecturesNameTheNearest() {
    let error = #expect(throws: FormatError.self) { try spec("deepseek2") }
    #expect(error?.description.contains("general.architecture deepseek2") ?? false)
    #expect(error?.description.contains("nearest that is: llama;") ?? false, "\(String(describing: error))")
  }

  /// llama-model.cpp: the type is linear unless said; `none` uses no factor; 0 is no factor; `scale_linear` is the
  /// older name.
  @Test func linearScalingAsLlamaCppReadsIt() throws {
    #expect(try spec("llama", ["llama.rope.scaling.factor": .float(4)]).rope.scaling == .linear(factor: 4))
    #expect(try spec("llama", ["llama.rope.scale_linear": .float(2)]).rope.scaling == .linear(factor: 2))
    #expect(try spec("llama", ["llama.rope.scaling.factor": .float(0)]).rope.scaling == .none)
    let none =
      ["llama.rope.scaling.type": .text("none"), "llama.rope.scaling.factor": .float(4)] as [String: GGUFBytes.Value]
    #expect(try spec("llama", none).rope.scaling == .none)
    let ones: (String, [UInt64], [Float]) = ("rope_freqs.weight", [2], [1, 1])
    #expect(try spec("llama", ["llama.rope.scaling.factor": .float(4)], [ones]).rope.scaling == .linear(factor: 4))
  }

  @Test func yarnAsTheConverterWritesIt() throws {
    func yarn(_ changes: [String: GGUFBytes.Value]) throws -> Rope.YaRN? {
      let own: [String: GGUFBytes.Value] = ["type": .text("yarn"), "factor": .float(4)]
      let keys = own.merging(changes) { $1 }
      let spec = try spec(
        "llama", Dictionary(uniqueKeysWithValues: keys.map { ("llama.rope.scaling." + $0.key, $0.value) }))
      guard case .yarn(let yarn) = spec.rope.scaling else { return nil }
      return yarn
    }
    let usual = 0.1 * log(4.0) + 1
    #expect(try yarn([:]) == Rope.YaRN(factor: 4, attentionFactor: usual, originalPositions: 64))
    let other = try yarn([
      "original_context_length": .integer(32), "yarn_beta_fast": .float(16), "yarn_beta_slow": .float(2),
      "yarn_attn_factor": .float(1.5), "yarn_ext_factor": .float(1),
    ])
    #expect(
      other == Rope.YaRN(factor: 4, attentionFactor: 1.5, betaFast: 16, betaSlow: 2, originalPositions: 32))
    // llama.cpp's own files say -1 for what it has not read.
    #expect(try yarn(["yarn_attn_factor": .float(1), "yarn_ext_factor": .float(-1)])?.attentionFactor == usual)
    #expect(try yarn(["attn_factor": .float(2)])?.attentionFactor == 2 * usual)
    #expect(try yarn(["yarn_log_multiplier": .float(1)])?.attentionFactor == 1)
    #expect(throws: FormatError.self) { try yarn(["yarn_ext_factor": .float(0.5)]) }
    #expect(throws: FormatError.self) { try yarn(["original_context_length": .text("4k")]) }
  }

  /// Phi-3's converter writes two tensors and no type.
  @Test func longropeIsInTwoTensors() throws {
    let short: (String, [UInt64], [Float]) = ("rope_factors_short.weight", [2], [1, 1.5])
    let long: (String, [UInt64], [Float]) = ("rope_factors_long.weight", [2], [2, 8])
    let keys: [String: GGUFBytes.Value] = [
      "llama.rope.scaling.attn_factor": .float(1.25), "llama.rope.scaling.original_context_length": .integer(16),
    ]
    let wanted = Rope.Scaling.longrope(
      Rope.LongRoPE(shortFactors: [1, 1.5], longFactors: [2, 8], attentionFactor: 1.25, originalPositions: 16))
    #expect(try spec("llama", keys, [short, long]).rope.scaling == wanted)
    let typed = keys.merging(["llama.rope.scaling.type": .text("longrope")]) { $1 }
    #expect(try spec("llama", typed, [short, long]).rope.scaling == wanted)
    #expect(throws: FormatError.self) { try spec("llama", typed) }
    #expect(throws: FormatError.self) { try spec("llama", keys, [long]) }
    #expect(throws: FormatError.self) {
      try spec("llama", keys, [("rope_factors_short.weight", [3], [1, 1, 1]), long])
    }
    let linear = keys.merging(["llama.rope.scaling.factor": .float(4)]) { $1 }
    #expect(throws: FormatError.self) { try spec("llama", linear, [short, long]) }
  }

  /// OLMo 3 carries OLMo 2's name; what tells them apart is the window. 0 is none.
  @Test func olmo3IsOLMo2WithWindows() throws {
    #expect(try spec("olmo2").modelType == "olmo2")
    #expect(try spec("olmo2", ["olmo2.attention.sliding_window": .integer(0)]).modelType == "olmo2")
    let windows: [String: GGUFBytes.Value] = ["olmo2.attention.sliding_window": .integer(8)]
    let usual = try spec("olmo2", windows.merging(["olmo2.block_count": .integer(8)]) { $1 })
    #expect(usual.modelType == "olmo3" && usual.layers.map(\.window) == [8, 8, 8, nil, 8, 8, 8, nil])
    let other = try spec("olmo2", windows.merging(["olmo2.rope.freq_base_swa": .float(500)]) { $1 })
    #expect(other.layers[0].rotation == .own(Rope(theta: 500)))
    #expect(throws: FormatError.self) {
      try spec("olmo2", windows.merging(["olmo2.attention.sliding_window_pattern": .bools([true, false])]) { $1 })
    }
  }

  /// llama.cpp's load_swa_pattern takes a flag for each layer or the interval of layers without a window; what the
  /// families have without either is in their files there.
  @Test(
    arguments: [
      ("gemma2", 2, [:]), ("gemma3", 6, [:]), ("olmo2", 4, [:]),
      ("gpt-oss", 2, ["gpt-oss.expert_count": .integer(2), "gpt-oss.expert_used_count": .integer(1)]),
    ] as [(String, Int, [String: GGUFBytes.Value])])
  func thePatternOfWindowsIsAnIntervalOrAList(architecture: String, usual: Int, others: [String: GGUFBytes.Value])
    throws
  {
    func windows(_ pattern: GGUFBytes.Value?) throws -> [Bool] {
      var changes = others
      changes[architecture + ".block_count"] = .integer(12)
      changes[architecture + ".attention.sliding_window"] = .integer(8)
      changes[architecture + ".attention.sliding_window_pattern"] = pattern
      return try spec(architecture, changes).layers.map { $0.window == 8 }
    }
    func every(_ interval: Int) -> [Bool] { (1...12).map { $0 % interval != 0 } }
    #expect(try windows(nil) == every(usual))
    #expect(try windows(.integer(UInt32(usual))) == every(usual))
    #expect(try windows(.integer(3)) == every(3))
    #expect(try windows(.integer(1)) == every(1))
    #expect(try windows(.integer(0)).allSatisfy { $0 })
    let list = (0..<12).map { $0 == 4 }
    #expect(try windows(.bools(list)) == list)
    for bad in [.bools([true]), .float(2), .text("six")] as [GGUFBytes.Value] {
      let error = #expect(throws: FormatError.self) { try windows(bad) }
      let said = error?.description ?? ""
      #expect(said.contains("\(architecture).attention.sliding_window_pattern"), "\(said)")
      #expect(said.contains("each of 12"), "\(said)")
    }
  }

  @Test func scalesOfZeroAreNone() throws {
    let granite = try spec("granite", ["granite.attention.scale": .float(0), "granite.logit_scale": .float(8)])
    #expect(granite.attentionScale == nil && granite.logitScale == 0.125)
  }

  @Test(
    arguments: [
      ("llama.attention.sliding_window", .integer(16)), ("llama.logit_scale", .float(8)),
      ("llama.attention.scale", .float(0.5)), ("llama.final_logit_softcapping", .float(30)),
      ("llama.attention.value_length", .integer(8)), ("llama.vocab_size", .integer(4)), ("split.count", .integer(2)),
      ("general.type", .text("adapter")), ("llama.attention.clamp_kqv", .float(8)), ("llama.something", .integer(1)),
      ("llama.attention.head_count_kv", .text("two")), ("llama.rope.freq_base", .text("high")),
      ("llama.rope.freq_base", .float(0)),
      ("llama.expert_used_count", .integer(2)),
      ("llama.rope.scaling.attn_factor", .float(2)), ("llama.rope.scaling.factor", .float(-1)),
      ("tokenizer.ggml.eos_token_id", .text("</s>")), ("llama.rope.dimension_count", .integer(2)),
    ] as [(String, GGUFBytes.Value)]) func whatIsNotComputedIsRefusedByName(key: String, value: GGUFBytes.Value)
  {
    let error = #expect(throws: FormatError.self) { try spec("llama", [key: value]) }
    let last = key.split(separator: ".").last.map(String.init) ?? key
    let said = error?.description ?? ""
    #expect(said.contains(last) || said.contains("rope_theta"), "\(said)")
  }

  /// Also where config.json has the number under another name.
  @Test(
    arguments: [
      ("attention.head_count_kv", .integer(0), "llama.attention.head_count_kv is 0, expected 1 to 4"),
      (
        "attention.head_count_kv", .integer(3),
        "llama.attention.head_count is 4, expected a multiple of llama.attention.head_count_kv (3)"
      ),
      ("attention.head_count", .integer(0), "llama.attention.head_count is 0, expected at least 1"),
      ("attention.value_length", .integer(8), "llama.attention.value_length 8 is not supported"),
      ("attention.layer_norm_rms_epsilon", .float(2), "llama.attention.layer_norm_rms_epsilon is 2.0, expected"),
      ("block_count", .integer(5000), "llama.block_count is 5000, expected 1 to 4096"),
      ("context_length", .integer(0), "llama.context_length is 0, expected 1 to"),
      ("embedding_length", .integer(0), "llama.embedding_length is 0, expected 1 to"),
      ("rope.freq_base", .float(-1), "llama.rope.freq_base is -1.0, expected 1e-38 to 1e38"),
      ("rope.scaling.type", .text("dynamic"), "llama.rope.scaling.type dynamic is not supported"),
      ("expert_count", .integer(2), "llama.expert_used_count is absent"),
    ] as [(String, GGUFBytes.Value, String)])
  func errorsNameKeysOfTheFile(key: String, value: GGUFBytes.Value, wanted: String) {
    let error = #expect(throws: FormatError.self) { try spec("llama", ["llama." + key: value]) }
    #expect(error?.description.contains(wanted) ?? false, "\(String(describing: error))")
  }

  @Test func errorsOfFamiliesNameKeysOfTheFileToo() {
    func said(_ architecture: String, _ changes: [String: GGUFBytes.Value]) -> String {
      let prefixed = changes.map { ("\(architecture).\($0.key)", $0.value) }
      let error = #expect(throws: FormatError.self) {
        try spec(architecture, Dictionary(uniqueKeysWithValues: prefixed))
      }
      return error?.description ?? ""
    }
    let logits = said("granite", ["logit_scale": .float(-1)])
    #expect(logits.contains("granite.logit_scale is -1.0, expected 1e-38 to 1e38"), "\(logits)")
    let experts = said("olmoe", ["expert_count": .integer(4), "expert_used_count": .integer(5)])
    #expect(experts.contains("olmoe.expert_used_count is 5, expected 1 to 4"), "\(experts)")
    let delta: [String: GGUFBytes.Value] = [
      "ssm.inner_size": .integer(16), "ssm.group_count": .integer(2), "ssm.time_step_rank": .integer(3),
      "ssm.state_size": .integer(4), "ssm.conv_kernel": .integer(4),
    ]
    let inner = said("qwen35", delta)
    #expect(
      inner.contains("qwen35.ssm.inner_size is 16, expected a multiple of qwen35.ssm.time_step_rank (3)"), "\(inner)")
    let heads = said("qwen35", delta.merging(["ssm.inner_size": .integer(15)]) { $1 })
    #expect(
      heads.contains("qwen35.ssm.time_step_rank is 3, expected a multiple of qwen35.ssm.group_count (2)"), "\(heads)")
    let interval = said(
      "qwen35", delta.merging(["ssm.time_step_rank": .integer(2), "full_attention_interval": .integer(0)]) { $1 })
    #expect(interval.contains("qwen35.full_attention_interval is 0, expected at least 1"), "\(interval)")
  }

  /// The parts behind the first have no other key.
  @Test func aPartOfSeveralIsToldFromAModel() {
    let error = #expect(throws: FormatError.self) {
      try spec("llama", ["split.count": .integer(3), "split.no": .integer(1)], without: "general.architecture")
    }
    let said = error?.description ?? ""
    for part in ["split.count is 3", "this is part 2", "llama-gguf-split"] { #expect(said.contains(part), "\(said)") }
  }

  @Test(arguments: ["rope.freq_base", "rope.scaling.factor", "attention.layer_norm_rms_epsilon"])
  func numbersAreFinite(name: String) {
    for value in [Float.nan, .infinity, -.infinity] {
      let error = #expect(throws: FormatError.self) { try spec("llama", ["llama." + name: .float(value)]) }
      guard case .badField(_, "llama." + name, _, "a finite number")? = error else {
        Issue.record("\(name) = \(value): \(String(describing: error))")
        continue
      }
    }
  }

  @Test func whatLlamaCppRequiresIsRequired() {
    for key in ["llama.attention.layer_norm_rms_epsilon", "llama.context_length", "llama.embedding_length"] {
      #expect(throws: FormatError.self, "\(key)") { try spec("llama", without: key) }
    }
  }

  @Test func tensorsWithoutAModuleAreNamed() throws {
    try withFolder { folder in
      let path = folder.path + "/m.gguf"
      let embedding = ("token_embd.weight", [16, 3] as [UInt64], [Float](repeating: 1, count: 48))
      let stranger = ("rope_factors_long.weight", [2] as [UInt64], [1, 1] as [Float])
      try GGUFBytes.make(["general.architecture": .text("llama")], [embedding, stranger]).write(
        to: folder.appendingPathComponent("m.gguf"))
      let source = try WeightSource(gguf: GGUFFile(path: path), layout: Families.layout)
      #expect(source.strangers == ["rope_factors_long.weight"])
    }
  }
}
