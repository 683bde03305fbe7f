import Formats
import Models
import Tensors

extension PEFTFiles {
  /// Saves adapters of one rank and one scaling, `lora_alpha / r`, that compute what those of `model` compute, for
  /// readers that know no patterns and no `use_rslora`: ranks are filled up with zeros, and B is multiplied by its own
  /// scaling over the common one. Reads them back as `save`.
  /// - Returns: names of the modules whose matrices are others, and what `save` returns.
  /// - Throws: as `save`; `AdapterError.notLowRank` for another method than LoRA, an adapter of the embedding, and for
  ///   whole modules and biases, which such readers do not know either.
  @discardableResult
  public static func saveFolded(
    _ model: LanguageModel, directory: String
  ) throws -> (changed: [String], staying: [String]) {
    let folded = try FoldedAdapters(model)
    let members = try folded.entries.map { entry -> (module: Module, adapter: Adapter) in
      let own = entry.module.adapter?.method as? LoRA
      let method = LoRA(
        rank: folded.rank, alpha: folded.scaling * Double(folded.rank), dropout: own?.dropout ?? 0)
      let tensors = try zip(method.parameters(of: entry.module), [entry.a, entry.b]).map { parameter, values in
        let tensor = try Tensor(empty: parameter.shape, category: .adapters, on: model.backend)
        try tensor.set(values)
        return tensor
      }
      return (entry.module, Adapter(method, on: entry.module, tensors))
    }
    let notes = model.adapterSets.filter { model.namesInUse.contains($0.name) }.flatMap(\.notes)
    let template = model.chatTemplateInUse
    let staying = try model.withOtherAdapters {
      try model.add(members, toSet: AdapterSet.defaultName)
      model.note(notes)
      model.note(chatTemplate: template)
      return try save(model, directory: directory)
    }
    return (folded.changed, staying)
  }

  /// Modules whose base is one that no file has: LoftQ's after more than one round, whose 4 bits are not those of the
  /// weights that were read.
  public static func modulesOfOtherBase(_ model: LanguageModel) -> [String] {
    model.adapters.filter { adapter in
      guard let method = adapter.method as? LoRA else { return false }
      return method.initialization == .loftq && method.powerIterations > 1
    }.map(\.moduleName)
  }

  /// Modules, or parameters of experts, whose LoRA branch is scaled by another factor than `lora_alpha / r` of
  /// adapter_config.json: alpha or rank differs from the commonest, or `rankStabilised` is set. PEFT reads that from
  /// `alpha_pattern`, `rank_pattern` and `use_rslora`. vLLM knows no patterns; llama.cpp's converter stores
  /// `lora_alpha` alone.
  /// - Throws: as `LoRA.configuration`.
  public static func modulesScaledApart(_ model: LanguageModel) throws -> [String] {
    let experts = PEFTExperts(stating: model)
    let adapters = settings(try adaptersByModule(model, experts), experts).compactMap { name, method in
      (method as? LoRA).map { (module: name, method: $0) }
    }
    guard !adapters.isEmpty else { return [] }
    let fields = JSONObject(try LoRA.configuration(adapters))
    guard let alpha = fields["lora_alpha"]?.double, let rank = fields["r"]?.double else { return [] }
    return adapters.filter { abs($0.method.scaling - alpha / rank) > 1e-9 * abs(alpha / rank) }.map(\.module)
  }
}
