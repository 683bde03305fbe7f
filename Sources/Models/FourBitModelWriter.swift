import Formats
import Quantization
import Tensors

/// Writes a model as transformers and bitsandbytes store it in 4 bits: sharded safetensors with an index. One module's
/// tensors are held at a time, because every size is known from the shapes.
struct FourBitModelWriter {
  let modules: [Module]
  /// What a module is called in the folder.
  let savedName: (String) -> String
  let kind: FourBitKind
  let blockSize: Int
  let isDouble: Bool
  /// What a quantized matrix is said to have been before, and the type of what stays in floating point.
  let modelType: DType
  /// Stored type of a tensor that stays in floating point, by the name it has in the model.
  let denseType: (String) throws -> DType
  let shardByteCount: Int

  enum Content {
    case quantized(QuantizedOperand)
    case dense(Tensor)
  }

  typealias Declaration = (name: String, dtype: DType, shape: [Int])

  /// Linear layers but the output one, as transformers chooses by default.
  static func isQuantized(_ module: Module) -> Bool { module.isFourBitByDefault }

  /// The form of the 4-bit matrices of a model, if a checkpoint can have it: NF4 or FP4, one for all.
  /// - Throws: `ModelError.noOriginalWeights` that names the first matrix which is in another form, or in none.
  static func form(of model: LanguageModel) throws -> QuantizedOperand {
    func refuse(_ problem: ModelError.OriginalProblem) -> ModelError {
      .noOriginalWeights(path: model.path, problem: problem)
    }
    if let wide = model.modules.first(where: { isQuantized($0) && $0.quantized == nil }) {
      throw refuse(.notQuantized(module: wide.name))
    }
    guard let form = model.modules.lazy.filter(isQuantized).compactMap(\.quantized).first else {
      throw refuse(.nothingQuantized)
    }
    for module in model.modules {
      guard let own = module.quantized else { continue }
      guard own.kind != .int4 else { throw refuse(.notStorable(module: module.name, own.kind)) }
      guard isQuantized(module), own.kind == form.kind, own.blockSize == form.blockSize,
        (own.nested == nil) == (form.nested == nil)
      else { throw refuse(.otherForm(module: module.name)) }
    }
    return form
  }

  /// What is to be said about a folder at `path` with this decoder. transformers 5 has the matrices of all experts of a
  /// layer in one parameter, and bitsandbytes replaces modules alone.
  static func said(_ spec: DecoderSpec, path: String) -> [String] {
    guard spec.layers.contains(where: \.hasExperts) else { return [] }
    return [
      "\(path): the experts are in 4 bits, a matrix each; this program reads that, transformers does not: bitsandbytes "
        + "does not quantize experts there"
    ]
  }

  /// Writes the shards and, where there are several, their index.
  /// - Parameters:
  ///   - stage: the folder to write into.
  ///   - content: makes one module's weight, in the declared form.
  ///   - bias: makes its bias.
  ///   - progress: called before each module with the modules done so far.
  ///   - written: called when a module's tensors are in the file.
  /// - Throws: `FormatError`; what the closures throw; `TensorError.outOfMemory`.
  func write(
    into stage: String, content: (Module) throws -> Content, bias: (Module) throws -> Tensor,
    progress: (Module, Int) throws -> Void, written: (Module) -> Void
  ) throws {
    let shards = try self.shards()
    var done = 0
    var total = 0
    var map = JSONObject()
    for (number, shard) in shards.enumerated() {
      let name = SafetensorsShards.name(number + 1, of: shards.count)
      let declarations = try shard.flatMap { try self.declarations($0) }
      let file = try SafetensorsAssembler(path: "\(stage)/\(name)", declarations)
      for module in shard {
        try progress(module, done)
        try write(module, try content(module), to: file)
        if module.hasBias { try writeDense(".bias", of: module, try bias(module), to: file) }
        written(module)
        done += 1
      }
      try file.commit()
      total += file.byteCount
      for declaration in declarations { map[declaration.name] = .string(name) }
    }
    if shards.count > 1 { try SafetensorsShards.writeIndex(folder: stage, map, byteCount: total) }
  }

  /// Bytes of all tensors.
  func byteCount() throws -> Int { try modules.reduce(0) { try $0 + byteCount(of: $1) } }

  /// The member `quantization_config` of config.json, as transformers 5 writes it.
  var configuration: JSON {
    [
      "quant_method": "bitsandbytes", "load_in_4bit": true, "_load_in_4bit": true, "load_in_8bit": false,
      "_load_in_8bit": false, "bnb_4bit_quant_type": .string(kind.rawValue),
      "bnb_4bit_use_double_quant": .bool(isDouble), "bnb_4bit_compute_dtype": .string(Self.torchName(modelType)),
      "bnb_4bit_quant_storage": "uint8", "llm_int8_skip_modules": .null, "llm_int8_threshold": 6.0,
      "llm_int8_enable_fp32_cpu_offload": false, "llm_int8_has_fp16_weight": false,
    ]
  }

