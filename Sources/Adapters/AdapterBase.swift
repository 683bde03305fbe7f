import Formats
import Models

/// The family of the model that an adapter was made for. Matrices of another family may have the same shapes, so that
/// nothing but the name tells that an adapter is not one of this model.
enum AdapterBase {
  private static let typeKey = "base_model_type"
  private static let formatKey = "base_model_format"
  private static let gguf = "gguf"

  /// The `__metadata__` of an adapter's weights: what other programs expect there, and the `model_type` of the base as
  /// its config.json has it.
  static func metadata(_ model: LanguageModel) -> [(String, String)] {
    let type = FamilyHint(model)?.modelType ?? model.spec.modelType
    return [("format", "pt"), (typeKey, type)] + (FamilyHint.isGGUF(model) ? [(formatKey, gguf)] : [])
  }

  /// Compares what the files say of the base with the model: the metadata of the weights, else the class that PEFT
  /// notes, else the config of the base where that is on this machine. Files that say nothing pass.
  /// - Parameters:
  ///   - model: what the adapter is to be put on.
  ///   - weights: path and `__metadata__` of the weights.
  ///   - configuration: adapter_config.json.
  ///   - path: of adapter_config.json.
  ///   - field: where that names the base.
  /// - Throws: `AdapterError.otherFamily`.
  static func check(
    _ model: LanguageModel, weights: (path: String, metadata: [String: String]), _ configuration: JSON, path: String,
    field: String
  ) throws {
    guard let own = FamilyHint(model),
      let known = metadata(weights) ?? mapping(configuration, path) ?? base(configuration, path, field)
    else { return }
    guard known.hint.agrees(with: own) else {
      throw AdapterError.otherFamily(
        path: known.path, field: known.field, type: known.hint.modelType, model: own.modelType)
    }
  }

  private typealias Known = (path: String, field: String, hint: FamilyHint)

  private static func metadata(_ weights: (path: String, metadata: [String: String])) -> Known? {
    weights.metadata[typeKey]
      .flatMap { FamilyHint(modelType: $0, isGGUF: weights.metadata[formatKey] == gguf) }
      .map { (weights.path, "__metadata__.\(typeKey)", $0) }
  }

  private static func mapping(_ configuration: JSON, _ path: String) -> Known? {
    let mapping = configuration["auto_mapping"], name = "base_model_class"
    return (mapping?[name]?.string)
      .flatMap { FamilyHint(className: $0, library: mapping?["parent_library"]?.string) }
      .map { (path, "auto_mapping.\(name)", $0) }
  }

  private static func base(_ configuration: JSON, _ path: String, _ field: String) -> Known? {
    configuration[field]?.string.flatMap { FamilyHint(path: $0) }.map { (path, field, $0) }
  }
}
