import Models

extension LanguageModel {
  /// The tree of modules with parameters, bytes, quantization and adapters; layers that are alike are shown once.
  func treeText(depth: Int) -> String {
    var lines = ["Model \(path): \(config.modelType.rawValue), \(grouped(modules.reduce(0) { $0 + $1.parameterCount })) parameters"]
    var shown: Set<String> = []
    for module in modules {
      let parts = module.name.split(separator: ".")
      if let layer = module.layer, layer > 0 {
        if shown.insert("layers").inserted { lines.append("  model.layers.1 … \(config.layerCount - 1): as layer 0") }
        continue
      }
      guard parts.count <= min(max(1, depth), 8) + 2 else { continue }
      lines.append("  " + describe(module))
    }
    let trained = trainableParameters.reduce(0) { $0 + $1.tensor.elementCount }
    if trained > 0 { lines.append("  trainable: \(grouped(trained)) in \(trainableParameters.count) tensors") }
    return lines.joined(separator: "\n")
  }

  private func describe(_ module: Module) -> String {
    let shape = module.weightShape.map(String.init).joined(separator: " x ")
    var text = "\(module.name)  \(module.kind.rawValue) [\(shape)]"
    if let dtype = module.quantized?.kind.rawValue ?? module.weight?.dtype.name { text += " \(dtype)" }
    if module.byteCount > 0 { text += " \(grouped(module.byteCount)) bytes" }
    if let adapter = module.adapter { text += "  lora rank \(adapter.rank) alpha \(adapter.alpha)" }
    return text
  }

  private func grouped(_ number: Int) -> String {
    var text = ""
    for (index, digit) in String(number).reversed().enumerated() {
      if index > 0, index % 3 == 0 { text.append(",") }
      text.append(digit)
    }
    return String(text.reversed())
  }
}
