import Models

/// Folders with adapters, in whichever of the forms that are read.
public enum AdapterFiles {
  /// Attaches the adapters of a folder as PEFT or mlx-lm writes it; see `PEFTFiles.load` and `MLXFiles.load`.
  @discardableResult
  public static func load(
    _ directory: String, into model: LanguageModel, trainable: Bool = false, set: String = AdapterSet.defaultName
  ) throws -> Int {
    let load = MLXFiles.isFolder(directory) ? MLXFiles.load : PEFTFiles.load
    return try load(directory, model, trainable, set)
  }

  /// Checks what is about to be saved: numbers that are none come of a training that failed.
  /// - Throws: `AdapterError.notFinite`.
  static func requireFinite(_ model: LanguageModel) throws {
    let own = model.adapters.flatMap(\.parameters).map { ($0.name, $0.tensor) }
    for (name, tensor) in own + PEFTParts.tensors(of: model) {
      guard try tensor.floats().allSatisfy(\.isFinite) else { throw AdapterError.notFinite(tensor: name) }
    }
  }

  /// What there is to say about a folder that was loaded, a sentence each: which of its tensors were not for this
  /// model.
  /// - Throws: `FormatError`.
  public static func notices(_ directory: String, of model: LanguageModel) throws -> [String] {
    MLXFiles.isFolder(directory) ? [] : try PEFTFiles.unread(directory, of: model)
  }
}
