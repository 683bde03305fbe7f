import Formats
import Models

extension PEFTFiles {
  /// Modules whose LoRA branch is scaled by another factor than `lora_alpha / r` of adapter_config.json: alpha or rank
  /// differs from the commonest, or `rankStabilised` is set. PEFT reads that from `alpha_pattern`, `rank_pattern` and
  /// `use_rslora`. vLLM knows no patterns; llama.cpp's converter stores `lora_alpha` alone.
  /// - Throws: as `LoRA.configuration`.
  public static func modulesScaledApart(_ model: LanguageModel) throws -> [String] {
    let adapters = model.adapters.compactMap { adapter in (adapter.method as? LoRA).map { (adapter.moduleName, $0) } }
    guard !adapters.isEmpty else { return [] }
    let fields = JSONObject(try LoRA.configuration(adapters.map { (module: $0.0, method: $0.1) }))
    guard let alpha = fields["lora_alpha"]?.double, let rank = fields["r"]?.double else { return [] }
    return adapters.filter { abs($0.1.scaling - alpha / rank) > 1e-9 * abs(alpha / rank) }.map(\.0)
  }
}
