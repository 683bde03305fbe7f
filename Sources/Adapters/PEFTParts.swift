import Formats
import Models
import Tensors

/// What a PEFT file has beside the adapters: the modules of `modules_to_save` as a whole, and the biases that `bias`
/// means (PEFT 0.21, save_and_load.get_peft_model_state_dict).
struct PEFTParts {
  private let path: String
  private let model: LanguageModel
  private let saved: [Module]
  private let copies: Set<String>
  private let bias: String

  /// - Throws: `AdapterError.badField` for names that no module has; `AdapterError.badStart` for one that cannot be
  ///   trained as a whole.
  init(
    _ configuration: JSON, path: String, _ model: LanguageModel, _ file: SafetensorsFile, besides copies: Set<String>
  ) throws {
    self.path = path
    self.copies = copies
    self.model = model
    let field = "modules_to_save"
    let value = configuration[field]?.unlessNull ?? []
    guard let names = value.array?.map(\.string), !names.contains(nil) else {
      throw AdapterError.badField(path: path, field: field, expected: "a list of names")
    }
    // PEFT: any(key.endswith(target_key)). It wraps whole blocks too; here a name means single modules.
    let asked = try names.compactMap { $0 }.flatMap { name in
      let found = model.modules.filter { module in PEFTNames.all(module).contains { $0.hasSuffix(name) } }
      // A tied output matrix is no module; whether its tensor says what the embedding does has been seen.
      let isTied = model.outputModule.kind == .embedding && PEFTVocabulary.head.hasSuffix(name)
      guard !found.isEmpty || isTied else {
        throw AdapterError.badField(path: path, field: field, expected: "a name of linear layers, embeddings or norms")
      }
      return found
    }
    // Where tokens were added PEFT saves embedding and output matrix unasked, and reads them back.
    saved =
      asked
      + PEFTVocabulary.modules(model).filter { module in
        let keys = PEFTNames.all(module).map { "\(PEFTFiles.keyPrefix)\($0).weight" }
        return keys.contains { file.entry($0) != nil && !copies.contains($0) } && !asked.contains { $0 === module }
      }
    for module in saved { try model.checkWhole(module) }
    let word = configuration["bias"]?.unlessNull?.string ?? "none"
    bias = word == "vera_only" ? "lora_only" : word
  }

  /// Whether a tensor's name is that of a base module's weight or bias.
  func isPart(_ key: String) -> Bool {
    guard key.hasPrefix(PEFTFiles.keyPrefix) else { return false }
    let name = key.dropFirst(PEFTFiles.keyPrefix.count)
    return [".base_layer.bias", ".bias", ".weight"].contains { suffix in
      name.hasSuffix(suffix) && PEFTNames.module(String(name.dropLast(suffix.count)), in: model) != nil
    }
  }

  /// The trained parts with the values of the file, which must hold these and no others.
  func read(
    _ file: SafetensorsFile, adapted: Set<String>, _ model: LanguageModel, trainable: Bool,
    _ tensor: (_ name: String, _ shape: [Int], _ backend: any Backend) throws -> Tensor
  ) throws -> [(Module, TrainedParts)] {
    let whole = Set(saved.map(\.name))
    var known: Set<String> = []
    let result = try model.modules.compactMap { module -> (Module, TrainedParts)? in
      let isWhole = whole.contains(module.name), isAdapted = adapted.contains(module.name)
      guard !isWhole || !isAdapted else {
        throw AdapterError.badField(
          path: path, field: "modules_to_save", expected: "modules without an adapter, not \(module.name)")
      }
      let isMeant = bias == "all" || bias == "lora_only" && isAdapted
      let hasBias = isWhole ? module.hasBias : module.hasNamedBias && isMeant
      guard isWhole || hasBias else { return nil }
      let parts = try TrainedParts(of: module, weight: isWhole, bias: hasBias, requiresGradient: false)
      for (key, target) in PEFTParts.named(parts, isAdapted: isAdapted) {
        let names = PEFTNames.all(module).map { PEFTFiles.keyPrefix + $0 + key }
        let name = names.first { file.entry($0) != nil } ?? names[0]
        known.insert(name)
        try target.backend.copy(try tensor(name, target.shape, target.backend), into: target)
        target.requiresGradient = trainable
      }
      return (module, parts)
    }
    for entry in file.entries
    where isPart(entry.name) && !known.contains(entry.name) && !copies.contains(entry.name) {
      throw AdapterError.unknownTensor(path: file.path, name: entry.name)
    }
    return result
  }

