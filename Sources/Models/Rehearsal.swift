import Formats
import Tensors

/// A twin of a model on a backend that computes nothing: loaded tensor by tensor as `ModelLoader` would load it, with
/// the same adapters, so that a training step can be gone through for its allocations alone. Needs no weights.
public struct Rehearsal {
  public let model: LanguageModel
  /// Bytes of the file that stay mapped because tensors are views of it.
  public private(set) var mappedByteCount = 0
  /// The highest memory while loading, with the pages of the file that were being read.
  public private(set) var loadPeak = 0

  private let source: LoadedSource?
  private let backend: any RehearsalBackend

  /// - Parameter original: a model of which at least the configuration was read.
  public init(of original: LanguageModel, on backend: any RehearsalBackend) throws {
    self.backend = backend
    source = try? ModelLocation(original.path, allowsKnownNames: true).weights()
    model = try LanguageModel(
      config: original.config, path: original.path, options: original.options, backend: backend)
    for (module, twin) in zip(original.modules, model.modules) { try load(twin, as: module) }
    for (module, twin) in zip(original.modules, model.modules) { twin.adapter = try adapter(module) }
    model.isLoaded = true
    model.checkpointing = original.checkpointing
    model.checkpointInterval = original.checkpointInterval
  }

  // MARK: Loading, as ModelLoader does it

  private mutating func load(_ twin: Module, as module: Module) throws {
    if module.hasBias {
      twin.bias = try dense(module.name + ".bias", [module.outFeatures], keep: .f32)
      twin.bias?.requiresGradient = module.bias?.requiresGradient ?? false
    }
    let name = module.name + ".weight"
    if source?.contains(name + ".absmax") ?? false, module.quantization != nil {
      twin.quantized = try quantized(name, module, kind: module.quantization ?? .nf4, isStored: true)
    } else if let kind = module.quantization, module.kind == .linear {
      twin.quantized = try quantized(name, module, kind: kind, isStored: false)
    } else {
      twin.weight = try dense(name, module.weightShape, keep: module.kind == .norm ? .f32 : module.weight?.dtype)
      twin.weight?.requiresGradient = module.weight?.requiresGradient ?? false
    }
  }

  /// The type in which a tensor can be used where it lies in the file; nil when it has to be decoded. What is not here
  /// is taken to be published in bf16.
  private func storedType(_ name: String) -> DType? {
    guard let source else { return .bf16 }
    guard let (bytes, dtype) = try? source.rawBytes(name), dtype.isFloat,
      UInt(bitPattern: bytes.baseAddress) % UInt(dtype.byteCount) == 0
    else { return nil }
    return dtype
  }

  private mutating func note(reading byteCount: Int) {
    loadPeak = max(loadPeak, backend.peakResidentByteCount + mappedByteCount + byteCount)
    backend.resetResidentPeak()
  }

  private mutating func dense(_ name: String, _ shape: [Int], keep: DType?) throws -> Tensor {
    let count = shape.reduce(1, *)
    let stored = model.path == "new" ? nil : storedType(name)
    let wanted = keep ?? (stored == .f16 ? .f16 : model.computeType)
    defer { note(reading: 0) }
    if let stored {
      mappedByteCount += count * stored.byteCount
      if stored == wanted || keep == nil && stored != .f32 {
        // Shapes and types are all that a rehearsal looks at, so any bytes will do.
        let view = UnsafeRawBufferPointer(start: nil, count: 0)
        return Tensor(storage: Storage(viewing: view, owner: Nobody(), backend: backend), dtype: stored, shape: shape)
      }
    }
    if stored == nil, wanted != .f32 {
      let values = try Tensor(empty: shape, category: .workspace, on: backend)
      note(reading: source?.byteCount(name) ?? 0)
      return try withExtendedLifetime(values) {
        try Tensor(empty: shape, dtype: wanted, category: .weights, on: backend)
      }
    }
    return try Tensor(empty: shape, dtype: wanted, category: .weights, on: backend)
  }

  private mutating func quantized(
    _ name: String, _ module: Module, kind: FourBitKind, isStored: Bool
  ) throws -> QuantizedOperand {
    let count = module.outFeatures * module.inFeatures
    let stored = model.path == "new" ? nil : storedType(name)
    defer { note(reading: source?.byteCount(name) ?? stored.map { count * $0.byteCount } ?? 0) }
    let isDecoded = stored == nil && !isStored
    let values = try isDecoded ? Tensor(empty: module.weightShape, category: .workspace, on: backend) : nil
    defer { withExtendedLifetime(values) {} }
    let blockSize = module.quantized?.blockSize ?? model.options.blockSize
    let blocks = (count + blockSize - 1) / blockSize
    func weights(_ count: Int, _ dtype: DType) throws -> Tensor {
      try Tensor(empty: [count], dtype: dtype, category: .weights, on: backend)
    }
    let isDouble = module.quantized.map { $0.nested != nil } ?? model.options.doubleQuantization
    let codes: Tensor
    if isStored {
      mappedByteCount += (count + 1) / 2 + (isDouble ? blocks : 0)
      codes = try Tensor(empty: [0], dtype: .u8, on: backend)
    } else {
      codes = try weights((count + 1) / 2, .u8)
    }
    let absmax = try Tensor(empty: [blocks], category: isDouble ? .workspace : .weights, on: backend)
    let codebook = try weights(16, .f32)
    guard isDouble else {
      return QuantizedOperand(
        kind: kind, shape: module.weightShape, blockSize: blockSize, codes: codes, codebook: codebook, absmax: absmax,
        nested: nil)
    }
    let map = try weights(256, .f32)
    let scaleCodes = isStored ? try weights(0, .u8) : try weights(blocks, .u8)
    let nested = QuantizedOperand.Nested(absmax: try weights((blocks + 255) / 256, .f32), map: map, offset: 0)
    return QuantizedOperand(
      kind: kind, shape: module.weightShape, blockSize: blockSize, codes: codes, codebook: codebook,
      absmax: scaleCodes, nested: nested)
  }

  private func adapter(_ module: Module) throws -> LowRankAdapter? {
    guard let original = module.adapter else { return nil }
    let matrices = try [original.a, original.b].map { matrix in
      let twin = try Tensor(empty: matrix.shape, category: .adapters, on: backend)
      twin.requiresGradient = matrix.requiresGradient
      return twin
    }
    return LowRankAdapter(
      moduleName: original.moduleName, rank: original.rank, alpha: original.alpha, dropout: original.dropout,
      rankStabilised: original.rankStabilised, learningRateFactor: original.learningRateFactor, a: matrices[0],
      b: matrices[1])
  }

  private final class Nobody: Sendable {}
}
