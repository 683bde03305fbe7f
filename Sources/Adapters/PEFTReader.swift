import Formats
import Models
import Tensors
import Tokenizers

extension PEFTFiles {
  /// Attaches the adapters stored in a PEFT directory.
  ///
  /// Which method it is says `peft_type`. The modules that `target_modules` means must be those whose tensors are in
  /// the file, experts apart where no tensor is of one; of experts and routers `target_parameters` means what
  /// transformers has them in (`PEFTExperts`). What a configuration asks for and the method does not compute is an
  /// error, never ignored, and so is an adapter of a model of another family, as far as the files tell. A chat template
  /// that lies beside the files and is not the model's own becomes the set's.
  /// - Parameters:
  ///   - directory: holds adapter_config.json and adapter_model.safetensors.
  ///   - model: left as it is when an error is thrown.
  ///   - trainable: whether the tensors get gradients.
  ///   - set: name of the set that they become, which is in use alone afterwards; one that is there may have no adapter
  ///     of a module in the file.
  /// - Returns: the number of modules that got an adapter.
  /// - Throws: `AdapterError` or `FormatError` naming the file and the field or tensor; `TensorError.outOfMemory`.
  @discardableResult
  public static func load(
    _ directory: String, into model: LanguageModel, trainable: Bool = false, set: String = AdapterSet.defaultName
  ) throws -> Int {
    try load(directory, into: model, trainable: trainable, set: set, definition: nil)
  }

  /// The same for a file of adapters that `definition` made; nil for a method that the engine knows.
  @discardableResult
  package static func load(
    _ directory: String, into model: LanguageModel, trainable: Bool = false, set: String = AdapterSet.defaultName,
    definition: ScriptedDefinition?
  ) throws -> Int {
    let path = "\(directory)/\(FileName.adapterConfig)"
    guard FileSystem.exists(path) else {
      throw AdapterError.notAnAdapter(path: directory, inside: adapters(in: directory))
    }
    let configuration = try JSON.read(path: path)
    guard let method = configuration["peft_type"]?.string.flatMap({ AdapterMethods.named($0) }) else {
      throw AdapterError.unknownMethod(
        path: path, name: configuration["peft_type"]?.text() ?? "missing", known: AdapterMethods.names)
    }
    let file = try open(directory)
    try AdapterBase.check(
      model, weights: (file.path, file.metadata), configuration, path: path, field: "base_model_name_or_path")
    // Before the tensors, which such fields give names that no module has.
    if method.peftType == LoRA.peftType { try PEFTTable.table.check(configuration, path: path) }
    let targets = try PEFTTargets(configuration, path: path)
    let experts = try PEFTExperts(configuration, model, path: path)
    try PEFTVocabulary.check(file, configuration, path: path, model)
    let shared = method.sharedNames.map { (name: $0, key: sharedPrefix + $0) }
    let copies = try PEFTVocabulary.copies(in: file, configuration, model) { key in
      try read(file, key, shape: file.entry(key)?.shape ?? [], model.backend)
    }
    let parts = try PEFTParts(configuration, path: path, model, file, besides: copies)
    let groups = try tensorsByModule(file, model, parts, besides: experts.keys, copies.union(shared.map(\.key)))
    let content = AdapterFileContent(modules: groups.map(\.module), backend: model.backend) { name in
      guard let key = shared.first(where: { $0.name == name })?.key, let entry = file.entry(key) else { return nil }
      return try read(file, key, shape: entry.shape, model.backend)
    }
    let makeMethod =
      try definition?.reader(configuration, path: path) ?? method.reader(configuration, path: path, content)
    guard !groups.isEmpty || !experts.isEmpty else {
      throw AdapterError.missingTensor(path: file.path, name: keyPrefix + "*")
    }
    let stored = Set(groups.map(\.module.name)).union(experts.modules.map(\.name))
    // In transformers 5 experts are no modules, and target_modules does not mean them.
    let noneIsExpert = !groups.contains(where: \.module.isExpert)
    for module in model.modules
    where try !stored.contains(module.name) && !(noneIsExpert && module.isExpert) && targets.contains(module) {
      throw AdapterError.missingTensor(path: file.path, name: keyPrefix + PEFTNames.theirs(module.name) + ".*")
    }
    let linear = try experts.matrices.map(\.module).filter { try !$0.isRouter && targets.contains($0) }
    let twice = groups.map(\.module).filter { module in experts.modules.contains { $0 === module } } + linear
    if let module = twice.first {
      throw AdapterError.unsupported(
        path: path, field: "target_parameters", value: "\(module.name), of which there is another adapter")
    }
    let stacked = try experts.adapters(configuration, path: path) { key, shape in
      try read(file, keyPrefix + key, shape: shape, model.backend)
    }.map { module, method, tensors in
      try model.checkIsFree(module, inSet: set)
      return (module: module, adapter: Adapter(method, on: module, tensors, set: set))
    }
    let made = try groups.map { module, name, shapes in
      try model.checkIsFree(module, inSet: set)
      let prefix = keyPrefix + name + "."
      let method = try makeMethod(module, shapes)
      // Trained tokens are named by a field of their own.
      guard try method is TrainedTokens || targets.contains(module) else {
        throw AdapterError.notTargeted(path: path, module: module.name)
      }
      let parameters = method.parameters(of: module)
      if let stranger = Set(shapes.keys).subtracting(parameters.map(\.name)).min() {
        throw AdapterError.unknownTensor(path: file.path, name: prefix + stranger)
      }
      let tensors = try parameters.map { try read(file, prefix + $0.name, shape: $0.shape, model.backend) }
      return (module: module, adapter: Adapter(method, on: module, tensors, set: set))
    }
    if method.peftType == LoRA.peftType { try PEFTEmbedding(configuration, path: path).check(made, model, file) }
    for (_, adapter) in made + stacked {
      for tensor in adapter.tensors { tensor.requiresGradient = trainable }
    }
    let kept = try parts.read(file, adapted: stored, model, trainable: trainable) { try read(file, $0, shape: $1, $2) }
    if !kept.isEmpty { try model.checkIsAlone(set) }
    let template = try Tokenizer.chatTemplate(directory: directory)
    try model.add(made + stacked, toSet: set)
    if let template { model.note(chatTemplate: template, of: [set]) }
    for (module, part) in kept { module.trained = part }
    return made.count + stacked.count
  }

