import Formats

/// What a file says of the family of a model: which of the engine's families it may be of.
///
/// Several types may be one network: the text model of a multimodal checkpoint has two names, and a GGUF file of
/// architecture llama may hold a Mistral.
package struct FamilyHint: Sendable {
  /// `model_type` as the file has it or implies it, for texts.
  package let modelType: String
  /// What the engine calls the families that it may be.
  private let types: Set<String>

  /// From `model_type` of config.json; nil for a name that the engine knows nothing of. `isGGUF`: whether the weights
  /// were read from a GGUF file, which holds several families as one.
  package init?(modelType: String, isGGUF: Bool = false) {
    self.modelType = modelType
    guard let family = Families.multimodal(modelType)?.family ?? Families.named(modelType) else {
      guard let kind = UnsupportedFamilies.named(modelType) else { return nil }
      types = [kind.isRenamed ? kind.nearest : modelType]
      return
    }
    // Files with experts are told from those without.
    let alike = Families.all.filter {
      $0.ggufWriter.ggufArchitecture == family.ggufArchitecture
        && ($0.modules.experts == nil) == (family.modules.experts == nil)
    }
    types = Set(isGGUF ? alike.map { $0.modelType } : []).union([family.modelType])
  }

  /// From the name of a class and of the library that defines it, as `transformers.models.llama.modeling_llama`; nil
  /// where neither is known.
  package init?(className: String, library: String?) {
    let named = Families.all.first { $0.className == className }?.modelType
    let folder = library?.firstMatch(of: /^transformers\.models\.(\w+)/).map { String($0.1) }
    guard let type = named ?? folder else { return nil }
    self.init(modelType: type)
  }

  /// From what lies at a path: a model's folder, a GGUF file, or a name in the local cache of the hub. nil where
  /// nothing is there that can be read, or nothing of a known family.
  package init?(path: String) {
    if path.hasSuffix(".gguf"), !FileSystem.isDirectory(path) {
      guard let file = try? GGUFFile(path: path), let architecture = file.metadata["general.architecture"]?.string,
        let family = Families.reading(architecture, file)
      else { return nil }
      self.init(modelType: family.modelType, isGGUF: true)
      return
    }
    let isHere = FileSystem.isDirectory(path) || !HubName.looksLikeModel(path)
    guard let folder = isHere ? path : try? HubCache.resolve(path),
      FileSystem.exists("\(folder)/\(FileName.config)"),
      let type = (try? JSON.read(path: "\(folder)/\(FileName.config)"))?["model_type"]?.string
    else { return nil }
    self.init(modelType: type)
  }

  /// Of a model that was loaded: `model_type` is that of its config.json.
  package init?(_ model: LanguageModel) {
    let type = model.spec.modelType
    let whole = model.spec.isPart ? Families.named(type)?.multimodal?.modelType : nil
    self.init(modelType: whole ?? type, isGGUF: Self.isGGUF(model))
  }

  /// Whether a model's weights were read from a GGUF file.
  package static func isGGUF(_ model: LanguageModel) -> Bool {
    model.path.hasSuffix(".gguf") && !FileSystem.isDirectory(model.path)
  }

  /// Whether both may be of one family.
  package func agrees(with other: FamilyHint) -> Bool { !types.isDisjoint(with: other.types) }
}
