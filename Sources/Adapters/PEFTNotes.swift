import Formats
import Models

extension PEFTFiles {
  /// What PEFT does otherwise with the files that `save` writes of a model, a sentence each.
  public static func notes(_ model: LanguageModel) -> [String] {
    var notes: [String] = []
    let experts = PEFTExperts(stating: model)
    let dropped = model.adapters.filter { ($0.method as? LoRA).map { $0.dropout > 0 } ?? false }
    if experts != nil, let first = dropped.first {
      notes.append(
        "lora_dropout is written as 0, and that of \(dropped.count) modules, \(first.moduleName) the first, "
          + "is not in the file: PEFT loads LoRA on experts only so. What the adapter computes is the same; training "
          + "it on is without dropout")
    }
    let foreign = model.modules.filter { module in
      guard module.isExpert || module.isRouter, let method = module.adapter?.method else { return false }
      return !(method is LoRA || method is Scripted)
    }
    if let first = foreign.first, let adapter = first.adapter {
      notes.append(
        "PEFT refuses this file: it has \(adapter.kind) on \(foreign.count) matrices of experts or routers, "
          + "\(first.name) the first, which are no modules in transformers 5; there it has LoRA alone")
    }
    return notes
  }

  /// What of an adapter belongs to parts of the base that are not read, such as the tower for images; a sentence, or
  /// none.
  /// - Throws: `FormatError` for weights that cannot be read.
  static func unread(_ directory: String, of model: LanguageModel) throws -> [String] {
    let path = "\(directory)/\(FileName.adapterWeights)"
    let keys = try SafetensorsFile(path: path).entries.map(\.name).filter { isOfOtherPart($0, model) }
    guard let first = keys.first else { return [] }
    return [
      "\(path): \(keys.count) of its tensors, \(first) the first, belong to parts of the base that "
        + "are not read; without them texts are computed as with the whole adapter, and what is saved again lacks them"
    ]
  }

  /// Whether a tensor belongs to another part of the multimodal model of which this is the text model.
  static func isOfOtherPart(_ key: String, _ model: LanguageModel) -> Bool {
    guard model.spec.isPart, key.hasPrefix(keyPrefix),
      let parts = Families.named(model.spec.modelType)?.multimodal?.otherParts
    else { return false }
    let name = key.dropFirst(keyPrefix.count)
    let bare = name.hasPrefix("model.") ? name.dropFirst("model.".count) : name
    return parts.contains { bare.hasPrefix($0) }
  }
}
