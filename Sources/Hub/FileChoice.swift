import Formats

/// Which files of a repository are needed.
struct FileChoice: Equatable {
  /// In the order in which they are fetched: weights last, so that a cache that has them has the rest.
  var names: [String]
  /// The file that the name means; nil for the folder.
  var file: String?

  private static let ofModels: Set = [
    FileName.config, FileName.generationConfig, FileName.tokenizer, FileName.sentencePiece, FileName.tokenizerConfig,
    FileName.specialTokens, FileName.addedTokens, "vocab.json", "merges.txt", FileName.chatTemplate,
    "chat_template.json", FileName.adapterConfig,
  ]
  static let weightNames = [FileName.weights, FileName.adapterWeights]
  /// A .txt beside data is mostly a note.
  static let dataEndings = Records.endings.filter { $0 != "txt" }

  /// `index` reads the index of shards, when there is one.
  /// - Throws: `HubError.noFile`, `.ambiguous`, `.nothingReadable`, and what `index` throws.
  init(_ listing: Listing, index: () throws -> JSON) throws {
    let (name, all) = (listing.name, listing.names)
    let shown = (name.kind == .dataset ? "datasets/" : "") + name.repository
    if let file = name.file {
      guard all.contains(file) else {
        let alike = all.filter { Self.ending($0) == Self.ending(file) }
        throw HubError.noFile(name: shown, file: file, names: alike.isEmpty ? all : alike)
      }
      self.init(names: [file], file: file)
    } else if name.kind == .dataset {
      self = try Self.data(shown, all)
    } else {
      self = try Self.model(shown, all, index: index)
    }
  }

  private init(names: [String], file: String?) { (self.names, self.file) = (names, file) }

  private static func model(_ shown: String, _ all: [String], index: () throws -> JSON) throws -> FileChoice {
    let small = all.filter { name in
      ofModels.contains(name) || name.hasPrefix(FileName.templateFolder + "/") && name.hasSuffix(".jinja")
    }
    if all.contains(FileName.weightIndex) {
      let shards = Set((try index()["weight_map"]?.object?.values ?? []).compactMap(\.string)).sorted()
      if let missing = shards.first(where: { !all.contains($0) }) {
        throw HubError.noFile(name: shown, file: missing, names: all.filter { ending($0) == "safetensors" })
      }
      return FileChoice(names: small + [FileName.weightIndex] + shards, file: nil)
    }
    let weights = weightNames.filter(all.contains)
    if !weights.isEmpty { return FileChoice(names: small + weights, file: nil) }
    let gguf = all.filter { ending($0) == "gguf" && !$0.lowercased().contains("mmproj") }
    switch gguf.count {
    case 1: return FileChoice(names: gguf, file: gguf[0])
    case 0: throw HubError.nothingReadable(name: shown, wanted: "safetensors or GGUF files", found: weightKinds(all))
    default: throw HubError.ambiguous(name: shown, names: gguf.map { "hf://\(shown)/\($0)" })
    }
  }

  private static func weightKinds(_ all: [String]) -> [String] {
    Set(all.map(ending)).filter { ["bin", "pt", "pth", "onnx", "h5", "msgpack", "npz", "safetensors"].contains($0) }
      .sorted().map { ".\($0) files" }
  }

  private static func data(_ shown: String, _ all: [String]) throws -> FileChoice {
    let data = all.filter { dataEndings.contains(ending($0)) && !$0.hasSuffix("dataset_infos.json") }
    let training = data.filter { base($0).contains("train") }
    if data.count == 1 { return FileChoice(names: data, file: data[0]) }
    if training.count == 1 { return FileChoice(names: training, file: training[0]) }
    guard data.isEmpty else { throw HubError.ambiguous(name: shown, names: data.map { "hf://\(shown)/\($0)" }) }
    let kinds = Set(all.map(ending)).subtracting(["md", "gitattributes", "py", "txt", "json"])
    throw HubError.nothingReadable(
      name: shown, wanted: "JSON, JSONL, NDJSON, CSV or TSV files",
      found: kinds.sorted().map { $0 == "parquet" ? "Parquet files" : ".\($0) files" })
  }

  private static func base(_ name: String) -> String { String(name.split(separator: "/").last ?? "").lowercased() }

  static func ending(_ name: String) -> String {
    let base = base(name)
    return base.lastIndex(of: ".").map { String(base[base.index(after: $0)...]) } ?? ""
  }
}
