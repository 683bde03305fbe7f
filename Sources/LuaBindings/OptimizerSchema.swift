import Numerics
import Optimizers

/// An option of an `optim` function, and its kinds as stdlib/qlora/strict.lua writes them.
struct OptimizerOption {
  let parameter: Parameter
  let kinds: String

  init(_ name: String, _ type: ParameterType, optional: Bool = true, kinds: String, _ doc: String) {
    parameter = Parameter(name, type, optional: optional, doc)
    self.kinds = optional ? kinds : "!" + kinds
  }
}

extension OptimizerRule {
  /// What its function takes: its numbers, the width of its state where there is a choice, and where that lies.
  var luaOptions: [OptimizerOption] {
    hyperparameters.map(\.luaOption) + (widths.count > 1 ? [widthOption] : []) + [
      OptimizerOption("paged", .boolean, kinds: "boolean", "keep state within the budget, the rest in a file"),
      OptimizerOption(
        "budget", .oneOf([.string, .integer]), kinds: "string|count", "bytes of resident state, \"256MiB\""),
      OptimizerOption(
        "spill", .string, kinds: "string",
        "directory of the spill file; default the run directory, else TMPDIR, else /var/tmp"),
    ]
  }

  private var widthOption: OptimizerOption {
    let codes = moments.map { "\($0.name) (\($0.map.rawValue) map)" }.joined(separator: ", ")
    return OptimizerOption(
      "bits", .integer, kinds: "count",
      "\(widths.map(String.init).joined(separator: " or ")) of state; 8 keeps codes of \(codes) in blocks of "
        + "\(DynamicMap.stateBlockSize); default \(widths[0])")
  }
}

extension Hyperparameter {
  fileprivate var luaOption: OptimizerOption {
    let isPositive = range.lower == 0 && !range.includesLower
    func text(_ value: Float) -> String {
      value == value.rounded() ? String(Int(value)) : String(value).replacing("e-0", with: "e-")
    }
    let standard = defaults.map { "; default \($0.map(text).joined(separator: ", "))" } ?? ""
    let numbers = count == 1 ? "a number" : "\(count) numbers"
    return OptimizerOption(
      name, count == 1 ? .number : .table, optional: defaults != nil,
      kinds: count > 1 ? "table" : isPositive ? "positive" : "number", "\(meaning) (\(numbers) \(range)\(standard))")
  }
}
