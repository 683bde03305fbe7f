import Formats
import Models
import Tensors

/// Adapters as PEFT writes and reads them: `adapter_config.json` and `adapter_model.safetensors`
/// (PEFT 0.21, save_pretrained).
public enum PEFTFiles {
  /// What `write` leaves in a folder.
  package static let fileNames: Set = [FileName.adapterConfig, FileName.adapterWeights, Scripted.sourceName]
  /// PEFT wraps the model twice, so every key starts with this.
  static let keyPrefix = "base_model.model."
  /// What belongs to no module is in the first wrapping.
  static let sharedPrefix = "base_model."

  /// The files that a saved adapter replaces. Pickled weights are not ours: we write none.
  private static func format(
    _ companions: AdapterCompanions, _ model: LanguageModel, in directory: String
  ) -> FolderFormat {
    let (ownsSource, isScripted) = (Scripted.isSource(in: directory), model.scripted != nil)
    return FolderFormat(
      key: FileName.adapterConfig, kindField: "peft_type", folders: [FileName.templateFolder],
      owns: { name in
        let weights = /adapter_model(-\d+-of-\d+)?\.safetensors(\.index\.json)?/
        return name == FileName.adapterConfig || name.wholeMatch(of: weights) != nil || companions.own.contains(name)
          || name == Scripted.sourceName && ownsSource
      },
      conflicts: { name in
        name.wholeMatch(of: /adapter_model(-\d+-of-\d+)?\.bin(\.index\.json)?/) != nil
          || name == Scripted.sourceName && isScripted && !ownsSource
      })
  }

  /// Writes the adapters of `model` into `directory`, beside them the tokenizer and a card (`AdapterCompanions`), and
  /// reads the adapters back; see `check`. Other things in the directory stay, an older adapter is replaced once the
  /// new one is complete; see `FolderSave`.
  /// - Returns: names of files that were to lie beside it, but are somebody else's and say something else: they stay.
  /// - Throws: as `write` and `check`; `AdapterError.notFinite`; `TokenizerError`; `FormatError.wrongKind` where
  ///   something other than a folder is at `directory`.
  @discardableResult
  public static func save(_ model: LanguageModel, directory: String) throws -> [String] {
    try AdapterFiles.requireFinite(model)
    let companions = AdapterCompanions(in: directory)
    let target = try FolderSave(path: directory, format: format(companions, model, in: directory))
    try write(model, into: target.stage)
    try check(target.stage, against: model, path: directory)
    let staying = try companions.write(model, into: target.stage)
    try target.commit()
    return staying
  }

  /// Writes the two files into a directory that exists, the tensors as f32. Each file appears whole or not at all.
  /// Adapters whose start changed the base are written as plain ones of the unchanged base; see `LoRA.ofOriginalBase`.
  /// - Throws: `AdapterError.nothingToSave`, `.severalInUse`, `.mixedMethods`, `.mixedScaling`;
  ///   `FormatError.system`; `TensorError` when the device fails.
  public static func write(_ model: LanguageModel, into directory: String) throws {
    try model.scripted?.refresh()
    try AtomicFile.write("\(directory)/\(FileName.adapterConfig)", configuration(model).text(.python) + "\n")
    if let script = model.scripted { try AtomicFile.write("\(directory)/\(Scripted.sourceName)", script.source) }
    let experts = PEFTExperts(stating: model)
    func item(_ name: String, _ tensor: Tensor) -> SafetensorsWriter.Item {
      SafetensorsWriter.Item(name: name, dtype: .f32, shape: tensor.shape) { sink in
        try tensor.withHostBytes { try sink($0) }
      }
    }
    let stacked = try (experts?.stacks ?? []).flatMap { try $0.tensors(model) }.map { name, shape, make in
      SafetensorsWriter.Item(name: keyPrefix + name, dtype: .f32, shape: shape) { sink in
        try make().withUnsafeBytes { try sink($0) }
      }
    }
    let matrices = try (experts?.matrices ?? []).flatMap { try $0.tensors(model) }.map {
      item(keyPrefix + $0.name, $0.tensor)
    }
    let adapters = try adaptersByModule(model, experts)
    let own = adapters.flatMap { adapter in
      adapter.parameters.map { name, tensor, _ in
        item(keyPrefix + PEFTNames.theirs(adapter.moduleName) + name.dropFirst(adapter.moduleName.count), tensor)
      }
    }
    let shared = adapters.first.map { PEFTFiles.shared(by: $0).map { item(sharedPrefix + $0.name, $0.tensor) } } ?? []
    let parts =
      try (PEFTParts.tensors(of: model) + PEFTEmbedding.tiedCopies(adapters, model)).map { item(keyPrefix + $0, $1) }
    try SafetensorsWriter.write(
      path: "\(directory)/\(FileName.adapterWeights)", own + matrices + stacked + parts + shared,
      metadata: AdapterBase.metadata(model))
  }

  /// What adapters have in common, unless others draw it again.
  private static func shared(by adapter: Adapter) -> [(name: String, tensor: Tensor)] {
    if let vera = adapter.method as? VeRA, !vera.projections.isSaved { return [] }
    return adapter.method.shared
  }

  /// Those that are no part of `experts`.
  static func adaptersByModule(_ model: LanguageModel, _ experts: PEFTExperts?) throws -> [Adapter] {
    let others = Set(experts?.modules.map(\.name) ?? [])
    let own = try model.adapters.filter { !others.contains($0.moduleName) }
      .map { try LoRA.ofOriginalBase($0, model) }
    let isAlone = own.count == 1 && others.isEmpty
    return own.map { adapter in
      // Trained tokens are called otherwise in a file that has nothing else.
      guard var tokens = adapter.method as? TrainedTokens, let module = model.module(adapter.moduleName) else {
        return adapter
      }
      tokens.isAlone = isAlone
      return Adapter(tokens, on: module, adapter.tensors)
    }
  }

