import Formats
import Quantization
import Tensors
import Tokenizers

/// Turns a checkpoint (a Hugging Face directory or a GGUF file) into a 4-bit one that this engine maps without a copy
/// and that transformers and bitsandbytes load, but for models with experts. Tensor by tensor: the peak is one tensor
/// in f32 and its 4-bit form.
package struct ModelQuantizer {
  package struct Options: Sendable {
    package var kind: FourBitKind = .nf4
    package var blockSize = 64
    package var doubleQuantization = true
    package var scaleRule = ScaleRule.nearest
    /// Type of the tensors that are not quantized; nil keeps the stored one (f32 for GGUF's block formats).
    package var denseType: DType?
    /// Most bytes of one file.
    package var shardByteCount = 5_000_000_000

    package init() {}

    /// - Throws: for what no 4-bit checkpoint can be, and where something exists at `output`.
    func check(_ output: String) throws {
      guard kind != .int4 else {
        throw ModelError.badOption(
          name: "quant", value: "int4", expected: "nf4 or fp4: no checkpoint format stores int4")
      }
      guard FourBit.blockSizes.contains(blockSize) else {
        throw ModelError.badOption(name: "block", value: String(blockSize), expected: "one of \(FourBit.blockSizes)")
      }
      guard !FileSystem.exists(output) else { throw FormatError.alreadyExists(path: output) }
    }
  }

  let backend: any Backend
  let options: Options

  package init(backend: any Backend, options: Options) {
    self.backend = backend
    self.options = options
  }

  /// Writes the 4-bit checkpoint of `input`.
  /// - Parameters:
  ///   - input: a Hugging Face directory, a GGUF file or a hub name in the cache.
  ///   - output: a folder that does not exist yet.
  ///   - progress: called with each module's name, how many are done and how many there are.
  /// - Returns: bytes of the tensors written, and what is to be said about both checkpoints, a sentence each.
  /// - Throws: `FormatError` or `ModelError`; then nothing is left at `output`. Every byte is read back, and the
  ///   configuration and the form of each matrix are compared with what was to be written.
  @discardableResult
  package func convert(
    _ input: String, to output: String, progress: (String, Int, Int) throws -> Void = { _, _, _ in }
  ) throws -> (byteCount: Int, said: [String]) {
    try options.check(output)
    let location = try ModelLocation(input, allowsKnownNames: false)
    let checkpoint = try Checkpoint(location)
    let (spec, source) = (checkpoint.spec, checkpoint.source)
    // bitsandbytes replaces modules; such experts are none in transformers.
    if spec.modules.experts?.isStacked ?? false {
      throw FormatError.unsupportedModel(
        path: input, field: "model_type", value: spec.modelType,
        supported: Families.all.filter { !($0.modules.experts?.isStacked ?? false) }.map { $0.modelType })
    }
    var load = LoadOptions(
      quantization: options.kind, blockSize: options.blockSize, doubleQuantization: options.doubleQuantization)
    load.scaleRule = options.scaleRule
    let loader = ModelLoader(backend: backend, options: load)
    let modules = ModuleTree(spec).modules
    for module in modules { try refuseQuantized(module, source) }
    let writer = FourBitModelWriter(
      modules: modules, savedName: { spec.savedName($0) }, kind: options.kind, blockSize: options.blockSize,
      isDouble: options.doubleQuantization,
      modelType: try denseType(modules[0].weightName, source), denseType: { try denseType($0, source) },
      shardByteCount: options.shardByteCount)
    let needed = try writer.byteCount()
    let free = try FileSystem.freeByteCount(output)
    guard needed < free else { throw FormatError.diskTooSmall(path: output, needed: needed, free: free) }
    let target = try AtomicDirectory(path: output)
    try writer.write(
      into: target.stage,
      content: { module in
        let name = module.weightName
        if FourBitModelWriter.isQuantized(module) {
          return .quantized(try loader.quantize(name, as: options.kind, shape: module.weightShape, source))
        }
        return .dense(try dense(name, shape: module.weightShape, source, loader))
      },
      bias: { try dense($0.name + ".bias", shape: $0.biasShape, source, loader) },
      progress: { try progress($0.name, $1, modules.count) },
      written: { source.release($0.weightName) })
    try writeConfiguration(location, spec, writer, stage: target.stage)
    try check(target.stage, spec, modules, path: output)
    try target.commit()
    return (needed, checkpoint.said + FourBitModelWriter.said(spec, path: output))
  }

  private func refuseQuantized(_ module: Module, _ source: LoadedSource) throws {
    let name = module.weightName
    guard source.contains(name) else { throw ModelError.missingTensor(name: name, path: source.path) }
    for kind in FourBitKind.allCases where source.contains("\(name).quant_state.bitsandbytes__\(kind.rawValue)") {
      throw ModelError.badQuantization(tensor: name, path: source.path, problem: .alreadyQuantized(kind))
    }
  }

  private func denseType(_ name: String, _ source: LoadedSource) throws -> DType {
    if let wanted = options.denseType { return wanted }
    guard source.contains(name) else { throw ModelError.missingTensor(name: name, path: source.path) }
    guard let (_, dtype) = try source.rawBytes(name), dtype.isFloat else { return .f32 }
    return dtype
  }

  private func dense(_ name: String, shape: [Int], _ source: LoadedSource, _ loader: ModelLoader) throws -> Tensor {
    try loader.mapped(name, shape: shape, source) ?? loader.decoded(name, shape: shape, source, as: .f32, .workspace)
  }

  // MARK: Other files

  /// config.json with `quantization_config`, and what lies beside the weights.
  private func writeConfiguration(
    _ location: ModelLocation, _ spec: DecoderSpec, _ writer: FourBitModelWriter, stage: String
  ) throws {
    var members = spec.toJSON().object ?? JSONObject()
    if case .directory(let folder) = location {
      // What is written of a multimodal model is its text model alone.
      if !spec.isPart, let own = try JSON.read(path: "\(folder)/\(FileName.config)").object { members = own }
      try ModelFolder.writeCompanions(of: location, nil, into: stage)
    } else {
      try ModelFolder.writeCompanions(of: nil, try location.tokenizer(), into: stage)
    }
    // Old and new name of the same field; what it said of the source may be untrue of these tensors.
    let names = ["dtype", "torch_dtype"].filter { members[$0] != nil }
    for name in names.isEmpty ? ["torch_dtype"] : names {
      members[name] = .string(FourBitModelWriter.torchName(writer.modelType))
    }
    members["quantization_config"] = writer.configuration
    // A head of its own beside a flag that ties it was read as what it is.
    if members["tie_word_embeddings"] != nil || !spec.tiesEmbeddings {
      members["tie_word_embeddings"] = .bool(spec.tiesEmbeddings)
    }
    try AtomicFile.write(
      "\(stage)/\(FileName.config)", JSON.object(members).text(.pythonUnsorted) + "\n")
  }

  /// Reads the checkpoint as loading does, matrix by matrix; the bytes were compared when they were written.
  private func check(_ stage: String, _ spec: DecoderSpec, _ modules: [Module], path: String) throws {
    try ModelFolder.check(stage, describes: spec.whole, path: path)
    let written = try ModelLocation.directory(stage).weights()
    for module in modules {
      let name = spec.savedName(module.name) + module.weightEnding
      let stored = try PrequantizedWeight(written, name, shape: module.weightShape, backend)?.operand
      let isRight =
        FourBitModelWriter.isQuantized(module)
        ? stored?.kind == options.kind && stored?.blockSize == options.blockSize
          && (stored?.nested != nil) == options.doubleQuantization
        : stored == nil && written.contains(name)
      guard isRight else { throw FormatError.readsBackDifferently(path: path, what: name) }
    }
  }
}
