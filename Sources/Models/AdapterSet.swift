import Tokenizers

/// Adapters that were made or read together, under a name. A model holds any number of sets on one base and computes
/// with those in use.
public struct AdapterSet {
  /// The name of a set that was given none.
  public static let defaultName = "default"

  /// Unlike that of every other set of the model.
  public let name: String
  /// One adapter a module, in the order in which they were attached.
  public package(set) var members: [(module: Module, adapter: Adapter)]
  /// How it was trained, as rows of the card that lies beside the saved files; empty where nobody said it.
  public var notes: [(name: String, text: String)] = []
  /// Jinja source of the chat template that it was trained under; nil where that is the model's own, or not known.
  public var chatTemplate: String?

  package init(_ name: String, _ members: [(module: Module, adapter: Adapter)]) {
    self.name = name
    self.members = members
  }

  /// Elements of all tensors.
  public var elementCount: Int { members.reduce(0) { $0 + $1.adapter.elementCount } }
  /// Bytes of all tensors, without gradients.
  public var byteCount: Int { members.reduce(0) { $0 + $1.adapter.byteCount } }
  /// Whether a tensor requires a gradient.
  public var isTrained: Bool { members.contains { $0.adapter.isTrained } }
}

extension LanguageModel {
  /// Computes with these sets from now on; a name that no set has counts for nothing.
  package func use(_ names: [String]) {
    let sets = names.compactMap { name in adapterSets.first { $0.name == name } }
    for module in modules { module.adapters = [] }
    for (module, adapter) in sets.flatMap(\.members) { module.adapters.append(adapter) }
    namesInUse = sets.map(\.name)
    placeTrainedParts()
  }

  /// Says of the sets in use how they were trained.
  public func note(_ rows: [(name: String, text: String)]) {
    for place in adapterSets.indices where namesInUse.contains(adapterSets[place].name) {
      adapterSets[place].notes = rows
    }
  }

  /// Says under which chat template sets were trained, those in use without `names`; the model's own is none of theirs.
  public func note(chatTemplate: String?, of names: [String]? = nil) {
    for place in adapterSets.indices where (names ?? namesInUse).contains(adapterSets[place].name) {
      adapterSets[place].chatTemplate = chatTemplate == tokenizer?.chatTemplate ? nil : chatTemplate
    }
  }

  /// The chat template of the sets in use, where they have one other than the model's own, and the same.
  public var chatTemplateInUse: String? {
    let templates = adapterSets.filter { namesInUse.contains($0.name) }.map(\.chatTemplate)
    return Set(templates).count == 1 ? templates[0] : nil
  }

  /// The tokenizer with the chat template of the sets in use, for a model that they are merged into.
  package var mergedTokenizer: Tokenizer? {
    chatTemplateInUse.map { template in tokenizer?.with(chatTemplate: template) } ?? tokenizer
  }

  /// Parts of the base that are trained beside the adapters are there when those are.
  func placeTrainedParts() {
    for module in modules { module.trained?.place(in: module, trained: usesAdapters && !namesInUse.isEmpty) }
  }
}
