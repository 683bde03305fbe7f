import Formats
import Models

/// The card of a saved adapter: what it is of, its settings, how it was trained and how it is loaded. Its head is what
/// PEFT writes into the README.md of an adapter, which the hub reads.
struct AdapterCard {
  private let model: LanguageModel
  private let name: String
  private let base: (name: String, revision: String?)
  private let members: [(module: Module, adapter: Adapter)]
  private let notes: [(name: String, text: String)]

  /// The card of the adapters in use, under a name such as that of their folder.
  init(_ model: LanguageModel, name: String) {
    self.model = model
    self.name = name
    base = PEFTFiles.base(model.path)
    let sets = model.adapterSets.filter { model.namesInUse.contains($0.name) }
    members = sets.flatMap(\.members)
    notes = sets.flatMap(\.notes)
  }

  /// Markdown.
  var text: String {
    """
    ---
    \(head.joined(separator: "\n"))
    ---

    # \(name)

    An adapter (\(kind)) of \(link)\(base.revision.map { " at revision `\($0)`" } ?? "").

    ## Use

    ```python
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    model = AutoPeftModelForCausalLM.from_pretrained(\(JSON.string(name).text()))
    tokenizer = AutoTokenizer.from_pretrained(\(JSON.string(name).text()))
    ```

    ```sh
    qlora-run chat \(base.name.shellWord) \(name.shellWord)
    ```

    ## Settings

    \(table(settings))
    \(notes.isEmpty ? "" : "\n## Training\n\n\(table(notes))\n")
    """
  }

  private var kind: String { Set(members.map(\.adapter.kind)).sorted().joined(separator: ", ") }
  private var isOnHub: Bool { HubName.looksLikeModel(base.name) && (try? HubName(base.name)) != nil }
  private var link: String { isOnHub ? "[\(base.name)](https://huggingface.co/\(base.name))" : "`\(base.name)`" }
  private var forms: [String] { Set(model.modules.compactMap(\.storedForm)).sorted() }

  private var head: [String] {
    let data = Set(
      notes.flatMap { $0.text.matches(of: /hf:\/\/datasets\/([^\/ ]+\/[^\/@ ]+)/) }.map { String($0.1) })
    let methods = Set(members.map { type(of: $0.adapter.method).peftType.lowercased() }).sorted()
    let tags = ["base_model:adapter:\(base.name)"] + methods + (forms.isEmpty ? [] : ["qlora"])
    return ["base_model: \(yaml(base.name))"]
      + (data.isEmpty ? [] : ["datasets:"] + data.sorted().map { "- \($0)" })
      + ["library_name: peft", "pipeline_tag: text-generation", "tags:"] + tags.map { "- \(yaml($0))" }
  }

  /// A plain word where YAML takes it for a text, else quoted as in JSON, which YAML reads.
  private func yaml(_ text: String) -> String {
    let isWord = text.wholeMatch(of: /[A-Za-z\/][A-Za-z0-9_.\/:-]*[A-Za-z0-9]/) != nil
    // What YAML 1.1 reads as something else than a text.
    let others: Set = ["yes", "no", "on", "off", "true", "false", "null", "nan", "inf"]
    return isWord && !others.contains(text.lowercased()) ? text : JSON.string(text).text()
  }

  private var settings: [(name: String, text: String)] {
    let adapters = members.map(\.adapter)
    // Those of every method there is, in the order in which they come first.
    let names = adapters.flatMap { $0.method.settings.map(\.name) }.reduce(into: [String]()) { names, name in
      if !names.contains(name) { names.append(name) }
    }
    var rows = names.map { name in
      let values = adapters.compactMap { $0.method.settings.first { $0.name == name }?.value.text(.python) }
      let kinds = Set(values)
      return (name: name, text: kinds.count == 1 ? values[0] : "by module: \(kinds.sorted().joined(separator: ", "))")
    }
    let roles = Set(members.map(\.module.role)).sorted().joined(separator: ", ")
    rows.append(("modules", "\(members.count): \(roles)"))
    let parts = model.modules.compactMap(\.trained).reduce(0) { $0 + $1.elementCount }
    let trained = adapters.reduce(0) { $0 + $1.elementCount } + parts
    let all = model.modules.reduce(0) { $0 + $1.parameterCount } + trained - parts
    let share = Int((Double(trained) / Double(max(1, all)) * 10000).rounded())
    let hundredths = String(share % 100)
    rows.append(
      (
        "parameters",
        "\(grouped(trained)) of \(grouped(all)) (\(share / 100).\(hundredths.count == 1 ? "0" : "")\(hundredths) %)"
      ))
    let isNested = model.modules.contains { $0.quantized?.nested != nil }
    let stored = forms.isEmpty ? model.computeType.name : forms.joined(separator: ", ")
    rows.append(("base in memory", stored + (isNested ? ", double-quantized" : "")))
    rows.append(("computed in", model.computeType.name))
    return rows
  }

  private func table(_ rows: [(name: String, text: String)]) -> String {
    func cell(_ text: String) -> String {
      String(text.map { $0 == "\n" ? " " : $0 }).replacing("|", with: "\\|")
    }
    return (["| | |", "|---|---|"] + rows.map { "| \(cell($0.name)) | \(cell($0.text)) |" }).joined(separator: "\n")
  }
}