  /// The folders in one that hold an adapter: PEFT writes several so, and a checkpoint has its own.
  private static func adapters(in directory: String) -> [String] {
    let names = FileSystem.isDirectory(directory) ? (try? FileSystem.list(directory)) ?? [] : []
    return names.map { "\(directory)/\($0)" }.filter { FileSystem.exists("\($0)/\(FileName.adapterConfig)") }.sorted()
  }

  private static func open(_ directory: String) throws -> SafetensorsFile {
    let path = "\(directory)/\(FileName.adapterWeights)"
    guard FileSystem.exists(path) else {
      throw FormatError.missingFile(
        path: directory, looked: [FileName.adapterWeights], instead: OtherWeights.find(in: directory))
    }
    return try SafetensorsFile(path: path)
  }

  /// The stored tensors' shapes by module, in the order of the file, and by what follows the module's name; without
  /// those of `besides` and of `known`.
  private static func tensorsByModule(
    _ file: SafetensorsFile, _ model: LanguageModel, _ parts: PEFTParts, besides others: Set<String>,
    _ known: Set<String>
  ) throws -> [(module: Module, name: String, shapes: [String: [Int]])] {
    var groups: [(module: Module, name: String, shapes: [String: [Int]])] = []
    var places: [String: Int] = [:]
    for entry in file.entries where !others.contains(String(entry.name.trimmingPrefix(keyPrefix))) {
      if parts.isPart(entry.name) || known.contains(entry.name) || isOfOtherPart(entry.name, model) { continue }
      guard entry.name.hasPrefix(keyPrefix),
        let (module, called, name) = owner(of: entry.name.dropFirst(keyPrefix.count), model)
      else {
        guard !PEFTVocabulary.isOfTiedOutput(entry.name, model) else {
          throw AdapterError.outputAlone(path: file.path, tensor: entry.name)
        }
        throw AdapterError.unknownTensor(path: file.path, name: entry.name)
      }
      let place = places[called] ?? groups.count
      if place == groups.count {
        places[called] = place
        guard !groups.contains(where: { $0.module === module }) || called == module.name else {
          throw AdapterError.unknownTensor(path: file.path, name: entry.name)
        }
        groups.append((module, called, [:]))
      }
      groups[place].shapes[name] = entry.shape
    }
    return groups
  }

  /// The linear module, or the embedding, whose name begins `key`, that name, and the rest: the parameter's own name,
  /// which may have dots too.
  private static func owner(of key: Substring, _ model: LanguageModel) -> (Module, name: String, String)? {
    for dot in key.indices.reversed() where key[dot] == "." {
      let name = String(key[..<dot])
      if let module = PEFTNames.module(name, in: model) {
        return module.kind == .linear || module.kind == .embedding
          ? (module, name, String(key[key.index(after: dot)...])) : nil
      }
    }
    return nil
  }

  private static func read(
    _ file: SafetensorsFile, _ name: String, shape: [Int], _ backend: any Backend
  ) throws -> Tensor {
    guard let entry = file.entry(name) else { throw AdapterError.missingTensor(path: file.path, name: name) }
    guard entry.shape == shape else {
      throw AdapterError.shapeMismatch(path: file.path, tensor: name, expected: shape, got: entry.shape)
    }
    guard let dtype = entry.type.dtype, dtype.isFloat else {
      throw FormatError.unsupportedType(
        path: file.path, tensor: name, type: entry.type.rawValue, supported: ["F32", "BF16", "F16"])
    }
    let stored = try Tensor(empty: shape, dtype: dtype, category: .adapters, on: backend)
    let bytes = try file.bytes(of: name)
    try withExtendedLifetime(file) { try stored.write(bytes) }
    return dtype == .f32 ? stored : try stored.converted(to: .f32, category: .adapters)
  }
}
