import Quantization
import Tensors
import Tokenizers

/// Reads models: Hugging Face directories (also bitsandbytes 4-bit checkpoints), GGUF files, names in the hub cache.
///
/// Weights are read and quantized tensor by tensor, so the peak is the quantized model and one tensor in f32. Weights
/// that stay in 16 bits are views of the mapped file where the device can compute on it.
public struct ModelLoader {
  let backend: any Backend
  let options: LoadOptions

  /// Keeps both; options are checked by `load`.
  public init(backend: any Backend, options: LoadOptions) {
    self.backend = backend
    self.options = options
  }

  /// Reads configuration, weights and tokenizer, and decides whether the base is streamed; see `LoadOptions`.
  ///
  /// A matrix that the file holds in bitsandbytes' 4 bits stays so; options that ask for another form are errors. Norms
  /// and biases become f32.
  /// - Parameter path: a directory, a `.gguf` file or a hub name; with `headerOnly` also a config.json or the name of
  ///   a well-known model.
  /// - Returns: the model; with `headerOnly` without weights and tokenizer, with `smoke` a small random one.
  /// - Throws: `ModelError.badOption` for a compute type or block size that is not allowed; `.unknownModule` for a name
  ///   in `moduleQuantization`; `.unrecognisedPath`, `.missingTensor`, `.missingHead`, `.unknownTensor`,
  ///   `.badQuantization`, `.nonFiniteWeight`, `.cannotStream`; `FormatError` for a file that is missing, damaged or
  ///   not supported, such as `.notCached`, `.missingFile`, `.json`, `.badField`, `.unsupportedModel`,
  ///   `.unsupportedType`, `.shape`, `.outOfBounds`; `TokenizerError` for a tokenizer that cannot be read;
  ///   `TensorError.outOfMemory`, `.noThread`.
  public func load(_ path: String) throws -> LanguageModel {
    guard options.computeType == .f32 || options.computeType == .bf16 else {
      throw ModelError.badOption(name: "compute", value: options.computeType.name, expected: "\"f32\" or \"bf16\"")
    }
    if options.quantization != nil || !options.moduleQuantization.isEmpty,
      !FourBit.blockSizes.contains(options.blockSize)
    {
      throw ModelError.badOption(
        name: "block", value: String(options.blockSize), expected: "one of \(FourBit.blockSizes)")
    }
    try options.checkKeeping()
    if options.smoke {
      // A recipe must run where its model is not, so a path that leads nowhere gives a plain Llama.
      return try smokeModel(try? ModelLocation(path, allowsKnownNames: true), path)
    }
    let location = try ModelLocation(path, allowsKnownNames: options.headerOnly)
    if options.headerOnly {
      let (spec, said) = try location.specAndNotices()
      let model = try LanguageModel(spec, origin: .file(path), options: options, backend: backend)
      try options.check(spec.quantizationConfig, path: path)
      if options.keepsBlocks { try planKept(model, location) }
      model.notices = said
      if options.readsTokenizer { model.tokenizer = try location.tokenizer() }
      return model
    }
    let checkpoint = try Checkpoint(location)
    let model = try LanguageModel(checkpoint.spec, origin: .file(path), options: options, backend: backend)
    model.notices = checkpoint.said
    let source = checkpoint.source
    for module in model.modules where model.reads(module) { try read(module, of: model, from: source) }
    if options.keepsBlocks { try requireKept(model, source) }
    model.isLoaded = true
    model.tokenizer = try location.tokenizer()
    source.releaseAll()
    try model.chooseStreaming()
    return model
  }

  // MARK: Modules

