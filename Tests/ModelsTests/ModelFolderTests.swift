import CPUBackend
import Formats
import Foundation
import Tensors
import Testing

@testable import Models

private let tiny = SmolLM2.root.appendingPathComponent("models/tiny").path

private func opened(_ path: String) throws -> LanguageModel {
  try ModelLoader(backend: CPUBackend(threadCount: 2), options: LoadOptions(computeType: .f32)).load(path)
}

private func write(_ files: [String: String], to folder: String) throws {
  for (name, text) in files {
    try FileSystem.makeDirectory(FileSystem.directoryName("\(folder)/\(name)"))
    try AtomicFile.write("\(folder)/\(name)", text)
  }
}

private func text(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

private func withFolder(_ body: (String) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
  defer { try? FileManager.default.removeItem(atPath: folder) }
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  try body(folder)
}

@Suite struct ModelFolderTests {
  /// Without a tokenizer of its own the model would be read with the one that lies there, and removing that loses it.
  @Test(arguments: [
    ["tokenizer.json", "tokenizer_config.json"], ["tokenizer.model"], ["chat_template.jinja"],
    ["additional_chat_templates/rag.jinja"], ["generation_config.json"],
  ]) func whatTheModelCannotReplaceIsRefusedByName(names: [String]) throws {
    try withFolder { folder in
      let model = try opened(modelFixtures + "/base")
      #expect(model.tokenizer == nil)
      try write(Dictionary(uniqueKeysWithValues: names.map { ($0, "mine") }), to: folder + "/out")
      #expect { try model.save(directory: folder + "/out") } throws: {
        "\($0)".contains("/out: holds \(names.joined(separator: ", ")), which readers would take")
      }
      for name in names { #expect(try text(folder + "/out/" + name) == "mine") }
      #expect(!FileSystem.exists(folder + "/out/config.json"))
    }
  }

  /// A tokenizer goes as one: files of another beside the new one would change it.
  @Test func aTokenizerReplacesAnotherWhole() throws {
    try withFolder { folder in
      let out = folder + "/out"
      let old = ["vocab.json": "{}", "chat_template.jinja": "old", "additional_chat_templates/rag.jinja": "old"]
      try write(old, to: out)
      try write(["notes": "mine", "additional_chat_templates/notes.md": "mine"], to: out)
      try opened(tiny).save(directory: out)
      for name in old.keys { #expect(!FileSystem.exists("\(out)/\(name)"), "\(name)") }
      for name in ["notes", "additional_chat_templates/notes.md"] { #expect(try text("\(out)/\(name)") == "mine") }
      #expect(try opened(out).tokenizer != nil)
    }
  }

  /// transformers adds such an adapter to the model.
  @Test func anAdapterBesideTheWeightsIsNamed() throws {
    try withFolder { folder in
      try FileManager.default.copyItem(atPath: tiny, toPath: folder + "/base")
      #expect(try opened(folder + "/base").notices.isEmpty)
      try write(["adapter_config.json": "{}"], to: folder + "/base")
      let said = try opened(folder + "/base").notices
      #expect(said.count == 1 && said[0].contains("an adapter lies beside the weights"), "\(said)")
    }
  }

  /// transformers keeps one file for each chat template that has a name.
  @Test func namedChatTemplatesGoAlong() throws {
    try withFolder { folder in
      try FileManager.default.copyItem(atPath: tiny, toPath: folder + "/base")
      let files = ["chat_template.jinja": "{{ 1 }}", "additional_chat_templates/tool_use.jinja": "{{ 2 }}"]
      try write(files, to: folder + "/base")
      let model = try opened(folder + "/base")
      var options = ModelQuantizer.Options()
      options.blockSize = 32
      try ModelQuantizer(backend: CPUBackend(threadCount: 2), options: options).convert(
        folder + "/base", to: folder + "/quantized")
      for _ in 1...2 { try model.save(directory: folder + "/saved") }
      try model.save(directory: folder + "/base")
      for (name, wanted) in files {
        for place in ["saved", "quantized", "base"] { #expect(try text("\(folder)/\(place)/\(name)") == wanted) }
      }
    }
  }
}
