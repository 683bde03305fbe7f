import Formats
import Models
import Tensors

/// LoRA adapters as GGUF files, which llama.cpp adds to a model while it runs.
public enum GGUFAdapterFile {
  /// Writes the adapters of `model`: f32, rows of q and k in llama.cpp's order.
  ///
  /// llama.cpp scales every branch by alpha over the rank of its matrices. One alpha that is right for all modules is
  /// written as it is; else scaling and rank are folded into the matrices, see `FoldedAdapters`.
  /// - Returns: what is to be said about the file, a sentence each.
  /// - Throws: `AdapterError.nothingToSave`, `.notLowRank`, `.notFinite`; `ModelError.notInGGUF` for a model that
  ///   llama.cpp does not compute; `FormatError.system`.
  public static func save(_ model: LanguageModel, path: String) throws -> [String] {
    try AdapterFiles.requireFinite(model)
    let folded = try FoldedAdapters(model)
    let spec = model.spec
    let (architecture, layout) = try spec.ggufWriting()
    let items = try folded.entries.flatMap { entry -> [GGUFWriter.Item] in
      let module = entry.module
      guard let stem = layout.gguf(spec.savedName(module.name) + ".weight") else {
        throw ModelError.notInGGUF(family: spec.modelType, what: [module.name])
      }
      let order = try layout.storedRow(
        spec.savedName(module.name) + ".weight", rows: module.outFeatures, queryHeads: spec.headCount,
        keyHeads: spec.keyValueHeadCount, path: path)
      let columnOrder = try layout.storedColumn(
        spec.savedName(module.name) + ".weight", columns: module.inFeatures, path: path)
      return [
        item(stem + ".lora_a", [folded.rank, module.inFeatures], entry.a, columnOrder: columnOrder),
        item(stem + ".lora_b", [module.outFeatures, folded.rank], entry.b, order: order),
      ]
    }
    let metadata: [(String, GGUFValue)] = [
      ("general.type", .string("adapter")), ("general.architecture", .string(architecture)),
      ("general.name", .string(model.path.split(separator: "/").last.map(String.init) ?? "")),
      ("adapter.type", .string("lora")), ("adapter.lora.alpha", .float32(Float(folded.scaling * Double(folded.rank)))),
    ]
    try GGUFWriter.write(path: path, metadata, items)
    guard let first = folded.changed.first else { return [] }
    return [
      "\(path): rank or scaling of \(folded.changed.count) modules, \(first) the first, is not that of "
        + "the others; it is folded into their matrices, which compute the same"
    ]
  }

  private static func item(
    _ name: String, _ shape: [Int], _ values: [Float], order: ((Int) -> Int)? = nil,
    columnOrder: ((Int) -> Int)? = nil
  ) -> GGUFWriter.Item {
    GGUFWriter.Item(name: name, shape: shape, type: .f32) { sink in
      try values.withUnsafeBufferPointer {
        try GGUFRows(type: .f32, columns: shape[1], order: order, columnOrder: columnOrder).encode($0, sink)
      }
    }
  }
}
