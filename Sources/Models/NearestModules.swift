import Formats

extension LanguageModel {
  /// Names of modules that may be meant by one that no module has, at most three: those that end or begin with it, that
  /// have its parts in this order, or that are spelt nearly so, as a whole or from one of their dots on. The output
  /// that a model has no matrix for is its embedding.
  package func nearestModules(to name: String) -> [String] {
    let names = modules.map(\.name)
    let longer = names.filter { $0.hasSuffix("." + name) || $0.hasPrefix(name + ".") }
    if !longer.isEmpty { return Array(longer.prefix(3)) }
    let parts = name.split(separator: ".")
    let having = names.filter { candidate in
      var rest = candidate.split(separator: ".")[...]
      for part in parts {
        guard let place = rest.firstIndex(of: part) else { return false }
        rest = rest[(place + 1)...]
      }
      return parts.count > 1
    }
    if !having.isEmpty { return Array(having.prefix(3)) }
    if let whole = nearestName(to: name, among: names) { return [whole] }
    // The last of its parts as many as the name has.
    func end(_ candidate: String) -> String {
      candidate.split(separator: ".").suffix(parts.count).joined(separator: ".")
    }
    if let ending = nearestName(to: name, among: names.map(end)) {
      return Array(names.filter { end($0) == ending }.prefix(3))
    }
    let isOutput = nearestName(to: name, among: ["lm_head"]) != nil
    return isOutput ? modules.first { $0.kind == .embedding }.map { [$0.name] } ?? [] : []
  }
}
