import Formats
import Models
import Tensors

/// LoRA adapters as mlx-lm writes and reads them: `adapters.safetensors` with lora_a [in, rank] and lora_b [rank, out],
/// and `adapter_config.json` with one rank and one scale for all (mlx-lm 0.28, tuner/utils.py and tuner/lora.py).
public enum MLXFiles {
  static let weightsName = "adapters.safetensors"

  static let format = FolderFormat(
    key: FileName.adapterConfig, kindField: "fine_tune_type",
    owns: { $0 == FileName.adapterConfig || $0 == weightsName },
    conflicts: { $0.hasPrefix("adapter_model.") })

  /// Whether a folder holds such files.
  static func isFolder(_ directory: String) -> Bool { FileSystem.exists("\(directory)/\(weightsName)") }

  /// Writes the adapters of `model` into `directory`, of one rank and scale; see `FoldedAdapters`.
  /// - Returns: what is to be said about the files, a sentence each.
  /// - Throws: `AdapterError.nothingToSave`, `.notFinite`; `.notLowRank`, for experts too; `FormatError.wrongKind`,
  ///   `.conflict`, `.system`.
  public static func save(_ model: LanguageModel, directory: String) throws -> [String] {
    // mlx-lm has the experts of a layer in one module each for gate, up and down, and reads no adapters of single ones.
    if let expert = model.modules.first(where: { $0.isExpert && $0.adapter != nil }) {
      throw AdapterError.notLowRank(module: expert.name, what: "LoRA on an expert, of which mlx-lm reads none")
    }
    try AdapterFiles.requireFinite(model)
    let folded = try FoldedAdapters(model)
    let target = try FolderSave(path: directory, format: format)
    let layers = folded.entries.compactMap(\.module.layer)
    let prefix = model.spec.outerNames.layers
    // Paths within a layer, and within the model for what is in none.
    let keys = Set(
      folded.entries.map { entry -> String in
        guard let layer = entry.module.layer else { return model.spec.savedName(entry.module.name) }
        return String(entry.module.name.dropFirst("\(prefix)\(layer).".count))
      })
    let configuration: JSON = [
      "fine_tune_type": "lora", "model": .string(model.path),
      "num_layers": .int(model.spec.layerCount - (layers.min() ?? 0)),
      "lora_parameters": [
        "rank": .int(folded.rank), "scale": .number(folded.scaling), "dropout": 0.0,
        "keys": .array(keys.sorted().map { .string($0) }),
      ],
    ]
    try AtomicFile.write("\(target.stage)/\(FileName.adapterConfig)", configuration.text(.python) + "\n")
    let items = folded.entries.flatMap { entry -> [SafetensorsWriter.Item] in
      let (name, inner, outer) = (
        model.spec.savedName(entry.module.name), entry.module.inFeatures, entry.module.outFeatures
      )
      return [
        item(name + ".lora_a", [inner, folded.rank], turned(entry.a, rows: folded.rank)),
        item(name + ".lora_b", [folded.rank, outer], turned(entry.b, rows: outer)),
      ]
    }
    try SafetensorsWriter.write(
      path: "\(target.stage)/\(weightsName)", items, metadata: AdapterBase.metadata(model))
    try target.commit()
    guard let first = folded.changed.first else { return [] }
    return [
      "\(directory): rank or scaling of \(folded.changed.count) modules, \(first) the first, is not that of the "
        + "others; it is folded into their matrices, which compute the same"
    ]
  }

  /// Attaches the adapters of a folder; the model stays as it is when an error is thrown.
  /// - Returns: the number of modules that got an adapter.
  /// - Throws: `AdapterError` or `FormatError` naming the file and the field or tensor; `TensorError.outOfMemory`.
  @discardableResult
  public static func load(
    _ directory: String, into model: LanguageModel, trainable: Bool = false, set: String = AdapterSet.defaultName
  ) throws -> Int {
    let path = "\(directory)/\(FileName.adapterConfig)"
    let configuration = try JSON.read(path: path)
    if let kind = configuration["fine_tune_type"]?.string, kind != "lora" {
      throw AdapterError.unsupported(path: path, field: "fine_tune_type", value: kind)
    }
    guard let scale = configuration["lora_parameters"]?["scale"]?.double, scale > 0, scale <= 1e30 else {
      throw AdapterError.badField(path: path, field: "lora_parameters.scale", expected: "a number above 0, up to 1e30")
    }
    let dropout = configuration["lora_parameters"]?["dropout"]?.double ?? 0
    guard dropout >= 0, Float(dropout) < 1 else {
      throw AdapterError.badField(path: path, field: "lora_parameters.dropout", expected: "a number from 0 up to 1")
    }
    let weights = "\(directory)/\(weightsName)"
    try AdapterBase.check(
      model, weights: (weights, try SafetensorsFile(path: weights).metadata), configuration, path: path, field: "model")
    let source = try WeightSource(path: weights)
    var made: [(module: Module, adapter: Adapter)] = []
    for tensor in source.tensors where !tensor.name.hasSuffix(".lora_b") {
      let name = String(tensor.name.dropLast(".lora_a".count))
      guard tensor.name.hasSuffix(".lora_a"), tensor.shape.count == 2, tensor.shape[1] > 0,
        let module = model.module(name),
        module.kind == .linear
      else { throw AdapterError.unknownTensor(path: source.path, name: tensor.name) }
      try model.checkIsFree(module, inSet: set)
      let rank = tensor.shape[1]
      let method = LoRA(rank: rank, alpha: scale * Double(rank), dropout: dropout)
      try method.check(module)
      let parts = try [
        (tensor.name, [module.inFeatures, rank]), (name + ".lora_b", [rank, module.outFeatures]),
      ].map { part, shape -> Tensor in
        guard source.contains(part) else { throw AdapterError.missingTensor(path: source.path, name: part) }
        let got = try source.tensor(part).shape
        if module === model.outputModule, got.count == 2, got[0] == rank, shape[0] == rank, got != shape {
          throw AdapterError.otherVocabulary(
            path: source.path, module: name, rows: got[1], base: shape[1], unties: false)
        }
        guard got == shape else {
          throw AdapterError.shapeMismatch(path: source.path, tensor: part, expected: shape, got: got)
        }
        let made = try Tensor(empty: shape.reversed(), category: .adapters, on: model.backend)
        try turned(try source.read(part), rows: shape[0]).withUnsafeBytes { try made.write($0) }
        made.requiresGradient = trainable
        return made
      }
      made.append((module, Adapter(method, on: module, parts, set: set)))
    }
    guard !made.isEmpty else { throw AdapterError.missingTensor(path: source.path, name: "*.lora_a") }
    let known = Set(made.map { $0.module.name + ".lora_b" })
    if let stranger = source.tensors.first(where: { $0.name.hasSuffix(".lora_b") && !known.contains($0.name) }) {
      throw AdapterError.unknownTensor(path: source.path, name: stranger.name)
    }
    try model.add(made, toSet: set)
    return made.count
  }

  /// The transpose of a matrix of so many rows.
  private static func turned(_ values: [Float], rows: Int) -> [Float] {
    let columns = values.count / max(1, rows)
    return (0..<values.count).map { values[$0 % rows * columns + $0 / rows] }
  }

  private static func item(_ name: String, _ shape: [Int], _ values: [Float]) -> SafetensorsWriter.Item {
    SafetensorsWriter.Item(name: name, dtype: .f32, shape: shape) { sink in
      try values.withUnsafeBytes { try sink($0) }
    }
  }
}
