import Formats
import Quantization
import Tensors

/// What the weights of a model become when its adapters are added into them, beside the model, which stays as it is:
/// both can be computed with and compared before anything is written.
public final class MergedWeights {
  /// What the adapters are added to, and how the sum is stored.
  public enum Target: String, Sendable, CaseIterable {
    /// The 16-bit weights that were quantized, all of them.
    case original
    /// The 4-bit weights as the adapters saw them in training.
    case dequantized
    /// The same, quantized again in the same form. A change that is smaller than half a step of a code is lost.
    case requantized
  }

  /// What a module had when its adapters were taken.
  private struct Frozen {
    let weight: LinearWeight
    let bias: Tensor?
    let adapters: [Adapter]

    /// f32, a new one.
    func dense() throws -> Tensor {
      switch weight {
      case .dense(let weight): try weight.converted(to: .f32)
      case .quantized(let operand): try operand.dequantized(to: .f32)
      case .blocks(let operand): try operand.dequantized(to: .f32)
      }
    }
  }

  /// The model whose adapters they were.
  public let model: LanguageModel
  /// What they were added to.
  public let target: Target
  /// How weights are stored that are not in 4 bits: bf16, f16 or f32.
  public let dtype: DType
  /// 4-bit codes of adapted matrices that differ from those before, of `codes`; 0 where there are none.
  public private(set) var changedCodes = 0
  /// 4-bit codes of adapted matrices.
  public private(set) var codes = 0
  private var standIns: [(module: Module, standIn: StandIn)] = []
  /// The few numbers of the modules that are no matrices, as they are written.
  private var small: [(module: Module, weight: Tensor, bias: Tensor?)] = []
  private let original: OriginalWeights?

  /// Notes what becomes of each matrix. It is made when it is computed with or written, and dropped then, so one is in
  /// memory as f32. Adapters that are trained on are taken as they are at that time.
  ///
  /// Where a method may have no weight that stands for it, its matrix is made once here; with `requantized` all are, to
  /// count codes.
  /// - Parameters:
  ///   - model: with adapters.
  ///   - target: what they are added to.
  ///   - path: the folder or file with the 16-bit weights; nil for that of the model.
  ///   - dtype: what the sums are rounded to; `requantized` has bf16.
  /// - Throws: `ModelError.headerOnly`, `.mergeUnties`; `.noOriginalWeights` where the file holds no wider weights, or
  ///   with `requantized` for a matrix that no 4-bit checkpoint can hold; `.missingTensor`, `FormatError` for files
  ///   that are not of this model; what a method throws whose change is no change of the weight;
  ///   `TensorError.outOfMemory`.
  public init(
    _ model: LanguageModel, _ target: Target, original path: String? = nil, dtype: DType = .bf16
  ) throws {
    guard model.isLoaded else { throw ModelError.headerOnly(operation: "merge") }
    try model.checkMergeable()
    (self.model, self.target, self.dtype) = (model, target, target == .requantized ? .bf16 : dtype)
    if target == .requantized { _ = try FourBitModelWriter.form(of: model) }
    original = target == .original ? try OriginalWeights(model, path: path) : nil
    // What is written in `dtype` is so in whole, and is measured so.
    for module in model.modules where target != .requantized || module.adapter != nil {
      if MatrixWindow.isMatrix(module) { try note(module) } else { try noteSmall(module) }
    }
    try model.byMatrix {
      for (module, standIn) in standIns {
        let before = module.quantized
        guard target == .requantized || module.adapters.contains(where: { !($0.method is any LowRankMethod) }) else {
          continue
        }
        try module.window?.enter(module)
        if case .quantized(let after) = try standIn.operand().weight, let before { try count(before, after) }
      }
    }
  }

  private func noteSmall(_ module: Module) throws {
    // All but matrices is computed with in f32.
    func rounded(_ tensor: Tensor) throws -> Tensor {
      try tensor.converted(to: self.dtype).converted(to: .f32, category: .weights)
    }
    small.append((module, try rounded(try module.loadedWeight()), try module.bias.map(rounded)))
  }

