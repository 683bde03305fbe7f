import Formats
import Quantization
import Tensors
import Tokenizers

/// Writes a checkpoint of a given shape with random weights directly in 4-bit form, to try memory and time of models
/// that are not at hand. Shard by shard: the peak is the largest matrix, and the speed is the disk's.
///
/// Codes are uniform, scales lie around the one that gives elements the deviation 0.02 of transformers'
/// `initializer_range`, so that activations and gradients stay finite; norms scale nothing, biases are zeros,
/// embeddings and output matrix uniform in bf16 with the same deviation.
package struct SyntheticModel {
  package typealias Options = ModelQuantizer.Options

  let backend: any Backend
  let options: Options
  let seed: UInt64
  private static let deviation: Float = 0.02

  package init(backend: any Backend, options: Options, seed: UInt64) {
    self.backend = backend
    self.options = options
    self.seed = seed
  }

  /// Writes the folder `output`, with config.json and, where given, the tokenizer.
  /// - Parameters:
  ///   - spec: the shape.
  ///   - tokenizer: written beside the weights.
  ///   - output: a folder that does not exist yet.
  ///   - progress: called with each module's name, how many are done and how many there are.
  /// - Returns: bytes of the tensors written.
  /// - Throws: `FormatError`, among them `diskTooSmall` before anything is written; then nothing is left at `output`.
  @discardableResult
  package func write(
    _ spec: DecoderSpec, tokenizer: Tokenizer?, to output: String,
    progress: (String, Int, Int) throws -> Void = { _, _, _ in }
  ) throws -> Int {
    try options.check(output)
    let modules = ModuleTree(spec).modules
    let writer = FourBitModelWriter(
      modules: modules, savedName: { spec.savedName($0) }, kind: options.kind, blockSize: options.blockSize,
      isDouble: options.doubleQuantization,
      modelType: .bf16, denseType: { _ in .bf16 }, shardByteCount: options.shardByteCount)
    let needed = try writer.byteCount()
    let free = try FileSystem.freeByteCount(output)
    guard needed < free else { throw FormatError.diskTooSmall(path: output, needed: needed, free: free) }
    let target = try AtomicDirectory(path: output)
    try writer.write(
      into: target.stage, content: content,
      bias: { try Tensor(full: $0.biasShape, value: 0, dtype: .bf16, category: .workspace, on: backend) },
      progress: { try progress($0.name, $1, modules.count) }, written: { _ in })
    var members = spec.toJSON().object ?? JSONObject()
    members["torch_dtype"] = "bfloat16"
    members["quantization_config"] = writer.configuration
    try AtomicFile.write("\(target.stage)/\(FileName.config)", JSON.object(members).text(.pythonUnsorted) + "\n")
    try tokenizer?.save(directory: target.stage)
    try target.commit()
    return needed
  }

  private func content(_ module: Module) throws -> FourBitModelWriter.Content {
    let shape = module.weightShape
    if let initial = try module.initialTensor(.bf16, .workspace, on: backend) { return .dense(initial) }
    let stream = RandomStream(seed: seed, purpose: "synthetic", module: module.name)
    var words = RandomWords(stream.stream ^ stream.seed &* 0x9E37_79B9_7F4A_7C15)
    guard FourBitModelWriter.isQuantized(module) else {
      let tensor = try Tensor(empty: shape, dtype: .bf16, category: .workspace, on: backend)
      try tensor.withMutableHostBytes { words.fillUniform($0.bindMemory(to: UInt16.self), deviation: Self.deviation) }
      return .dense(tensor)
    }
    let count = shape.reduce(1, *)
    let blocks = (count + options.blockSize - 1) / options.blockSize
    let codebook = FourBit.codebookValues(options.kind)
    let scale = Self.deviation / (codebook.reduce(0) { $0 + $1 * $1 } / Float(codebook.count)).squareRoot()
    func bytes(_ count: Int) throws -> Tensor {
      let tensor = try Tensor(empty: [count], dtype: .u8, category: .workspace, on: backend)
      try tensor.withMutableHostBytes { words.fill($0) }
      return tensor
    }
    func values(_ count: Int, _ value: Float) throws -> Tensor {
      try Tensor(full: [count], value: Double(value), category: .workspace, on: backend)
    }
    let codes = try bytes((count + 1) / 2)
    guard options.doubleQuantization else {
      return .quantized(
        QuantizedOperand(
          kind: options.kind, shape: shape, blockSize: options.blockSize, codes: codes,
          codebook: try FourBit.makeCodebook(options.kind, backend), absmax: try values(blocks, scale), nested: nil))
    }
    // Scales within an eighth of the offset: the map's entries lie in -1...1.
    let nested = QuantizedOperand.Nested(
      absmax: try values((blocks + FourBit.nestedBlockSize - 1) / FourBit.nestedBlockSize, scale / 8),
      map: try FourBit.makeDynamicMap(backend), offset: scale)
    return .quantized(
      QuantizedOperand(
        kind: options.kind, shape: shape, blockSize: options.blockSize, codes: codes,
        codebook: try FourBit.makeCodebook(options.kind, backend), absmax: try bytes(blocks), nested: nested))
  }
}

/// Random bits as fast as a disk takes them (xorshift64*, Vigna 2016); not for anything that is trained or sampled.
private struct RandomWords {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed | 1 }

  private mutating func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 0x2545_F491_4F6C_DD1D
  }

  mutating func fill(_ bytes: UnsafeMutableRawBufferPointer) {
    var index = 0
    while index + 8 <= bytes.count {
      bytes.storeBytes(of: next(), toByteOffset: index, as: UInt64.self)
      index += 8
    }
    while index < bytes.count {
      bytes[index] = UInt8(truncatingIfNeeded: next() >> 56)
      index += 1
    }
  }

  /// bf16 values, uniform with mean 0.
  mutating func fillUniform(_ values: UnsafeMutableBufferPointer<UInt16>, deviation: Float) {
    let width = deviation * Float(12).squareRoot() / 65536
    for index in values.indices {
      let value = (Float(next() >> 48) - 32767.5) * width
      values[index] = UInt16(truncatingIfNeeded: value.bitPattern >> 16)
    }
  }
}
