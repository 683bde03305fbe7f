import Formats
import Quantization
import Tensors

extension LanguageModel {
  /// Writes the model as a Hugging Face directory: config.json, model.safetensors in bf16, and the tokenizer. Whole or
  /// not at all; an existing directory is replaced. Adapters are not written: merge them or save them apart.
  ///
  /// One tensor is converted at a time, 4-bit matrices through their dequantized values.
  /// - Throws: `ModelError.headerOnly`, `.notLoaded`; `FormatError.system` when a file cannot be written;
  ///   `TensorError.outOfMemory`.
  public func save(directory: String) throws {
    guard isLoaded else { throw ModelError.headerOnly(operation: "save") }
    let target = try AtomicDirectory(path: directory)
    try AtomicFile.write("\(target.stage)/config.json", spec.toJSON().text(.pythonUnsorted) + "\n")
    var items: [SafetensorsWriter.Item] = []
    for module in modules {
      items.append(
        item(module.name + ".weight", shape: module.weightShape) {
          if let quantized = module.quantized { return try quantized.dequantized(to: .bf16) }
          guard let weight = module.weight else { throw ModelError.notLoaded(module: module.name) }
          return try weight.converted(to: .bf16)
        })
      if let bias = module.bias {
        items.append(item(module.name + ".bias", shape: bias.shape) { try bias.converted(to: .bf16) })
      }
    }
    try SafetensorsWriter.write(path: "\(target.stage)/model.safetensors", items)
    try tokenizer?.save(directory: target.stage)
    try target.commit(replacing: true)
  }

  /// One tensor, made when its turn comes.
  private func item(
    _ name: String, shape: [Int], _ make: @escaping () throws -> Tensor
  ) -> SafetensorsWriter.Item {
    SafetensorsWriter.Item(name: name, dtype: .bf16, shape: shape) { sink in
      try make().withHostBytes { try sink($0) }
    }
  }
}
