import Numerics
import Optimizers

extension OptimizerRule {
  /// What its function takes: its numbers, the width of its state where there is a choice, and where that lies.
  var luaOptions: [Parameter] {
    hyperparameters.map(\.luaOption) + (widths.count > 1 ? [widthOption] : []) + [
      Parameter("paged", .boolean, default: "false", "keep state within the budget, the rest in a file"),
      Parameter(
        "budget", .oneOf([.string, .whole(1...(1 << 60))]), optional: true, "bytes of resident state, \"256MiB\""),
      Parameter(
        "spill", .string, optional: true,
        "directory of the spill file; default the run directory, else TMPDIR, else /var/tmp"),
    ]
  }

  private var widthOption: Parameter {
    let codes = moments.map { "\($0.name) (\($0.map.rawValue) map)" }.joined(separator: ", ")
    return Parameter(
      "bits", .integer, default: String(widths[0]), choices: widths.map(String.init),
      "width of the state; 8 keeps codes of \(codes) in blocks of \(DynamicMap.stateBlockSize)")
  }
}

extension Hyperparameter {
  fileprivate var luaOption: Parameter {
    func text(_ value: Float) -> String {
      value == value.rounded() ? String(Int(value)) : String(value).replacing("e-0", with: "e-")
    }
    let standard = defaults.map { $0.map(text).joined(separator: ", ") }.map { count == 1 ? $0 : "{ \($0) }" }
    guard count > 1 else { return Parameter(name, .real(range), default: standard, meaning) }
    return Parameter(name, .table, default: standard, "\(meaning) (\(count) numbers \(range))")
  }
}