  private func note(_ module: Module) throws {
    try original?.check(module)
    guard
      let weight = module.adapter?.baseChange?.residual.map({ .dense($0) }) ?? module.linearWeight
    else { throw ModelError.notLoaded(module: module.name) }
    let frozen = Frozen(weight: weight, bias: module.bias, adapters: module.adapters)
    standIns.append((module, StandIn { [unowned self] in try made(module, frozen) }))
  }

  /// The matrix and its bias as they are written.
  private func made(_ module: Module, _ frozen: Frozen) throws -> (weight: LinearWeight, bias: Tensor?) {
    let isStored = module.quantized != nil || module.blocks != nil
    let bias = try frozen.bias?.converted(to: .f32)
    if frozen.adapters.isEmpty, case .dense(let weight) = frozen.weight, weight.dtype == dtype {
      try bias?.round(to: dtype)
      return (frozen.weight, bias)
    }
    let weight = try isStored ? original?.weight(of: module) ?? frozen.dense() : frozen.dense()
    for adapter in frozen.adapters { try adapter.method.merge(adapter.tensors, weight: weight, bias: bias) }
    if target == .requantized, let old = module.quantized {
      let new = try FourBit.quantize(
        weight, kind: old.kind, blockSize: old.blockSize, double: old.nested != nil, rule: model.options.scaleRule,
        name: module.name, category: .activations)
      return (.quantized(new), bias)
    }
    try weight.inRowBlocks { try $0.round(to: dtype) }
    try bias?.round(to: dtype)
    return (.dense(weight), bias)
  }

  private func count(_ before: QuantizedOperand, _ after: QuantizedOperand) throws {
    codes += before.shape.reduce(1, *)
    if let backend = model.backend as? any RehearsalBackend, backend.isRehearsal { return }
    try before.codes.withHostBytes { before in
      try after.codes.withHostBytes { after in
        for (a, b) in zip(before, after) where a != b {
          changedCodes += (a ^ b) & 0xF0 != 0 ? 1 : 0
          changedCodes += (a ^ b) & 0x0F != 0 ? 1 : 0
        }
      }
    }
  }

  /// Runs `body` while the merged weights stand in the places of the model's own and its adapters are away.
  public func run<R>(_ body: () throws -> R) rethrows -> R {
    let before = small.map { ($0.module, $0.module.weight, $0.module.bias) }
    // Others may stand there already: runs lie in runs.
    let others = standIns.map { ($0.module, $0.module.standIn) }
    let (names, wasMerged) = (model.namesInUse, model.computesMerged)
    model.use([])
    model.computesMerged = true
    for (module, weight, bias) in small { (module.weight, module.bias) = (weight, bias) }
    for (module, standIn) in standIns { module.standIn = standIn }
    defer {
      for (module, other) in others { module.standIn = other }
      model.computesMerged = wasMerged
      for (module, weight, bias) in before { (module.weight, module.bias) = (weight, bias) }
      model.use(names)
    }
    return try body()
  }

  /// Goes through the matrices as `save` does, without a file.
  /// - Throws: `TensorError.outOfMemory`.
  package func rehearseSaving() throws {
    try run {
      for module in model.modules where MatrixWindow.isMatrix(module) {
        if target == .requantized { _ = try module.operand() } else { try module.write(in: dtype) { _ in } }
      }
      _ = try model.logits(model.probe)
    }
  }

  /// Computes the few logits of what `save` wrote, whose matrices lie in a file.
  /// - Throws: `TensorError.outOfMemory`.
  package func rehearseReadingBack() throws {
    final class Nobody: Sendable {}
    let matrices = model.modules.filter(MatrixWindow.isMatrix)
    for module in matrices where target != .requantized || module.quantized == nil {
      let file = FileBytes(UnsafeRawBufferPointer(start: nil, count: 0), owner: Nobody())
      let weight = Tensor(storage: try model.backend.adopt(file), dtype: dtype, shape: module.weightShape)
      module.standIn = StandIn { [bias = module.bias] in (.dense(weight), bias) }
    }
    defer { for module in matrices { module.standIn = nil } }
    _ = try model.withoutAdapters { try model.logits(model.probe) }
  }