  private static func named(_ parts: TrainedParts, isAdapted: Bool) -> [(String, Tensor)] {
    [(".weight", parts.weight), (isAdapted ? ".base_layer.bias" : ".bias", parts.bias)]
      .compactMap { name, tensor in tensor.map { (name, $0) } }
  }

  /// The trained parts of a model under the names that PEFT gives them, without its prefix.
  static func tensors(of model: LanguageModel) -> [(String, Tensor)] {
    model.modules.flatMap { module in
      module.trained.map { parts in
        named(parts, isAdapted: module.adapter != nil).map { (PEFTNames.theirs(module.name) + $0, $1) }
      } ?? []
    }
  }

  /// `modules_to_save`: full names, null for none.
  static func savedModules(of model: LanguageModel) -> JSON {
    let names = model.modules.filter { $0.trained?.trainsWeight ?? false }.map { PEFTNames.theirs($0.name) }
    return names.isEmpty ? .null : .array(names.map { .string($0) })
  }

  /// `bias`: which of the modules that are not saved as a whole have trained biases.
  /// - Throws: `AdapterError.mixedBiases`.
  static func bias(of model: LanguageModel) throws -> String {
    let rest = model.modules.filter { $0.hasNamedBias && !($0.trained?.trainsWeight ?? false) }
    let trained = rest.filter { $0.trained?.trainsBias ?? false }.map(\.name)
    if trained.isEmpty { return "none" }
    if trained == rest.filter({ $0.adapter != nil }).map(\.name) { return "lora_only" }
    guard trained == rest.map(\.name) else { throw AdapterError.mixedBiases(modules: trained) }
    return "all"
  }
}

extension Module {
  /// Whether it has a bias that PEFT's `bias` means. Those of experts are rows of a tensor there that is called
  /// otherwise.
  fileprivate var hasNamedBias: Bool { hasBias && !isExpert }
}

/// Which biases of the base are trained beside the adapters; the words are PEFT's.
public enum BiasTraining: String, Sendable, CaseIterable {
  /// No bias, the biases of every module but experts, and those of the modules with an adapter.
  case none, all
  case adapted = "lora_only"
}

extension LanguageModel {
  /// Trains whole modules and biases of the base beside the adapters, which must be there first.
  /// - Parameters:
  ///   - names: full names, or ends of them, of modules that are trained as a whole.
  ///   - bias: which biases besides.
  /// - Returns: the number of trainable parameters added.
  /// - Throws: `AdapterError.unknownModule`, `.alreadyAttached`, `.badStart`, `.partsOfSeveral`;
  ///   `TensorError.outOfMemory`. Nothing is changed then.
  @discardableResult
  public func trainParts(modules names: [String], bias: BiasTraining = .none) throws -> Int {
    let whole = Set(
      try names.flatMap { name in
        let found = modules.filter { $0.name.hasSuffix(name) }
        guard !found.isEmpty else {
          throw AdapterError.unknownModule(name: name, nearest: nearestModules(to: name))
        }
        return found.map(\.name)
      })
    let made = try modules.compactMap { module -> (Module, TrainedParts)? in
      let isWhole = whole.contains(module.name)
      let isMeant = bias == .all || bias == .adapted && module.adapter != nil
      let hasBias = isWhole ? module.hasBias : module.hasNamedBias && isMeant
      guard isWhole || hasBias else { return nil }
      if isWhole { try checkWhole(module) }
      guard module.trained == nil, !isWhole || module.adapter == nil else {
        throw AdapterError.alreadyAttached(module: module.name)
      }
      return (module, try TrainedParts(of: module, weight: isWhole, bias: hasBias, requiresGradient: true))
    }
    if adapterSets.count > 1 { throw AdapterError.partsOfSeveral(names: adapterSets.map(\.name)) }
    for (module, parts) in made { module.trained = parts }
    return made.reduce(0) { $0 + $1.1.elementCount }
  }

  /// Whether a module can be trained as a whole.
  func checkWhole(_ module: Module) throws {
    guard !module.isExpert else {
      throw AdapterError.badStart(
        module: module.name, name: "modules_to_save",
        reason: "it is an expert, and in PEFT's files experts are no modules that could be saved each")
    }
    if let form = module.storedForm {
      throw AdapterError.badStart(
        module: module.name, name: "modules_to_save", reason: "it is stored as \(form), which cannot be trained")
    }
    guard module !== outputModule || module.kind == .linear else {
      throw AdapterError.badStart(
        module: module.name, name: "modules_to_save",
        reason: "it is the output matrix too, and PEFT's files mean one of the two")
    }
  }
}
