import Formats
import Tensors

/// A twin of a model on a backend that computes nothing: loaded tensor by tensor as `ModelLoader` would load it, with
/// the same adapters, so that a training step can be gone through for its allocations alone. Needs no weights.
package struct Rehearsal {
  package let model: LanguageModel
  /// Bytes of the file that are in memory because tensors are views of it: all of them, or the window.
  package private(set) var fileByteCount = 0
  /// Bytes that streaming brings in for one forward and backward pass.
  package private(set) var streamedByteCount = 0
  /// The highest memory while loading, with the part of the file that was being read.
  package private(set) var loadPeak = 0

  private let source: LoadedSource?
  private let backend: any RehearsalBackend
  private let streams: Bool
  private let isOriginalLoaded: Bool
  /// Bytes of views of the file of the largest matrix, and of all that are no matrices.
  private var (largestMatrix, rest) = (0, 0)
  /// Bytes of views of the file by layer, those of the output module, and all.
  private var layerByteCounts: [Int]
  private var outputByteCount = 0
  private var mappedByteCount = 0
  private var denseViews: [Range<UInt>] = []

  /// Loads the twin and its adapters.
  /// - Parameters:
  ///   - original: a model of which at least the configuration was read.
  ///   - streams: whether the base stays on disk. What is not stored in 4 bits is then taken to have been written so
  ///     (`ModelQuantizer`).
  ///   - byMatrix: whether one matrix of the base is in memory at a time, where it lies in a file; `streams` is false
  ///     then.
  ///   - stage: loads this stage of the model; nil what the original has.
  ///   - backend: computes nothing and counts allocations.
  /// - Throws: `TensorError.outOfMemory`; `ModelError` as `LanguageModel.init`.
  package init(
    of original: LanguageModel, streams: Bool, byMatrix: Bool = false, stage: Int? = nil,
    on backend: any RehearsalBackend
  ) throws {
    self.backend = backend
    self.streams = streams
    isOriginalLoaded = original.isLoaded
    layerByteCounts = Array(repeating: 0, count: original.spec.layerCount)
    source = original.origin.isRandom ? nil : try? ModelLocation(original.path, allowsKnownNames: true).weights()
    var options = original.options
    if let stage { options.stage?.index = stage }
    model = try LanguageModel(original.spec, origin: original.origin, options: options, backend: backend)
    for (module, twin) in zip(original.modules, model.modules) where model.reads(twin) {
      let before = mappedByteCount
      try load(twin, as: module)
      if let layer = twin.layer { layerByteCounts[layer] += mappedByteCount - before }
      if MatrixWindow.isMatrix(twin) {
        largestMatrix = max(largestMatrix, mappedByteCount - before)
      } else {
        rest += mappedByteCount - before
      }
      if twin === model.outputModule { outputByteCount += mappedByteCount - before }
    }
    if streams {
      fileByteCount = WeightStream.windowByteCount(layerByteCounts, output: outputByteCount)
      streamedByteCount = 2 * layerByteCounts.reduce(0, +) + outputByteCount
    } else if byMatrix {
      fileByteCount = largestMatrix + rest
    } else {
      let dense = denseViews.reduce(0) { $0 + $1.count }
      fileByteCount =
        original.isLoaded
        ? original.mappedByteCount : mappedByteCount - dense + LanguageModel.mappedByteCount(denseViews)
    }
    backend.memory.charge(fileByteCount, .file)
    let twins = Dictionary(uniqueKeysWithValues: zip(original.modules.map(ObjectIdentifier.init), model.modules))
    var common: [ObjectIdentifier: Tensor] = [:]
    for set in original.adapterSets + original.variantsAside.values.flatMap(\.adapterSets) {
      for tensor in set.members.flatMap({ $0.adapter.method.shared.map(\.tensor) })
      where common[ObjectIdentifier(tensor)] == nil {
        common[ObjectIdentifier(tensor)] = try Tensor(empty: tensor.shape, category: .adapters, on: backend)
      }
    }
    func copies(_ sets: [AdapterSet]) throws -> [AdapterSet] {
      try sets.map { set in
        AdapterSet(
          set.name,
          try set.members.compactMap { module, adapter -> (module: Module, adapter: Adapter)? in
            guard let twin = twins[ObjectIdentifier(module)] else { return nil }
            return (twin, model.holds(twin) ? try self.twin(of: adapter, on: twin, common) : try elsewhere(adapter))
          })
      }
    }
    model.adapterSets = try copies(original.adapterSets)
    model.use(original.namesInUse)
    model.variant = original.variant
    model.variantsAside = try original.variantsAside.mapValues { variant in
      var twin = variant
      twin.adapterSets = try copies(variant.adapterSets)
      return twin
    }
    for (module, twin) in zip(original.modules, model.modules) {
      twin.trained = try module.trained.map {
        try TrainedParts(of: twin, weight: $0.trainsWeight, bias: $0.trainsBias, requiresGradient: true)
      }
    }
    model.isLoaded = true
    model.checkpointing = original.checkpointing
    model.checkpointInterval = original.checkpointInterval
  }

  /// Whether a model of which only the configuration was read could leave its base on disk.
  package static func canStream(_ model: LanguageModel) -> Bool {
    guard !model.origin.isRandom, let source = try? ModelLocation(model.path, allowsKnownNames: true).weights() else {
      return false
    }
    return model.modules.allSatisfy { module in
      guard module.layer != nil, module.kind == .linear else { return true }
      let name = module.weightName
      if source.contains(name + ".absmax") { return true }
      if module.blockFormat != nil { return (try? source.blocks(name)) != nil }
      return module.quantization == nil && (try? source.rawBytes(name)) != nil
    }
  }

  // MARK: Loading, as ModelLoader does it

  private mutating func load(_ twin: Module, as module: Module) throws {
    if module.hasBias {
      twin.bias = try dense(module.name + ".bias", module.biasShape, keep: .f32, maps: false)
      twin.bias?.requiresGradient = module.bias?.requiresGradient ?? false
    }
    let name = module.weightName
    if let format = module.blockFormat {
      twin.blocks = try blocks(name, module, format)
    } else if source?.contains(name + ".absmax") ?? false, module.quantization != nil || !module.isLoaded {
      twin.quantized = try quantized(name, module, kind: module.quantization ?? .nf4, isStored: true)
    } else if let kind = module.quantization, module.kind == .linear {
      twin.quantized = try quantized(name, module, kind: kind, isStored: streams)
    } else {
      let stored = module.isRouter ? storedType(name) ?? .f32 : nil
      let own = module.weight?.dtype ?? keptType(name, module) ?? stored
      twin.weight = try dense(
        name, module.weightShape, keep: module.kind.isWide ? .f32 : own, maps: !module.kind.isWide)
      twin.weight?.requiresGradient = module.weight?.requiresGradient ?? false
    }
  }

  /// The type in which a tensor can be used where it lies in the file; nil when it has to be decoded, or is in memory
  /// without a file. What is not here is taken to be published in bf16.
  private func storedType(_ name: String) -> DType? {
    guard let source else { return isOriginalLoaded || model.origin.isRandom ? nil : .bf16 }
    guard let (bytes, dtype) = try? source.rawBytes(name), dtype.isFloat,
      UInt(bitPattern: bytes.baseAddress) % UInt(dtype.byteCount) == 0
    else { return nil }
    return dtype
  }

  /// The dtype of a weight that is kept in floating point; nil where the options do not keep it.
  private func keptType(_ name: String, _ module: Module) -> DType? {
    model.options.keeps(module) ? try? source?.floatType(name) : nil
  }

  private mutating func note(reading byteCount: Int) {
    loadPeak = max(loadPeak, backend.peakResidentByteCount + byteCount)
    backend.resetResidentPeak()
  }

  private mutating func dense(_ name: String, _ shape: [Int], keep: DType?, maps: Bool) throws -> Tensor {
    let count = shape.reduce(1, *)
    let stored = storedType(name)
    let wanted = keep ?? (stored == .f16 ? .f16 : model.computeType)
    var read = 0
    defer { note(reading: read) }
    if let stored {
      if maps, stored == wanted || keep == nil && stored != .f32 {
        mappedByteCount += count * stored.byteCount
        if let bytes = try? source?.rawBytes(name)?.bytes, let base = bytes.baseAddress, !streams {
          let start = UInt(bitPattern: base)
          denseViews.append(start..<start + UInt(bytes.count))
        }
        // Shapes and types are all that a rehearsal looks at, so any bytes will do.
        let view = UnsafeRawBufferPointer(start: nil, count: 0)
        return Tensor(
          storage: try backend.adopt(FileBytes(view, owner: Nobody())), dtype: stored, shape: shape)
      }
      read = count * stored.byteCount
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

  /// A matrix that is a view of the file.
  private mutating func blocks(_ name: String, _ module: Module, _ format: GGMLType) throws -> BlockOperand {
    let view = UnsafeRawBufferPointer(start: nil, count: 0)
    let operand = BlockOperand(
      format: format, shape: module.weightShape,
      bytes: Tensor(storage: try backend.adopt(FileBytes(view, owner: Nobody())), dtype: .u8, shape: [0]))
    mappedByteCount += operand.byteCount
    for bytes in (try? source?.blocks(name)?.parts) ?? [] where !streams {
      let start = UInt(bitPattern: bytes.baseAddress)
      denseViews.append(start..<start + UInt(bytes.count))
    }
    return operand
  }

  private mutating func quantized(
    _ name: String, _ module: Module, kind: FourBitKind, isStored: Bool
  ) throws -> QuantizedOperand {
    let count = module.outFeatures * module.inFeatures
    let stored = storedType(name)
    // What is stored in 4 bits is not read before it is used.
    let read = isStored ? 0 : source?.byteCount(name) ?? stored.map { count * $0.byteCount } ?? 0
    defer { note(reading: read) }
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
      mappedByteCount += (count + 1) / 2 + blocks * (isDouble ? 1 : DType.f32.byteCount)
      codes = try Tensor(empty: [0], dtype: .u8, on: backend)
    } else {
      codes = try weights((count + 1) / 2, .u8)
    }
    let absmax =
      try isStored
      ? weights(0, .f32) : Tensor(empty: [blocks], category: isDouble ? .workspace : .weights, on: backend)
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

  /// The adapter of a module that another process holds.
  private func elsewhere(_ adapter: Adapter) throws -> Adapter {
    try adapter.replacing { original in
      let twin = try Tensor(elsewhere: original.shape, on: backend)
      twin.requiresGradient = original.requiresGradient
      return twin
    }
  }

  /// What an adapter took out of the weight of its module leaves a second one.
  private func twin(
    of adapter: Adapter, on module: Module, _ common: [ObjectIdentifier: Tensor]
  ) throws -> Adapter {
    func copy(_ original: Tensor) throws -> Tensor {
      let twin = try Tensor(empty: original.shape, category: .adapters, on: backend)
      twin.requiresGradient = original.requiresGradient
      return twin
    }
    let change = try adapter.baseChange.map { change in
      let residual = try module.weight.map {
        try Tensor(empty: $0.shape, dtype: $0.dtype, category: .weights, on: backend)
      }
      return BaseChange(start: try change.start.map(copy), residual: residual)
    }
    return try adapter.replacing(copy, shared: { common[ObjectIdentifier($0)] ?? $0 }, baseChange: change)
  }

  private final class Nobody: Sendable {}
}
