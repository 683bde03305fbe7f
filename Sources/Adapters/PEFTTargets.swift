import Formats
import Models
import Tokenizers

/// Which modules the fields of adapter_config.json mean, as PEFT 0.21 matches their names
/// (tuners_utils.check_target_module_exists).
struct PEFTTargets {
  private enum Names {
    /// Full names, or what follows a dot in them.
    case list([String])
    /// A regular expression over full names.
    case pattern(Pattern)
    /// Every linear module but the output matrix.
    case allLinear
    case none
  }

  private let targets: Names
  private let excluded: Names
  /// nil: all of them.
  private let layers: Set<Int>?
  private let layerPatterns: [Pattern]

  /// - Throws: `AdapterError.badField`.
  init(_ configuration: JSON, path: String) throws {
    targets = try Self.names("target_modules", configuration, path)
    excluded = try Self.names("exclude_modules", configuration, path)
    layers = try Self.layers(configuration, path)
    let patterns = configuration["layers_pattern"]?.unlessNull
    let names = patterns.map { $0.array?.map(\.string) ?? [$0.string] } ?? []
    guard !names.contains(nil) else {
      throw AdapterError.badField(path: path, field: "layers_pattern", expected: "a name or a list of names")
    }
    let asked = names.compactMap { $0 }.filter { !$0.isEmpty }
    layerPatterns =
      try asked.isEmpty
      ? [Pattern(#".*?\.[^.]*\.(\d+)\."#, field: "layers_pattern", path: path)]
      : asked.map { try Pattern(#"(?:^|.*?\.)"# + $0 + #"\.(\d+)\."#, field: "layers_pattern", path: path) }
    if !asked.isEmpty, layers == nil {
      throw AdapterError.badField(
        path: path, field: "layers_pattern", expected: "used together with layers_to_transform")
    }
    if case .list = targets { return }
    guard layers == nil else {
      throw AdapterError.badField(
        path: path, field: "layers_to_transform", expected: "used with a list of target_modules")
    }
  }

  /// Whether the adapter is meant to be on this module.
  /// - Throws: `AdapterError.badField` for a pattern that cannot be matched.
  func contains(_ module: Module) throws -> Bool {
    let names = PEFTNames.all(module)
    guard try !matches(excluded, module) else { return false }
    if case .list(let listed) = targets, names.contains(where: listed.contains) { return true }
    guard try matches(targets, module) else { return false }
    guard let layers else { return true }
    for pattern in layerPatterns {
      if let number = try pattern.prefix(of: names[0])?.split(separator: ".").last, let layer = Int(number) {
        return layers.contains(layer)
      }
    }
    return false
  }

  private func matches(_ names: Names, _ module: Module) throws -> Bool {
    let own = PEFTNames.all(module)
    return switch names {
    case .list(let list): list.contains { name in own.contains { $0 == name || $0.hasSuffix("." + name) } }
    case .pattern(let pattern): try own.contains { try pattern.prefix(of: $0) == $0 }
    case .allLinear: module.isLayerMatrix
    case .none: false
    }
  }

  private static func names(_ field: String, _ configuration: JSON, _ path: String) throws -> Names {
    switch configuration[field] ?? .null {
    case .null where field == "exclude_modules" || configuration["target_parameters"]?.array?.isEmpty == false:
      return .none
    case .string(let text) where field == "target_modules" && text.lowercased() == "all-linear": return .allLinear
    case .string(let text): return .pattern(try Pattern("(?:" + text + #")\z"#, field: field, path: path))
    case .array(let list) where list.allSatisfy({ $0.string != nil }): return .list(list.compactMap(\.string))
    default: throw AdapterError.badField(path: path, field: field, expected: "a list of names or a regular expression")
    }
  }

  private static func layers(_ configuration: JSON, _ path: String) throws -> Set<Int>? {
    guard let value = configuration["layers_to_transform"], !value.isNull else { return nil }
    let numbers = (value.array ?? [value]).map(\.int)
    guard !numbers.contains(nil) else {
      throw AdapterError.badField(path: path, field: "layers_to_transform", expected: "a layer or a list of layers")
    }
    return numbers.isEmpty ? nil : Set(numbers.compactMap { $0 })
  }
}

/// A regular expression of adapter_config.json, matched from the start of a module's name as Python's `re.match` does.
struct Pattern {
  private let regex: Regex
  private let field: String
  private let path: String

  /// - Throws: `AdapterError.badField` for an expression that is none.
  init(_ source: String, field: String, path: String) throws {
    do { regex = try Regex(#"\A(?:"# + source + ")", file: path) } catch {
      throw AdapterError.badField(path: path, field: field, expected: "a regular expression (\(error))")
    }
    self.field = field
    self.path = path
  }

  /// What of the name matches from its start; nil for no match.
  func prefix(of name: String) throws -> String? {
    do {
      guard let range = try regex.matches(in: Array(name.utf8)).first else { return nil }
      return String(decoding: Array(name.utf8)[range], as: UTF8.self)
    } catch {
      throw AdapterError.badField(path: path, field: field, expected: "an expression that can be matched (\(error))")
    }
  }
}
