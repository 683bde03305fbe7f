import Formats
import Foundation
import Testing

@testable import Models

/// Parameters of published models: the totals that the hub counts in their safetensors files, of a tied model with one
/// embedding; of Gemma 3 without its image part. Looked up 2026-11-29. Those of Qwen3.5 and Qwen3-Next, which the hub
/// counts with images and the layers that predict ahead, are what transformers' text model of the published sizes has.
private let parameters: [(names: [String], count: Int)] = [
  (["llama-7b", "llama-2-7b", "vicuna-7b-v1.5", "open_llama_7b", "open_llama_7b_v2"], 6_738_415_616),
  (["llama-13b", "llama-2-13b", "vicuna-13b-v1.5", "open_llama_13b"], 13_015_864_320),
  (["llama-30b", "llama-33b"], 32_528_943_616), (["llama-65b"], 65_285_660_672),
  (["llama-2-70b"], 68_976_648_192), (["tinyllama-1.1b-v1.0"], 1_100_048_384),
  (["open_llama_3b", "open_llama_3b_v2"], 3_426_473_600),
  (["llama-3-8b", "llama-3.1-8b", "hermes-3-llama-3.1-8b", "deepseek-r1-distill-llama-8b"], 8_030_261_248),
  (["llama-3-70b", "llama-3.1-70b", "llama-3.3-70b", "deepseek-r1-distill-llama-70b"], 70_553_706_496),
  (["llama-3.1-405b"], 405_853_388_800), (["llama-3.2-1b"], 1_235_814_400), (["llama-3.2-3b"], 3_212_749_824),
  (["codellama-7b"], 6_738_546_688), (["codellama-13b"], 13_016_028_160), (["codellama-34b"], 33_743_970_304),
  (["yi-6b", "yi-1.5-6b"], 6_061_035_520), (["yi-1.5-9b"], 8_829_407_232),
  (["yi-34b", "yi-1.5-34b"], 34_388_917_248),
  (["falcon3-1b"], 1_669_408_768), (["falcon3-3b"], 3_227_655_168), (["falcon3-7b"], 7_455_550_464),
  (["falcon3-10b"], 10_305_653_760),
  (["smollm-135m", "smollm2-135m"], 134_515_008), (["smollm-360m", "smollm2-360m"], 361_821_120),
  (["smollm-1.7b", "smollm2-1.7b"], 1_711_376_384), (["smollm3-3b"], 3_075_098_624),
  (["mistral-7b-v0.1", "mistral-7b-v0.2", "zephyr-7b-beta"], 7_241_732_096),
  (["mistral-7b-v0.3", "mathstral-7b-v0.1"], 7_248_023_552), (["mistral-nemo-2407"], 12_247_782_400),
  (["mistral-small-24b-2501"], 23_572_403_200), (["mistral-small-2409", "codestral-22b-v0.1"], 22_247_282_688),
  (["mistral-large-2407"], 122_610_069_504), (["ministral-8b-2410"], 8_019_808_256),
  (["qwen2-0.5b", "qwen2.5-0.5b", "qwen2.5-coder-0.5b"], 494_032_768),
  (["qwen2-1.5b", "qwen2.5-1.5b", "qwen2.5-coder-1.5b", "qwen2.5-math-1.5b"], 1_543_714_304),
  (["qwen2.5-3b", "qwen2.5-coder-3b"], 3_085_938_688),
  (
    ["qwen2-7b", "qwen2.5-7b", "qwen2.5-coder-7b", "qwen2.5-math-7b", "deepseek-r1-distill-qwen-7b"], 7_615_616_512
  ),
  (["qwen2.5-14b", "qwen2.5-coder-14b", "deepseek-r1-distill-qwen-14b"], 14_770_033_664),
  (["qwen2.5-32b", "qwen2.5-coder-32b", "deepseek-r1-distill-qwen-32b", "qwq-32b"], 32_763_876_352),
  (["qwen2-72b", "qwen2.5-72b", "qwen2.5-math-72b"], 72_706_203_648),
  (["deepseek-r1-distill-qwen-1.5b"], 1_777_088_000),
  (["qwen3-0.6b"], 596_049_920), (["qwen3-1.7b"], 1_720_574_976),
  (["qwen3-4b", "qwen3-4b-2507", "qwen3-4b-thinking-2507"], 4_022_468_096), (["qwen3-8b"], 8_190_735_360),
  (["qwen3-14b"], 14_768_307_200), (["qwen3-32b"], 32_762_123_264),
  (["granite-3.0-2b", "granite-3.1-2b", "granite-3.2-2b"], 2_533_531_648), (["granite-3.3-2b"], 2_533_539_840),
  (["granite-3.0-8b", "granite-3.1-8b", "granite-3.2-8b"], 8_170_848_256), (["granite-3.3-8b"], 8_170_864_640),
  (["olmo-2-0425-1b"], 1_484_916_736), (["olmo-2-1124-7b"], 7_298_617_344), (["olmo-2-1124-13b"], 13_716_198_400),
  (["olmo-2-0325-32b"], 32_234_279_936),
  (["olmo-3-1025-7b", "olmo-3-7b", "olmo-3-7b-think"], 7_298_011_136),
  (["olmo-3-1125-32b", "olmo-3-32b-think"], 32_233_522_176),
  (["gemma-2b", "gemma-2b-it", "gemma-1.1-2b-it"], 2_506_172_416),
  (["gemma-7b", "gemma-7b-it", "gemma-1.1-7b-it"], 8_537_680_896),
  (["gemma-2-2b", "gemma-2-2b-it"], 2_614_341_888),
  (["gemma-2-9b", "gemma-2-9b-it"], 9_241_705_984),
  (["gemma-2-27b", "gemma-2-27b-it"], 27_227_128_320),
  (["gemma-3-270m", "gemma-3-270m-it", "gemma-3-270m-pt"], 268_098_176),
  (["gemma-3-1b", "gemma-3-1b-it", "gemma-3-1b-pt"], 999_885_952),
  (["gemma-3-4b", "gemma-3-4b-it", "gemma-3-4b-pt"], 3_880_263_168),
  (["gemma-3-12b", "gemma-3-12b-it", "gemma-3-12b-pt"], 11_766_034_176),
  (["gemma-3-27b", "gemma-3-27b-it", "gemma-3-27b-pt"], 27_009_346_304),
  (["phi-3-mini-4k"], 3_821_079_552),
  (["phi-3-medium-4k"], 13_960_238_080),
  (["phi-4"], 14_659_507_200),
  (["mixtral-8x7b-v0.1"], 46_702_792_704), (["mixtral-8x22b-v0.1"], 140_620_634_112),
  // Of their model card; the hub counts bytes of blocks.
  (["gpt-oss-20b"], 20_914_757_184), (["gpt-oss-120b"], 116_829_156_672),
  (["olmoe-1b-7b-0924", "olmoe-1b-7b-0125"], 6_919_161_856),
  (["qwen3-30b-a3b", "qwen3-30b-a3b-2507", "qwen3-30b-a3b-thinking-2507", "qwen3-coder-30b-a3b"], 30_532_122_624),
  (["qwen3-235b-a22b"], 235_093_634_560),
  (["qwen3-next-80b-a3b", "qwen3-next-80b-a3b-thinking"], 79_674_391_296),
  (["qwen3.5-35b-a3b"], 34_660_610_688),
  (["qwen3.5-0.8b"], 752_393_024), (["qwen3.5-2b"], 1_881_825_088), (["qwen3.5-4b"], 4_205_751_296),
  (["qwen3.5-9b"], 8_953_803_264), (["qwen3.5-27b"], 26_895_998_464),
  (["pythia-14m", "pythia-14m-deduped"], 14_067_712),
  (["pythia-70m", "pythia-70m-deduped"], 70_426_624),
  (["pythia-160m", "pythia-160m-deduped"], 162_322_944),
  (["pythia-410m", "pythia-410m-deduped"], 405_334_016),
  (["pythia-1b", "pythia-1b-deduped"], 1_011_781_632),
  (["pythia-1.4b", "pythia-1.4b-deduped"], 1_414_647_808),
  (["pythia-2.8b", "pythia-2.8b-deduped"], 2_775_208_960),
  (["pythia-6.9b", "pythia-6.9b-deduped"], 6_857_302_016),
  (["pythia-12b", "pythia-12b-deduped"], 11_846_072_320),
]

