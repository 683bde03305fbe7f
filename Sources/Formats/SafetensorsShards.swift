import Tensors

/// Writes the weights of a model as Hugging Face folders hold them: one model.safetensors, or numbered files with an index
/// where they are larger than one file shall be.
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
    guard shards.count > 1 else {
      return try SafetensorsWriter.write(path: "\(folder)/model.safetensors", items)
    }
    var map = JSONObject()
    for (number, shard) in shards.enumerated() {
      let name = "model-\(padded(number + 1))-of-\(padded(shards.count)).safetensors"
      try SafetensorsWriter.write(path: "\(folder)/\(name)", shard)
      for item in shard { map[item.name] = .string(name) }
    }
    let index: JSON = ["metadata": ["total_size": .int(total)], "weight_map": .object(map)]
    try AtomicFile.write("\(folder)/model.safetensors.index.json", index.text(.python) + "\n")
  }

  private static func padded(_ value: Int) -> String {
    String(repeating: "0", count: max(0, 5 - "\(value)".count)) + "\(value)"
  }
}
