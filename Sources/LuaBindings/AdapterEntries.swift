import Adapters
import LuaRuntime
import Models

/// The entries of lists from which adapters are made.
extension Engine {
  /// What an (IA)³ adapter of one module is made from.
  static let factorFields = [
    Parameter("name", .string, "full dotted name of the module"),
    Parameter("feedforward", .boolean, default: "false", "scale the inputs instead of the outputs"),
    Parameter("lr", .positive, default: "1", "factor on the optimizer's learning rate"),
  ]

  /// One entry, checked.
  func entry(_ value: LuaValue, _ fields: [Parameter], _ call: Call) throws -> Options {
    guard let table = value.asTable else { throw call.invalid("a list of tables expected, got \(value.typeName)") }
    return try call.options(table, fields, of: call.function)
  }

  /// The module of an entry and its settings.
  func lora(_ value: LuaValue, _ call: Call) throws -> (module: String, method: any AdapterMethod) {
    let given = try entry(value, Self.adapterFields, call)
    let initName = given.string("init") ?? "default"
    // What "eva" finds takes the place of the draws.
    let isDrawn = initName == "default" || initName == "eva" && call.function.hasSuffix("attach_eva")
    guard let initialization = isDrawn ? .kaiming : LoRAInitialization(rawValue: initName) else {
      throw call.invalid(
        initName == "eva"
          ? "init = \"eva\" needs data: add_lora { …, eva = { data = data } }"
          : "init must be \"default\", \"gaussian\", \"pissa\", \"olora\", \"loftq\" or \"eva\", got \"\(initName)\"")
    }
    let low = LoRA(
      rank: given.int("rank") ?? 0, alpha: given.double("alpha") ?? 0, dropout: given.double("dropout") ?? 0,
      rankStabilised: given.bool("rslora") ?? false, learningRateFactor: given.double("lr") ?? 1,
      learningRateRatio: given.double("lr_ratio") ?? 1, initialization: initialization,
      powerIterations: given.int("niter") ?? 0)
    let (name, isTied) = (given.string("name") ?? "", given.bool("tied") ?? false)
    let isDoRA = given.string("method") == "dora"
    let model = try self.model(call)
    if model.module(name)?.kind == .embedding, !isDoRA {
      guard !isTied || model.spec.tiesEmbeddings else {
        throw call.invalid("tied = true is for a model whose output matrix is its embedding; select \"lm_head\" too")
      }
      return (name, EmbeddingLoRA(low, isTied: isTied))
    }
    guard !isTied else { throw call.invalid("tied = true is for an embedding, not for \(name)") }
    return (name, isDoRA ? DoRA(low) : low)
  }
}
