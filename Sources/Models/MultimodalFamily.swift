import Formats

/// Checkpoints of which one part is a text model of a known family. That part is read; what is saved is a text model.
package struct MultimodalFamily: Sendable {
  /// `model_type` of config.json, which holds that of the text model as `text_config`.
  package let modelType: String
  /// Keys beside `text_config` besides those of every config.
  package let ownKeys: [String: FieldDecision]
  /// How the names of tensors begin that belong to other parts.
  package let otherParts: [String]

  /// What the text model is called in the checkpoint as transformers has it, which is what PEFT names adapters by.
  package static func names(_ text: OuterNames) -> OuterNames {
    func within(_ name: String) -> String {
      name.hasPrefix("model.") ? "model.language_model." + name.dropFirst("model.".count) : name
    }
    var names = text
    names.embedding = within(text.embedding)
    names.layers = within(text.layers)
    names.norm = within(text.norm)
    return names
  }

  /// The name of a tensor in those terms: files of transformers 4 have the parts in another order. nil for a tensor of
  /// another part.
  package func rename(_ tensor: String) -> String? {
    var name = tensor
    if name.hasPrefix("language_model.model.") {
      name = "model.language_model." + name.dropFirst("language_model.model.".count)
    } else if name.hasPrefix("language_model.lm_head.") {
      name = String(name.dropFirst("language_model.".count))
    }
    let bare = name.hasPrefix("model.") ? String(name.dropFirst("model.".count)) : name
    return otherParts.contains(where: { bare.hasPrefix($0) }) ? nil : name
  }

  /// Keys that the whole and its text model both have; each list is one setting under several names. What the whole
  /// says goes before what the text model says, as in transformers (`GenerationConfig.from_model_config`, `_get_dtype`,
  /// `get_hf_quantizer`).
  private static let shared = [
    ["dtype", "torch_dtype"], ["quantization_config"], ["bos_token_id"], ["eos_token_id"], ["pad_token_id"],
  ]

  /// The config of the text model, with what the whole says in its place; keys of both are checked where they are read.
  func textConfig(_ fields: ConfigFields, textType: String) throws(FormatError) -> JSON {
    guard var members = fields.json["text_config"]?.object else {
      throw .badField(
        path: fields.path, field: "text_config", value: fields.json["text_config"]?.text() ?? "absent",
        expected: "the config of the text model")
    }
    // The class of the text model is known without its name.
    if members["model_type"] == nil { members["model_type"] = .string(textType) }
    for names in Self.shared where names.contains(where: { fields.json[$0]?.unlessNull != nil }) {
      for name in names { members[name] = fields.json[name] }
    }
    // The output matrix is the whole's, whose class has the same default as the text model's.
    members["tie_word_embeddings"] = fields.json["tie_word_embeddings"]
    return .object(members)
  }
}
