import Adapters
import LuaRuntime
import Models

extension Engine {
  /// The name of a set of adapters, for functions that make one.
  static let setName = Parameter(
    "name", .string, default: "\"\(AdapterSet.defaultName)\"", "what the adapter is called among others")
  static func setName(_ given: LuaValue) -> String { given.asString ?? AdapterSet.defaultName }

  /// One name or a list of names.
  private static let names = Parameter(
    "names", .oneOf([.string, .table]), "a name, or a list of names; {} for the base alone")

  /// Methods of a model that choose among its adapters and make one of several.
  var adapterSetMethods: [NativeFunction] {
    [
      NativeFunction(
        "adapters",
        "The adapters that the model holds: { name, kind, in_use, trained, modules, parameters, bytes } "
          + "of each, in the order in which they came; chat_template is the Jinja source of "
          + "one of its own.", returns: "table[]"
      ) { call in
        let model = try self.model(call)
        let rows = model.adapterSets.map { set in
          let row = call.state.newTable()
          row["name"] = .string(set.name)
          row["kind"] = .string(set.members.first?.adapter.kind ?? "")
          row["in_use"] = .bool(model.namesInUse.contains(set.name))
          row["trained"] = .bool(set.isTrained)
          row["modules"] = .integer(set.members.count)
          row["parameters"] = .integer(set.elementCount)
          row["bytes"] = .integer(set.byteCount)
          row["chat_template"] = set.chatTemplate.map { .string($0) } ?? .nil
          return LuaValue.table(row)
        }
        return [.table(call.state.list(rows))]
      },
      NativeFunction(
        "use_adapters",
        "Computes with these adapters from now on, at no cost. The changes of several add up. What is "
          + "trained is what is in use and trainable.",
        [Self.names], errors: "for a name that no adapter has, and for several where one is no low-rank branch"
      ) { call in
        try self.model(call).useAdapters(self.names(call))
        return []
      },
      NativeFunction(
        "with_adapters", "Runs a function with these adapters in use and returns what it returns.",
        [Self.names, Parameter("body", .function, "called without arguments")], returns: "any",
        errors: "as use_adapters, and what the function raises"
      ) { call in
        let body = try call.closure("body")
        return try self.model(call).withAdapters(self.names(call)) { try body.call() }
      },
      NativeFunction(
        "combine_adapters",
        "Makes a new LoRA adapter of several, as PEFT's add_weighted_adapter does, and uses it. It is not trained.",
        [
          Parameter("name", .string, "of the new adapter"),
          Parameter("weights", .table, "by name: { poems = 0.7, prose = 0.3 }"),
          Parameter(
            "options",
            .options([
              Parameter(
                "method", .string, default: "\"cat\"", choices: AdapterCombination.Method.allCases.map(\.rawValue),
                "\"cat\" is the exact sum, whose rank is the sum of the ranks; \"svd\" the nearest of a rank; the "
                  + "others keep the rank and approximate, those that end in _svd by the changes themselves"
              ),
              Parameter(
                "rank", .count, optional: true, "of svd and those that end in _svd; default the largest there is"),
              Parameter(
                "density", .real(.share), optional: true,
                "share of the elements that stay; for ties, dare_linear, dare_ties, magnitude_prune, and their _svd"),
              Parameter(
                "sign", .string, default: "\"total\"", choices: ["total", "frequency"],
                "what decides the sign of an element in ties, dare_ties and their _svd: the sum, or the number of "
                  + "adapters"),
              Parameter(
                "seed", .whole(0 ... .max), default: "--seed", "of the draws of dare_linear, dare_ties and their _svd"),
            ]), optional: true, "the options below"),
        ], returns: "integer",
        errors: "when an adapter is no LoRA, or ranks differ where the matrices are added, or the name is taken"
      ) { call in
        [.integer(try self.combine(call))]
      },
    ]
  }

  private func names(_ call: Call) throws -> [String] {
    if let name = call["names"].asString { return [name] }
    return try call.strings(try call.table("names"), "names")
  }

  private func combine(_ call: Call) throws -> Int {
    let (model, given) = (try self.model(call), call.options("options"))
    let method = AdapterCombination.Method(rawValue: given.string("method") ?? "cat") ?? .cat
    let density = given.double("density")
    guard method.prunes == (density != nil) else {
      throw call.invalid(
        method.rawValue + (method.prunes ? " needs density = 0.5 or another share" : " takes no density"))
    }
    let rank = given.int("rank")
    guard rank == nil || method.decomposes else { throw call.invalid(method.rawValue + " takes no rank") }
    guard given["sign"].isNil || method.elects else { throw call.invalid(method.rawValue + " takes no sign") }
    guard given["seed"].isNil || method.draws else { throw call.invalid(method.rawValue + " takes no seed") }
    let weights = try call.table("weights").pairs.map { key, value in
      guard let set = key.asString, let weight = value.asDouble else {
        throw call.invalid("weights must be numbers by name, such as { poems = 0.7, prose = 0.3 }")
      }
      return (set: set, weight: weight)
    }
    // The order of a table of names is no order; that of the sets is.
    let order = Dictionary(
      model.adapterSets.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
    let parts = weights.sorted { (order[$0.set] ?? .max, $0.set) < (order[$1.set] ?? .max, $1.set) }
    let seed = given["seed"].asInt.map { UInt64($0) } ?? self.seed
    return try model.combineAdapters(
      parts, into: try call.string("name"),
      AdapterCombination(
        method, density: density ?? 1, countsSigns: given.string("sign") == "frequency", seed: seed, rank: rank))
  }
}
