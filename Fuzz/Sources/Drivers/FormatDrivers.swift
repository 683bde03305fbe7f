import CPUBackend
import Formats
import Models
import Tensors
import Tokenizers

/// Opens files and folders of safetensors and reads every tensor, as weights and as a recipe's `load_tensors` does.
final class SafetensorsDriver: Driver {
  private let backend: any Backend

  init(memory: Int) { backend = limitedBackend(memory) }

  func read(_ folder: String, _ input: Input, _ random: inout Random) throws {
    let source = try WeightSource(path: folder)
    for stored in source.tensors {
      guard let (bytes, dtype) = try source.rawBytes(stored.name) else { continue }
      if dtype.isFloat { _ = try source.read(stored.name) }
      let tensor = try Tensor(empty: stored.shape, dtype: dtype, on: backend)
      try tensor.write(bytes)
      if stored.shape.count > 1 { _ = try tensor.transposed(0, 1).contiguous() }
      if dtype.isFloat { _ = try tensor.converted(to: .f32).floats() }
    }
    source.releaseAll()
  }
}

/// Opens a GGUF file, decodes every tensor, and goes as far towards a model as the file does.
final class GGUFDriver: Driver {
  private let models: ModelDriver

  init(memory: Int) { models = ModelDriver(memory: memory) }

  func read(_ folder: String, _ input: Input, _ random: inout Random) throws {
    let path = "\(folder)/\(input.files[0].name)"
    let file = try GGUFFile(path: path)
    for tensor in file.tensors where tensor.type != nil {
      let count = tensor.rowCount.multipliedReportingOverflow(by: tensor.rowLength)
      guard !count.overflow, count.partialValue < 1 << 22 else { continue }
      var values = [Float](repeating: 0, count: count.partialValue)
      try file.dequantize(tensor.name, rows: 0..<tensor.rowCount, into: &values)
    }
    guard file.metadata["general.architecture"] != nil else { return }
    try models.use(path, keeps: random.once(in: 2))
  }
}

/// Reads model folders in the precision of the file and in 4 bits, and computes with what it gets.
final class ModelDriver: Driver {
  private let backend: any Backend

  init(memory: Int) { backend = limitedBackend(memory) }

  func read(_ folder: String, _ input: Input, _ random: inout Random) throws {
    let quantizes = random.once(in: 3)
    try use(folder, quantizes: quantizes, keeps: !quantizes && random.once(in: 3))
  }

  /// With `keeps` the kernels read the blocks of the file, of which the last may end with the file.
  func use(_ path: String, quantizes: Bool = false, keeps: Bool = false) throws {
    var options = LoadOptions(quantization: quantizes ? .nf4 : nil, computeType: quantizes ? .bf16 : .f32)
    options.keepsBlocks = keeps
    let model = try ModelLoader(backend: backend, options: options).load(path)
    var ids: [Int32] = [0, 1, 2]
    if let tokenizer = model.tokenizer { ids += try tokenizer.encode("In the morning").prefix(8) }
    ids = ids.filter { Int($0) < model.spec.vocabularySize }.prefix(model.spec.maxPositions).map { $0 }
    if !ids.isEmpty { _ = try model.logits(ids).floats() }
  }
}

/// Reads config.json, writes it and reads it again, plans the modules, and computes with random weights where the model
/// is small.
final class ConfigDriver: Driver {
  private let backend: any Backend

  init(memory: Int) { backend = limitedBackend(memory) }

  func read(_ folder: String, _ input: Input, _ random: inout Random) throws {
    let spec = try DecoderSpec.read(path: folder)
    let again = try DecoderSpec(json: try JSON.parse(spec.toJSON().text(.compact)), path: folder + "/written again")
    precondition(again.toJSON() == spec.toJSON(), "a configuration that was written reads differently")
    let header = try ModelLoader(backend: backend, options: LoadOptions(headerOnly: true)).load(folder + "/config.json")
    let count = header.modules.reduce(0) { $0 + Double($1.outFeatures) * Double($1.inFeatures) }
    guard count < 100_000, spec.vocabularySize > 2, spec.maxPositions > 2 else { return }
    let model = try LanguageModel(
      random: spec, seed: 1, options: LoadOptions(computeType: .f32), trainsAllParameters: false, backend: backend)
    _ = try model.logits([0, 1, 2]).floats()
  }
}

/// Records of every kind of file, read to the end.
final class RecordsDriver: Driver {
  func read(_ folder: String, _ input: Input, _ random: inout Random) throws {
    for file in input.files {
      for record in try Records.read(path: "\(folder)/\(file.name)") { _ = try JSON.parse(record.value.text(.compact)) }
    }
  }
}

/// A backend on one thread whose tensors may take `memory` bytes.
func limitedBackend(_ memory: Int) -> any Backend {
  let backend = Device.cpu.open(1)
  backend.memory.limit = memory
  return backend
}
