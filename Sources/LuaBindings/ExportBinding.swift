import Adapters
import LuaRuntime
import Models

/// Methods of a model that write files for other programs.
extension Engine {
  private static let ggufOptions = [
    Parameter(
      "type", .string, default: "\"q4_k_m\"", choices: GGUFMixture.allCases.map(\.rawValue),
      "formats of the tensors, by llama.cpp's names"),
    Parameter("merge", .boolean, default: "false", "add the adapters into what is written; the model keeps them"),
  ]

  /// Saves adapters in another form than PEFT's; nil for PEFT's own.
  func saveAdapter(
    _ model: LanguageModel, _ place: String, as form: String?, _ call: Call
  ) throws -> [LuaValue]? {
    let form = form ?? (place.hasSuffix(".gguf") ? "gguf" : "peft")
    guard form != "peft" else { return nil }
    var said: [String] = []
    try byFirst(call) {
      said =
        form == "gguf"
        ? try GGUFAdapterFile.save(model, path: placeToSave(place))
        : try MLXFiles.save(model, directory: placeToSave(place))
    }
    if model.chatTemplateInUse != nil {
      said.append(
        "\(place): the adapter was trained on chats of another template than the model's own, which "
          + "this form cannot hold; what as = \"peft\" writes has it beside the adapter, and model:save_gguf(path, { "
          + "merge = true }) in the file"
      )
    }
    for sentence in said { Warnings.show("save_adapter: " + sentence) }
    return [said.first.map { .string($0) } ?? .nil]
  }

  /// Says of an adapter whose base is one that no file has where it has to be saved too.
  func warnOfBase(_ model: LanguageModel, _ path: String) throws {
    let modules = PEFTFiles.modulesOfOtherBase(model)
    guard let first = modules.first else { return }
    Warnings.show(
      "save_adapter: \(path): the base of \(modules.count) modules, \(first) the first, became another "
        + "one in the rounds of LoftQ; the adapter is wrong on the model that was loaded. Save the base too: "
        + "model:without_adapters(function() model:save(directory) end)")
  }

  var saveGGUF: NativeFunction {
    NativeFunction(
      "save_gguf",
      "Writes the model as a GGUF file for llama.cpp, Ollama and this engine: weights, "
        + "architecture, tokenizer and chat template. One matrix is held at a time. The header and every weight are "
        + "read back before the file takes the place of an older one. Returns, and prints as "
        + "warnings, what llama.cpp does otherwise with the file.",
      [
        Parameter("path", .string, "of the file, NAME.gguf"),
        Parameter("options", .options(Self.ggufOptions), optional: true, "the options below"),
      ], returns: "string[]",
      errors:
        "when adapters are attached and merge is not set, when GGUF files cannot say what the model has (experts, "
        + "windows that llama.cpp does not know, a tokenizer without a name there), or a weight is not finite"
    ) { call in
      let options = call.options("options")
      let mixture = options.string("type").flatMap(GGUFMixture.init) ?? .q4_k_m
      let (model, path) = (try self.model(call), try self.placeToSave(try call.string("path")))
      guard path.hasSuffix(".gguf") else { throw call.invalid("the file must end with .gguf, got \(path)") }
      var said: [String] = []
      try self.byFirst(call) {
        said = try model.saveGGUF(path, mixture, merging: options.bool("merge") ?? false)
      }
      for sentence in said { Warnings.show("save_gguf: " + sentence) }
      return [.table(call.state.list(said.map { .string($0) }))]
    }
  }
}
