/// Weights in forms that are not read, and what to do about them.
package enum OtherWeights {
  /// What of a folder holds weights in another form than the readers look for, in words; nil where nothing does.
  package static func find(in folder: String) -> String? {
    let names = ((try? FileSystem.list(folder)) ?? []).sorted()
    for (isIt, words) in forms {
      let found = names.filter(isIt)
      if !found.isEmpty { return "there is \(list(found)), \(words)" }
    }
    return nil
  }

  /// What to do about one file that is no model by its name; nil where nothing is known about it.
  package static func words(for path: String) -> String? {
    let name = FileSystem.baseName(path)
    if name.hasSuffix(".safetensors") { return "weights alone; name their folder, which has config.json too" }
    return forms.first { $0.isIt(name) }?.words
  }

  private static func list(_ names: [String]) -> String {
    names.prefix(3).joined(separator: ", ") + (names.count > 3 ? " and \(names.count - 3) more" : "")
  }

  private static func ends(_ endings: String...) -> @Sendable (String) -> Bool {
    { name in endings.contains { name.lowercased().hasSuffix($0) } }
  }

  /// In the order in which they say most.
  private static let forms: [(isIt: @Sendable (String) -> Bool, words: String)] = [
    (
      ends(".part", ".incomplete", ".download", ".crdownload", ".aria2"),
      "a download that has not ended; fetch it again"
    ),
    (
      { $0 == "adapter_model.bin" },
      "an adapter in PyTorch's pickle form, which is not read; in Python load it with PEFT and save it again with "
        + "save_pretrained(DIR), which writes safetensors"
    ),
    (
      { $0.hasPrefix("consolidated") && $0.hasSuffix(".safetensors") },
      "weights under the names that their maker gave them, which are not read; fetch the model's own form for "
        + "transformers (model.safetensors, or model-00001-of-…)"
    ),
    (
      { $0.hasPrefix("model-") && $0.hasSuffix(".safetensors") },
      "parts of a model without their index; fetch model.safetensors.index.json too"
    ),
    ({ $0.hasPrefix("adapter_model") && $0.hasSuffix(".safetensors") }, "an adapter; load its base, and it on that"),
    (ends(".safetensors"), "which a model is not read from in a folder; name it model.safetensors"),
    (ends(".gguf"), "of which one can be named as the model"),
    (
      { name in
        ends(".bin", ".pth", ".pt", ".ckpt")(name)
          && !["training_args", "optimizer", "scheduler", "rng_state"].contains { name.hasPrefix($0) }
      },
      "weights in PyTorch's pickle form, which is not read; in Python load them with transformers and save them again "
        + "with save_pretrained(DIR), which writes safetensors"
    ),
    (
      ends(".h5", ".msgpack", ".onnx", ".npz"),
      "weights in a form that is not read; fetch the model's safetensors or a .gguf file"
    ),
  ]
}
