import Formats
import Models
import Tensors

/// What a LoRA file says of the embedding: which method it has, and what stands in it only as a copy (PEFT 0.21).
struct PEFTEmbedding {
  private let path: String
  private let isTied: Bool
  /// By the end of a module's name; nil for the embedding, whatever it is called.
  private let tokens: [(name: String?, ids: [Int32])]
  private static let tokensField = "trainable_token_indices"

  /// - Throws: `AdapterError.badField`.
  init(_ configuration: JSON, path: String) throws {
    self.path = path
    let field = "ensure_weight_tying"
    guard let flag = (configuration[field]?.unlessNull ?? false).bool else {
      throw AdapterError.badField(path: path, field: field, expected: "true or false")
    }
    isTied = flag
    let value = configuration[Self.tokensField]?.unlessNull ?? []
    if let members = value.object {
      tokens = try members.map { ($0.0, try TrainedTokens.list($0.1, "\(Self.tokensField).\($0.0)", path: path)) }
    } else {
      tokens = value.array?.isEmpty ?? false ? [] : [(nil, try TrainedTokens.list(value, Self.tokensField, path: path))]
    }
  }

  /// The method of the embedding from the names of its tensors.
  /// - Throws: `AdapterError.badField`, `.unsupported`.
  func method(of module: Module, _ shapes: [String: [Int]], _ low: LoRA, hasMagnitude: Bool) throws -> any AdapterMethod
  {
    if shapes[TrainedTokens.nameBeside] != nil {
      guard let own = tokens.first(where: { $0.name == nil || module.name.hasSuffix($0.name ?? "") }) else {
        throw AdapterError.unsupported(
          path: path, field: Self.tokensField,
          value: "of \(tokens.first?.name ?? "nothing"), with rows of \(module.name)")
      }
      return try TrainedTokens.checked(TrainedTokens(own.ids), module, Self.tokensField, path: path)
    }
    guard !hasMagnitude else {
      throw AdapterError.unsupported(path: path, field: "use_dora", value: "true for \(module.name), an embedding")
    }
    return EmbeddingLoRA(low, isTied: isTied)
  }

  /// Whether every list of tokens is that of one of these modules, or of an output matrix that follows the embedding.
  /// - Throws: `AdapterError.unsupported`, `.missingTensor`.
  func check(_ made: [(module: Module, adapter: Adapter)], _ model: LanguageModel, _ file: SafetensorsFile) throws {
    guard let first = tokens.first else { return }
    let embedding = model.modules.first { $0.kind == .embedding }
    for (name, ids) in tokens {
      let isEmbedding = name == nil || embedding?.name.hasSuffix(name ?? "") ?? false
      let follows = model.outputModule.kind == .embedding && name == "lm_head" && ids == first.ids
      guard isEmbedding || follows else {
        throw AdapterError.unsupported(path: path, field: Self.tokensField, value: "of \(name ?? "")")
      }
    }
    guard made.contains(where: { $0.adapter.method is TrainedTokens }) else {
      let key = PEFTFiles.keyPrefix + (embedding?.name ?? "") + "." + TrainedTokens.nameBeside
      throw AdapterError.missingTensor(path: file.path, name: key)
    }
  }

  // MARK: Writing

  /// The fields of a LoRA file that describe the embedding's adapters.
  static func fields(_ adapters: [Adapter]) -> [(String, JSON)] {
    adapters.flatMap { adapter -> [(String, JSON)] in
      if let method = adapter.method as? EmbeddingLoRA { return [("ensure_weight_tying", .bool(method.isTied))] }
      guard let method = adapter.method as? TrainedTokens else { return [] }
      let role = adapter.moduleName.split(separator: ".").last.map(String.init) ?? adapter.moduleName
      let ids = JSON.array(method.tokens.map { .int(Int($0)) })
      return [(tokensField, .object(JSONObject([(role, ids)])))]
    }
  }

  /// The adapter of a tied output matrix, which PEFT's files have a second time; trained tokens where nothing else is
  /// trained.
  static func tiedCopies(_ adapters: [Adapter], _ model: LanguageModel) throws -> [(String, Tensor)] {
    guard model.outputModule.kind == .embedding else { return [] }
    let alone = adapters.filter { ($0.method as? TrainedTokens)?.isAlone ?? false }
    let rows = alone.map { ("\(PEFTVocabulary.head).\(TrainedTokens.nameAlone)", $0.tensors[0]) }
    return try rows
      + adapters.filter { ($0.method as? EmbeddingLoRA)?.isTied ?? false }.flatMap { adapter in
        [
          ("\(PEFTVocabulary.head).\(LoRA.nameOfA)", try adapter.tensors[1].transposed(0, 1).contiguous()),
          ("\(PEFTVocabulary.head).\(LoRA.nameOfB)", try adapter.tensors[0].transposed(0, 1).contiguous()),
        ]
      }
  }
}