@Suite struct PublishedModelsTests {
  @Test(arguments: parameters.flatMap { entry in entry.names.map { ($0, entry.count) } })
  func knownModelsHaveThePublishedSize(name: String, count: Int) throws {
    let modules = ModuleTree(try #require(try DecoderSpec.known(name: name))).modules
    #expect(modules.reduce(0) { $0 + $1.parameterCount } == count)
  }

  @Test func everyNameHasItsSize() {
    let names = parameters.flatMap(\.names)
    #expect(Set(names) == Set(Families.publishedNames))
    #expect(names.count >= 100)
  }

  /// A recipe may change a config and write a model of it, and Lua has one empty table for lists and objects.
  @Test func noConfigHasAnEmptyList() throws {
    for name in Families.publishedNames {
      let members = try #require(try DecoderSpec.known(name: name)?.toJSON().object)
      for (key, value) in zip(members.keys, members.values) {
        #expect(value != [] && value != [:], "\(key) of \(name)")
      }
    }
  }

  /// As their pages on the hub are called.
  @Test(arguments: [
    "meta-llama/Llama-3.1-405B-Instruct", "mistralai/Mistral-Nemo-Instruct-2407", "mistralai/Mistral-Nemo-Base-2407",
    "mistralai/Mistral-Small-24B-Instruct-2501", "mistralai/Mistral-Small-Instruct-2409",
    "mistralai/Ministral-8B-Instruct-2410", "Qwen/Qwen2.5-Coder-7B-Instruct", "Qwen/Qwen2.5-Math-7B", "Qwen/QwQ-32B",
    "Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-8B-Base", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "01-ai/Yi-1.5-9B-Chat", "ibm-granite/granite-3.3-8b-instruct",
    "allenai/OLMo-2-0325-32B-Instruct", "allenai/Olmo-3-7B-Instruct", "allenai/Olmo-3-1125-32B",
    "tiiuae/Falcon3-7B-Base", "codellama/CodeLlama-7b-Instruct-hf", "NousResearch/Hermes-3-Llama-3.1-8B",
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "meta-llama/Llama-2-7b-chat-hf", "HuggingFaceTB/SmolLM3-3B-Base",
    "Qwen/Qwen3.5-4B-Base",
  ]) func hubNamesAreKnown(name: String) throws { #expect(try DecoderSpec.known(name: name) != nil) }

  @Test func theDocumentationListsThem() throws {
    let path = SmolLM2.root.appendingPathComponent("docs/planner.md")
    let text = try String(contentsOf: path, encoding: .utf8)
    let missing = Families.publishedNames.filter { !text.contains("`\($0)`") }
    #expect(missing.isEmpty)
  }

  @Test func unsupportedFamiliesNameTheNearest() throws {
    let names = UnsupportedFamilies.all.flatMap(\.names)
    #expect(Set(names).count == names.count)
    let ofFiles = Set(Families.all.compactMap { $0.ggufArchitecture })
    #expect(ofFiles.isDisjoint(with: names), "GGUF files of these are read; their rows go")
    for kind in UnsupportedFamilies.all {
      #expect(Families.named(kind.nearest) != nil && !kind.difference.isEmpty)
      for name in kind.names {
        #expect(Families.named(name) == nil, "\(name) is supported; its row goes")
        let error = #expect(throws: FormatError.self) {
          try DecoderSpec(json: ["model_type": .string(name)], path: "config.json")
        }
        let said = error?.description ?? ""
        #expect(said.contains(name) && said.contains("nearest that is: \(kind.nearest)"), "\(said)")
        #expect(said.contains(kind.difference))
      }
    }
    let error = #expect(throws: FormatError.self) {
      try DecoderSpec(json: ["model_type": "strange"], path: "config.json")
    }
    let said = error?.description ?? ""
    #expect(said.contains("model_type strange") && !said.contains("nearest") && said.contains("olmo3"))
  }
}