  static func torchName(_ dtype: DType) -> String {
    switch dtype {
    case .bf16: "bfloat16"
    case .f16: "float16"
    default: "float32"
    }
  }

  // MARK: Shards

  /// Whole layers together, as many as fit.
  private func shards() throws -> [[Module]] {
    var units: [[Module]] = []
    for module in modules {
      if let layer = module.layer, units.last?.last?.layer == layer {
        units[units.count - 1].append(module)
      } else {
        units.append([module])
      }
    }
    var shards: [[Module]] = []
    var size = 0
    for unit in units {
      let bytes = try unit.reduce(0) { try $0 + byteCount(of: $1) }
      if shards.isEmpty || size + bytes > shardByteCount {
        shards.append([])
        size = 0
      }
      shards[shards.count - 1] += unit
      size += bytes
    }
    return shards
  }

  private func byteCount(of module: Module) throws -> Int {
    try declarations(module).reduce(0) { $0 + $1.shape.reduce(1, *) * $1.dtype.byteCount }
  }

  // MARK: One module

  private func declarations(_ module: Module) throws -> [Declaration] {
    let name = savedName(module.name) + module.weightEnding
    var list: [Declaration] = []
    if Self.isQuantized(module) {
      let count = module.weightShape.reduce(1, *)
      let blocks = (count + blockSize - 1) / blockSize
      list.append((name, .u8, [(count + 1) / 2, 1]))
      list.append((name + ".absmax", isDouble ? .u8 : .f32, [blocks]))
      list.append((name + ".quant_map", .f32, [16]))
      if isDouble {
        let nested = FourBit.nestedBlockSize
        list.append((name + ".nested_absmax", .f32, [(blocks + nested - 1) / nested]))
        list.append((name + ".nested_quant_map", .f32, [256]))
      }
      list.append((stateName(module), .u8, [stateText(module, offset: 0).count]))
    } else {
      list.append((name, try denseType(module.weightName), module.weightShape))
    }
    if module.hasBias {
      list.append((savedName(module.name) + ".bias", try denseType(module.name + ".bias"), module.biasShape))
    }
    return list
  }

  private func write(_ module: Module, _ content: Content, to file: SafetensorsAssembler) throws {
    let name = savedName(module.name) + module.weightEnding
    switch content {
    case .dense(let tensor): try writeDense(module.weightEnding, of: module, tensor, to: file)
    case .quantized(let operand):
      try write(name, operand.codes, to: file)
      try write(name + ".absmax", operand.absmax, to: file)
      try write(name + ".quant_map", operand.codebook, to: file)
      if let nested = operand.nested {
        try write(name + ".nested_absmax", nested.absmax, to: file)
        try write(name + ".nested_quant_map", nested.map, to: file)
      }
      try stateText(module, offset: operand.nested?.offset ?? 0).withUnsafeBytes {
        try file.write(stateName(module), $0)
      }
    }
  }

  private func write(_ name: String, _ tensor: Tensor, to file: SafetensorsAssembler) throws {
    try tensor.withHostBytes { try file.write(name, $0) }
  }

  private func writeDense(
    _ part: String, of module: Module, _ tensor: Tensor, to file: SafetensorsAssembler
  ) throws {
    let type = try denseType(module.name + part)
    let name = savedName(module.name) + part
    try write(name, tensor.dtype == type ? tensor : try tensor.converted(to: type, category: .workspace), to: file)
  }

  private func stateName(_ module: Module) -> String {
    "\(savedName(module.name)).weight.quant_state.bitsandbytes__\(kind.rawValue)"
  }

  /// The JSON text of bitsandbytes' QuantState, in Python's spelling; ended with spaces, so that its length does not
  /// depend on how many digits the offset has.
  private func stateText(_ module: Module, offset: Float) -> [UInt8] {
    let shape = module.weightShape.map(String.init).joined(separator: ", ")
    var text =
      "{\"quant_type\": \"\(kind.rawValue)\", \"blocksize\": \(blockSize), "
      + "\"dtype\": \"\(Self.torchName(modelType))\", \"shape\": [\(shape)]"
    guard isDouble else { return Array((text + "}").utf8) }
    text += ", \"nested_blocksize\": \(FourBit.nestedBlockSize), \"nested_dtype\": \"float32\", \"nested_offset\": "
    let longestNumber = 25
    let number = JSON.number(Double(offset)).text()
    return Array((text + number + "}").utf8) + [UInt8](repeating: 0x20, count: longestNumber - number.utf8.count)
  }
}