  /// Bytes of the largest matrix in a file that `save` writes, which it reads back.
  package var savedMatrixByteCount: Int {
    let matrices = model.modules.filter {
      MatrixWindow.isMatrix($0) && !(target == .requantized && $0.quantized != nil)
    }
    return dtype.byteCount * (matrices.map { $0.inFeatures * $0.outFeatures }.max() ?? 0)
  }

  /// Writes the merged model as a Hugging Face folder: in `dtype`, or the 4 bits of `requantized`. Its chat template is
  /// that of the adapters.
  /// - Returns: what is to be said about the folder, a sentence each.
  /// - Throws: as `LanguageModel.save(directory:)` and `saveFourBit(directory:)`.
  @discardableResult
  public func save(directory: String, shardByteCount: Int = ModelFolder.shardByteCount) throws -> [String] {
    let own = model.tokenizer
    model.tokenizer = model.mergedTokenizer
    defer { model.tokenizer = own }
    try run {
      switch target {
      case .requantized: try model.saveFourBit(directory: directory, shardByteCount: shardByteCount)
      case .original, .dequantized:
        try model.save(directory: directory, dtype: dtype, shardByteCount: shardByteCount)
      }
    }
    return target == .requantized ? FourBitModelWriter.said(model.spec, path: directory) : []
  }
}

extension LanguageModel {
  /// Writes a model whose layers are in 4 bits as transformers and bitsandbytes store it, with the tokenizer and
  /// generation settings that it came with. Reads it back as `save(directory:)` does.
  /// - Throws: `ModelError.headerOnly`, `.adaptersAttached`, `.noOriginalWeights` for a layer in no form of such a
  ///   checkpoint; `FormatError`, `TokenizerError`, `TensorError.outOfMemory`.
  public func saveFourBit(directory: String, shardByteCount: Int = ModelFolder.shardByteCount) throws {
    guard isLoaded else { throw ModelError.headerOnly(operation: "save") }
    guard adapters.isEmpty || !usesAdapters else { throw ModelError.adaptersAttached(count: adapters.count) }
    let form = try FourBitModelWriter.form(of: self)
    let location = origin.isRandom ? nil : try ModelLocation(path, allowsKnownNames: false)
    let target = try FolderSave(path: directory, format: ModelFolder.format(of: location, tokenizer))
    let type = modules[0].weight?.dtype ?? .bf16
    let writer = FourBitModelWriter(
      modules: modules, savedName: { self.spec.savedName($0) }, kind: form.kind, blockSize: form.blockSize,
      isDouble: form.nested != nil, modelType: type, denseType: { _ in type }, shardByteCount: shardByteCount)
    var saved = spec.whole
    saved.storedType = FourBitModelWriter.torchName(type)
    saved.quantizationConfig = writer.configuration
    try byMatrix {
      try writer.write(
        into: target.stage, content: Self.content,
        bias: { module in
          guard let bias = try module.operandBias() else { throw ModelError.notLoaded(module: module.name) }
          return bias
        }, progress: { _, _ in }, written: { _ in })
      try AtomicFile.write("\(target.stage)/\(FileName.config)", saved.toJSON().text(.pythonUnsorted) + "\n")
      try ModelFolder.writeCompanions(of: location, tokenizer, into: target.stage)
      try ModelFolder.check(target.stage, describes: saved, path: directory)
      try compareLogits(target.stage, path: directory)
    }
    try target.commit()
  }

  private static func content(_ module: Module) throws -> FourBitModelWriter.Content {
    guard MatrixWindow.isMatrix(module) else { return .dense(try module.loadedWeight()) }
    switch try module.operand().weight {
    case .quantized(let operand): return .quantized(operand)
    case .dense(let weight): return .dense(weight)
    case .blocks: throw ModelError.noOriginalWeights(path: module.name, problem: .notQuantized(module: module.name))
    }
  }
}

extension Tensor {
  /// Rounds f32 elements to the nearest of another type, in place.
  fileprivate func round(to dtype: DType) throws {
    if dtype != self.dtype { try backend.copy(try converted(to: dtype, category: .workspace), into: self) }
  }
}