  /// The configuration that describes the adapters: what every method has, and what the method says.
  static func configuration(_ model: LanguageModel) throws -> JSON {
    guard model.namesInUse.count < 2 else { throw AdapterError.severalInUse(names: model.namesInUse) }
    let method = try commonMethod(model.adapters.map { ($0.moduleName, $0.method) })
    let experts = PEFTExperts(stating: model), own = try adaptersByModule(model, experts)
    let settings = settings(own, experts)
    let targeted = method == TrainedTokens.self ? own : own.filter { !($0.method is TrainedTokens) }
    let base = base(model.path)
    var fields: [(String, JSON)] = [
      ("peft_type", .string(method.peftType)), ("task_type", "CAUSAL_LM"),
      ("base_model_name_or_path", .string(base.name)), ("inference_mode", true),
      ("revision", base.revision.map { .string($0) } ?? .null),
      ("target_modules", .array(targets(model, targeted).map { .string($0) })), ("exclude_modules", .null),
      ("modules_to_save", PEFTParts.savedModules(of: model)),
    ]
    if let experts { fields.append(("target_parameters", .array(experts.targets(model).map { .string($0) }))) }
    // Each method has its own word: lora_only, vera_only.
    let bias = try PEFTParts.bias(of: model).replacing("lora", with: method.peftType.lowercased())
    fields += try ownFields(of: method, settings).map { $0.0 == "bias" ? ($0.0, .string(bias)) : $0 }
    if method.peftType == LoRA.peftType { fields += PEFTEmbedding.fields(own) }
    return .object(JSONObject(fields))
  }

  /// The settings by name of module or parameter. Beside parameters PEFT has no dropout.
  static func settings(
    _ own: [Adapter], _ experts: PEFTExperts?
  ) -> [(module: String, method: any AdapterMethod)] {
    own.map { adapter in
      let method: any AdapterMethod = (adapter.method as? EmbeddingLoRA)?.low ?? adapter.method
      let name = PEFTNames.theirs(adapter.moduleName)
      guard experts != nil, var low = method as? LoRA else { return (name, method) }
      low.dropout = 0
      return (name, low)
    } + (experts?.methods.map { ($0.module, $0.method) } ?? [])
  }

  /// The method of adapters that one file can hold.
  /// - Throws: `AdapterError.nothingToSave`, `.mixedMethods`.
  private static func commonMethod(
    _ adapters: [(module: String, method: any AdapterMethod)]
  ) throws -> any AdapterMethod.Type {
    // What is on the embedding stands beside LoRA, in fields of its own.
    guard let first = adapters.first(where: { !($0.method is any EmbeddingMethod) }) ?? adapters.first else {
      throw AdapterError.nothingToSave
    }
    let method: any AdapterMethod.Type = first.method is EmbeddingLoRA ? LoRA.self : type(of: first.method)
    for other in adapters {
      let isBeside = method.peftType == LoRA.peftType && other.method is any EmbeddingMethod
      guard !isBeside, type(of: other.method) != method else { continue }
      throw AdapterError.mixedMethods(
        modules: [first.module, other.module], names: [Adapter.kind(of: first.method), Adapter.kind(of: other.method)])
    }
    return method
  }

  /// Refuses adapters of one set that no file could hold together, before they are made.
  /// - Throws: `AdapterError.mixedMethods`, `.mixedScaling`.
  static func checkMixing(_ adapters: [(module: String, method: any AdapterMethod)]) throws {
    guard !adapters.isEmpty else { return }
    let settings = adapters.map { ($0.module, ($0.method as? EmbeddingLoRA)?.low ?? $0.method) }
    _ = try ownFields(of: try commonMethod(adapters), settings)
  }

  /// What others find the base by. A place in the cache is this machine's; the name on the hub, with the commit that
  /// was read, is everybody's. A path is followed from any folder.
  static func base(_ path: String) -> (name: String, revision: String?) {
    if let origin = HubCache.origin(ofSnapshot: path) { return (origin.name, origin.commit) }
    if let place = FileSystem.absolute(path) { return (place, nil) }
    guard HubName.looksLikeModel(path), let name = try? HubName(path) else { return (path, nil) }
    if let folder = try? HubCache.snapshot(name), let origin = HubCache.origin(ofSnapshot: folder) {
      return (origin.name, origin.commit)
    }
    return (name.repository, path.contains("@") ? name.revision : nil)
  }

  private static func ownFields<Method: AdapterMethod>(
    of method: Method.Type, _ settings: [(module: String, method: any AdapterMethod)]
  ) throws -> [(String, JSON)] {
    try method.configuration(settings.compactMap { name, method in (method as? Method).map { (name, $0) } })
  }

  /// Last components when they select exactly the adapted modules (PEFT matches `name == t` or a dotted suffix),
  /// else full names. Of a part of another model they may select modules of its other parts.
  private static func targets(_ model: LanguageModel, _ adapters: [Adapter]) -> [String] {
    let adapted = Set(adapters.map(\.moduleName)), others = Set(model.adapters.map(\.moduleName)).subtracting(adapted)
    func role(_ name: String) -> String { name.split(separator: ".").last.map(String.init) ?? name }
    let names = Set(adapted.map(PEFTNames.theirs)), roles = Set(names.map(role))
    let selected = Set(
      model.modules.filter { !others.contains($0.name) }.map { PEFTNames.theirs($0.name) }.filter {
        roles.contains(role($0))
      })
    return (selected == names && !model.spec.isPart ? roles : names).sorted()
  }
}
