import Formats
import Models
import Tensors

/// What a PEFT file says of the base's vocabulary (PEFT 0.21, save_and_load): the weights of embedding and output
/// matrix, which it saves where one of them has an adapter or tokens were added, in up to three copies.
enum PEFTVocabulary {
  /// What transformers calls an output matrix that is the embedding.
  static let head = "lm_head"

  /// Embedding and output matrix, once where they are one.
  static func modules(_ model: LanguageModel) -> [Module] {
    model.modules.filter { $0.kind == .embedding || $0 === model.outputModule }
  }

  private static func isTied(_ model: LanguageModel) -> Bool { model.outputModule.kind == .embedding }

  /// The names under which a file may have a module: a tied output matrix has two.
  private static func names(_ module: Module, _ model: LanguageModel) -> [String] {
    PEFTNames.all(module) + (module === model.outputModule && isTied(model) ? [head] : [])
  }

  private static func key(_ name: String, _ rest: String) -> String { "\(PEFTFiles.keyPrefix)\(name).\(rest)" }

  /// Whether a tensor is for an output matrix that is the embedding, under that matrix's own name.
  static func isOfTiedOutput(_ key: String, _ model: LanguageModel) -> Bool {
    isTied(model) && key.hasPrefix("\(PEFTFiles.keyPrefix)\(head).")
  }

  // MARK: Rows

  /// Tensors with a row for each token, and in which dimension.
  private static let rowTensors = [
    ("weight", 0), ("modules_to_save.weight", 0), ("base_layer.weight", 0), ("token_adapter.base_layer.weight", 0),
    (EmbeddingLoRA.nameOfA, 1), (LoRA.nameOfB, 0), (IA3.nameOfFactors, 0), (VeRA.nameOfB, 0),
  ]

  /// Whether a tensor of this name has a row for each token. Of (IA)³ those that scale inputs have none.
  private static func hasRows(_ name: String, _ shape: [Int]) -> Bool {
    name == VeRA.nameOfB ? shape.count == 1 : shape.count == 2 && (name != IA3.nameOfFactors || shape[1] == 1)
  }

  /// Compares the rows of the file with those of the base.
  /// - Throws: `AdapterError.otherVocabulary`.
  static func check(
    _ file: SafetensorsFile, _ configuration: JSON, path: String, _ model: LanguageModel
  ) throws {
    let unties = isTied(model) && file.entry(key(head, "weight")) != nil
    func other(_ module: Module, _ name: String, _ rows: Int) -> AdapterError {
      .otherVocabulary(path: path, module: name, rows: rows, base: module.outFeatures, unties: unties)
    }
    for module in modules(model) {
      for name in names(module, model) {
        for (rest, dimension) in rowTensors {
          guard let shape = file.entry(key(name, rest))?.shape, hasRows(rest, shape) else { continue }
          if shape[dimension] != module.outFeatures { throw other(module, name, shape[dimension]) }
        }
      }
      if module.kind == .embedding, let last = trainedTokens(configuration).max(), Int(last) >= module.outFeatures {
        throw other(module, module.name, Int(last) + 1)
      }
    }
  }

  /// All tokens that a configuration trains, by whatever field.
  private static func trainedTokens(_ configuration: JSON) -> Set<Int32> {
    let fields = [configuration["trainable_token_indices"], configuration["token_indices"]].compactMap { $0 }
    let lists = fields.flatMap { field in field.object.map { $0.map { $0.1 } } ?? [field] }
    return Set(lists.flatMap { $0.array ?? [] }.compactMap { $0.int.flatMap { Int32(exactly: $0) } })
  }

  // MARK: Copies

  /// Names of tensors that say what the model or others of the file say too: frozen weights of embedding and output
  /// matrix, what a module of `modules_to_save` is saved as besides, and the adapter of a tied output matrix.
  /// - Throws: `AdapterError.otherCopy` for one that says something else; `.tiedOutput`, `.outputAlone`.
  static func copies(
    in file: SafetensorsFile, _ configuration: JSON, _ model: LanguageModel, _ read: (_ name: String) throws -> Tensor
  ) throws -> Set<String> {
    var copies: Set<String> = []
    let tokens = trainedTokens(configuration)
    for module in modules(model) {
      for name in names(module, model) {
        for rest in ["base_layer.weight", "token_adapter.base_layer.weight"] {
          let key = key(name, rest)
          guard file.entry(key) != nil else { continue }
          copies.insert(key)
          // What is stored in few bits is rounded, and cannot be equal.
          guard let weight = module.weight else { continue }
          guard try isSame(try read(key), weight, besides: rest.hasPrefix("token") ? tokens : []) else {
            throw AdapterError.otherCopy(path: file.path, tensor: key, of: module.name)
          }
        }
        let whole = key(name, "weight")
        guard file.entry(whole) != nil else { continue }
        let stored = try read(whole)
        if let weight = module.weight, try isSame(stored, weight, besides: []) {
          copies.insert(whole)
        } else if isTied(model), module === model.outputModule {
          throw AdapterError.tiedOutput(
            path: file.path, tensor: whole, unties: file.entry(key(head, "weight")) != nil)
        }
        // Read by nothing where there is the whole.
        let original = key(name, "original_module.weight"), again = key(name, "modules_to_save.weight")
        if file.entry(original) != nil { copies.insert(original) }
        if file.entry(again) != nil {
          guard try read(again).floats() == stored.floats() else {
            throw AdapterError.otherCopy(path: file.path, tensor: again, of: whole)
          }
          copies.insert(again)
        }
      }
    }
    guard isTied(model) else { return copies }
    // Beside LoRA they are there twice where tokens were added, alone always.
    for name in [TrainedTokens.nameAlone, TrainedTokens.nameBeside] {
      let (copy, original) = (key(head, name), key(model.outputModule.name, name))
      guard file.entry(copy) != nil, file.entry(original) != nil else { continue }
      guard try read(copy).floats() == read(original).floats() else {
        throw AdapterError.otherCopy(path: file.path, tensor: copy, of: original)
      }
      copies.insert(copy)
    }
    let pairs = [(LoRA.nameOfA, EmbeddingLoRA.nameOfB), (LoRA.nameOfB, EmbeddingLoRA.nameOfA)]
    for (name, other) in pairs {
      let key = "\(PEFTFiles.keyPrefix)\(head).\(name)"
      let source = "\(PEFTFiles.keyPrefix)\(model.outputModule.name).\(other)"
      guard file.entry(key) != nil, file.entry(source) != nil else { continue }
      let (mine, theirs) = (try read(key), try read(source))
      guard mine.shape == theirs.shape.reversed(), try mine.transposed(0, 1).contiguous().floats() == theirs.floats()
      else {
        guard configuration["ensure_weight_tying"]?.bool == true else {
          throw AdapterError.outputAlone(path: file.path, tensor: key)
        }
        throw AdapterError.otherCopy(path: file.path, tensor: key, of: source)
      }
      copies.insert(key)
    }
    return copies
  }

  /// Whether a stored matrix is that of the base, apart from some rows.
  private static func isSame(_ stored: Tensor, _ weight: Tensor, besides rows: Set<Int32>) throws -> Bool {
    guard stored.shape == weight.shape else { return false }
    let (mine, theirs) = (try stored.converted(to: weight.dtype).floats(), try weight.floats())
    if rows.isEmpty { return mine == theirs }
    let width = weight.shape[1]
    return (0..<weight.shape[0]).allSatisfy { row in
      rows.contains(Int32(row))
        || mine[row * width..<(row + 1) * width].elementsEqual(theirs[row * width..<(row + 1) * width])
    }
  }
}
