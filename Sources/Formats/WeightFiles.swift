import Glibc

/// The weights of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names.
package struct WeightFiles: Sendable {
  package let path: String
  package let files: [SafetensorsFile]
  private let owner: [UTF8Key: Int]
  /// All tensors: by file, then in data order.
  package let names: [String]

  /// What is to be said about the folder: weights beside those that are read.
  package var said: [String] {
    let read = Set(files.map(\.path))
    let others = ((try? FileSystem.list(path)) ?? []).filter { name in
      name.hasPrefix("model") && name.hasSuffix(".safetensors") && !read.contains(path + "/" + name)
    }
    return others.isEmpty
      ? [] : ["\(path): not read, since no index names it: \(others.sorted().joined(separator: ", "))"]
  }

  /// Opens a folder, or one file.
  package init(directory: String) throws(FormatError) {
    if !FileSystem.isDirectory(directory) {
      self = try WeightFiles(files: [SafetensorsFile(path: directory)], path: directory)
      return
    }
    let single = directory + "/" + FileName.weights
    let index = directory + "/" + FileName.weightIndex
    if FileSystem.exists(single) {  // transformers prefers it over the index too
      self = try WeightFiles(files: [SafetensorsFile(path: single)], path: directory)
    } else if FileSystem.exists(index) {
      self = try WeightFiles(index: index, directory: directory)
    } else {
      throw .missingFile(
        path: directory, looked: [FileName.weights, FileName.weightIndex],
        instead: OtherWeights.find(in: directory))
    }
  }

  private init(files: [SafetensorsFile], path: String) throws(FormatError) {
    self.path = path
    self.files = files
    var owner: [UTF8Key: Int] = [:]
    var names: [String] = []
    for (i, file) in files.enumerated() {
      for entry in file.entries {
        guard owner.updateValue(i, forKey: UTF8Key(entry.name)) == nil else {
          throw .duplicate(path: file.path, name: entry.name)
        }
        names.append(entry.name)
      }
    }
    self.owner = owner
    self.names = names
  }

  private init(index path: String, directory: String) throws(FormatError) {
    guard let map = try JSON.read(path: path)["weight_map"]?.object else {
      throw .badField(path: path, field: "weight_map", value: "absent", expected: "an object")
    }
    var shards: [String] = []
    var seen: Set<String> = []
    for (tensor, value) in map {
      // A shard name with a slash could reach outside the folder.
      guard let shard = value.string, !shard.isEmpty, !shard.contains("/") else {
        throw .badField(path: path, field: "weight_map.\(tensor)", value: value.text(), expected: "a file name")
      }
      if seen.insert(shard).inserted {
        guard FileSystem.exists(directory + "/" + shard) else {
          throw .missingShard(index: path, shard: shard, tensor: tensor)
        }
        shards.append(shard)
      }
    }
    var files: [SafetensorsFile] = []
    for shard in shards.sorted() { files.append(try SafetensorsFile(path: directory + "/" + shard)) }
    try self.init(files: files, path: directory)
    for (tensor, value) in map {
      let shard = directory + "/" + (value.string ?? "")
      guard let at = owner[UTF8Key(tensor)], files[at].path == shard else {
        throw .missingTensor(path: shard, tensor: tensor)
      }
    }
  }

  /// The file that holds a tensor and its entry there.
  package func find(_ name: String) throws(FormatError) -> (file: SafetensorsFile, entry: SafetensorsFile.Entry) {
    guard let at = owner[UTF8Key(name)], let entry = files[at].entry(name) else {
      throw .missingTensor(path: path, tensor: name)
    }
    return (files[at], entry)
  }

  package func contains(_ name: String) -> Bool { owner[UTF8Key(name)] != nil }
}