  private func read(_ module: Module, of model: LanguageModel, from source: LoadedSource) throws {
    let weightName = module.weightName
    if module.hasBias {
      module.bias = try small(module.name + ".bias", shape: module.biasShape, source)
    }
    if module.kind == .linear,
      let stored = try PrequantizedWeight(source, weightName, shape: module.weightShape, backend)
    {
      try options.check(stored.operand, weightName, of: module, path: source.path)
      module.quantized = stored.operand
      return
    }
    guard source.contains(weightName) else { throw ModelError.missingTensor(name: weightName, path: source.path) }
    switch module.kind {
    case .norm, .convolution, .vector:
      module.weight = try small(weightName, shape: module.weightShape, source)
    case .linear, .embedding:
      if let kind = options.quantization(of: module) {
        if options.streams == true { throw ModelError.cannotStream(path: source.path) }
        module.quantized = try quantize(weightName, as: kind, shape: module.weightShape, source)
      } else if module.isRouter {
        // Computed in f32 whatever it is stored in.
        module.weight =
          try mapped(weightName, shape: module.weightShape, source)
          ?? decoded(weightName, shape: module.weightShape, source, as: .f32, .weights)
      } else if options.keeps(module) {
        module.blocks = try kept(weightName, shape: module.weightShape, source)
        if module.blocks == nil {
          module.weight = try dense(
            weightName, shape: module.weightShape, source, keep: try source.floatType(weightName))
        }
      } else {
        module.weight = try dense(weightName, shape: module.weightShape, source, keep: nil)
      }
    }
  }

  /// Quantizes one tensor from its stored precision; the f32 copy of a tensor stored in another form is released at
  /// once.
  func quantize(
    _ name: String, as kind: FourBitKind, shape: [Int], _ source: LoadedSource
  ) throws -> QuantizedOperand {
    let values = try mapped(name, shape: shape, source) ?? decoded(name, shape: shape, source, as: .f32, .workspace)
    defer { source.release(name) }
    do {
      return try FourBit.quantize(
        values, kind: kind, blockSize: options.blockSize, double: options.doubleQuantization,
        rule: options.scaleRule, name: name)
    } catch QuantizationError.nonFinite(let tensor, let index) {
      throw ModelError.nonFiniteWeight(tensor: tensor, index: index, path: source.path)
    }
  }

  /// A tensor that stays in floating point: mapped as it is stored when that serves, else decoded.
  /// `keep` is the dtype wanted; nil keeps a stored 16-bit type and brings all others to the compute type.
  private func dense(_ name: String, shape: [Int], _ source: LoadedSource, keep: DType?) throws -> Tensor {
    let wanted = keep ?? options.computeType
    if let view = try mapped(name, shape: shape, source) {
      if view.dtype == wanted || keep == nil && view.dtype != .f32 { return view }
      defer { source.release(name) }
      return try view.converted(to: wanted, category: .weights)
    }
    return try decoded(name, shape: shape, source, as: wanted, .weights)
  }

  /// A small tensor in f32, never mapped: the system may map the 2 MiB of the file around what is touched.
  private func small(_ name: String, shape: [Int], _ source: LoadedSource) throws -> Tensor {
    let tensor = try dense(name, shape: shape, source, keep: .f32)
    return tensor.storage.file == nil ? tensor : try tensor.copied(category: .weights)
  }

  /// The file's own bytes, as the backend adopts them, when they are plain f32, bf16 or f16 and aligned.
  func mapped(_ name: String, shape: [Int], _ source: LoadedSource) throws -> Tensor? {
    try source.expect(name, shape: shape)
    guard let (bytes, dtype) = try source.rawBytes(name), dtype.isFloat,
      UInt(bitPattern: bytes.baseAddress) % UInt(dtype.byteCount) == 0
    else { return nil }
    return Tensor(storage: try backend.adopt(FileBytes(bytes, owner: source.owner)), dtype: dtype, shape: shape)
  }

  func decoded(
    _ name: String, shape: [Int], _ source: LoadedSource, as dtype: DType, _ category: MemoryCategory
  ) throws -> Tensor {
    try source.expect(name, shape: shape)
    let values = try Tensor(empty: shape, category: dtype == .f32 ? category : .workspace, on: backend)
    try values.withMutableHostBytes { bytes in
      guard let base = bytes.bindMemory(to: Float.self).baseAddress else { return }
      try source.read(name, into: base)
    }
    source.release(name)
    return dtype == .f32 ? values : try values.converted(to: dtype, category: category)
  }
}
