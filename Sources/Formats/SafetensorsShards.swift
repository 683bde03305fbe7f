import Tensors

/// Writes the weights of a model as Hugging Face folders hold them: one model.safetensors, or numbered files with an
/// index where they are larger than one file shall be.
package enum SafetensorsShards {
  /// - Parameters:
  ///   - folder: to write into.
  ///   - items: the tensors; each file takes some of them in order, at least one.
  ///   - limit: most bytes of tensors in one file.
  /// - Throws: `FormatError`, or what an item throws.
  package static func write(folder: String, _ items: [SafetensorsWriter.Item], byteCount limit: Int) throws {
    var shards: [[SafetensorsWriter.Item]] = []
    var (size, total) = (0, 0)
    for item in items {
      let bytes = item.shape.reduce(1, *) * item.dtype.byteCount
      if shards.isEmpty || size + bytes > limit {
        shards.append([])
        size = 0
      }
      shards[shards.count - 1].append(item)
      (size, total) = (size + bytes, total + bytes)
    }
    var map = JSONObject()
    for (number, shard) in shards.enumerated() {
      let name = name(number + 1, of: shards.count)
      try SafetensorsWriter.write(path: "\(folder)/\(name)", shard)
      for item in shard { map[item.name] = .string(name) }
    }
    if shards.count > 1 { try writeIndex(folder: folder, map, byteCount: total) }
  }

  /// The name of a file, numbered from 1 where there are several.
  package static func name(_ number: Int, of count: Int) -> String {
    func padded(_ value: Int) -> String { String(repeating: "0", count: max(0, 5 - "\(value)".count)) + "\(value)" }
    return count == 1 ? FileName.weights : "model-\(padded(number))-of-\(padded(count)).safetensors"
  }

  /// Writes the index of several files.
  /// - Parameters:
  ///   - folder: where they are.
  ///   - map: the file of each tensor.
  ///   - byteCount: of all tensors.
  /// - Throws: `FormatError.system`.
  package static func writeIndex(folder: String, _ map: JSONObject, byteCount: Int) throws {
    let index: JSON = ["metadata": ["total_size": .int(byteCount)], "weight_map": .object(map)]
    try AtomicFile.write("\(folder)/\(FileName.weightIndex)", index.text(.python) + "\n")
  }
}
