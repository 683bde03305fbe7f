import Adapters
import LuaRuntime
import Models

extension Engine {
  private static let vectorFields = [
    Parameter("name", .string, "full dotted name of the module"),
    Parameter("lr", .positive, default: "1", "factor on the optimizer's learning rate"),
  ]

  /// Methods of a model whose adapters have something in common: random matrices, or a start from data.
  var adapterStartMethods: [NativeFunction] {
    [
      NativeFunction(
        "attach_vera", "Makes VeRA adapters on the named modules; recipes use add_vera.",
        [
          Parameter("list", .rows(Self.vectorFields), "one table for each module"),
          Parameter(
            "options",
            .options([
              Parameter("rank", .count, "rows of A and columns of B, which all modules share"),
              Parameter("dropout", .real(.rate), default: "0", "share of the branch's inputs that are dropped"),
              Parameter("d_initial", .real(.finite), default: "0.1", "what the vector of the rank starts with"),
              Parameter(
                "key", .whole(0...0xFFFF_FFFF), default: "0",
                "seed of A and B, which are drawn as PyTorch does (PEFT's projection_prng_key)"),
              Parameter(
                "save_projection", .boolean, default: "true",
                "write A and B too; without them a reader draws them again"),
            ]), "the options below"), Self.setName,
        ], returns: "integer", errors: "when a module is not linear or has an adapter"
      ) { call in
        let (model, options) = (try self.model(call), call.options("options"))
        let entries = try call.table("list").elements.map { try self.entry($0, Self.vectorFields, call) }
        let names = entries.map { $0.string("name") ?? "" }
        let projections = try VeRA.Projections(
          rank: options.int("rank") ?? 0, key: options.int("key") ?? 0, for: names.compactMap { model.module($0) },
          isSaved: options.bool("save_projection") ?? true, on: model.backend)
        let adapters = zip(names, entries).map { name, entry in
          let method = VeRA(
            projections, dropout: options.double("dropout") ?? 0, start: options.double("d_initial") ?? 0.1,
            learningRateFactor: entry.double("lr") ?? 1)
          return (name, method as any AdapterMethod)
        }
        return [.integer(try model.attach(adapters, set: Self.setName(call["name"])))]
      },
      NativeFunction(
        "train_tokens",
        "Trains rows of the embedding and no others, such as those of new tokens; where the embedding "
          + "is the output matrix too, the logits follow (PEFT's trainable_token_indices). Returns the trained "
          + "parameters.",
        [
          Parameter("ids", .table, "the token ids"),
          Parameter(
            "options",
            .options([
              Parameter("lr", .positive, default: "1", "factor on the optimizer's learning rate"), Self.setName,
            ]), optional: true, "the options below"),
        ], returns: "integer", errors: "for an id that is no token, and when the embedding has an adapter"
      ) { call in
        let (model, options) = (try self.model(call), call.options("options"))
        guard let ids = try call.table("ids").integers(), !ids.isEmpty,
          let embedding = model.modules.first(where: { $0.kind == .embedding })
        else { throw call.invalid("ids must be a list of token ids, at least one") }
        let method = TrainedTokens(
          try self.tokenIDs(ids, model.spec.vocabularySize), learningRateFactor: options.double("lr") ?? 1)
        return [.integer(try model.attach([(embedding.name, method)], set: Self.setName(options["name"])))]
      },
      NativeFunction(
        "attach_eva",
        "Makes LoRA adapters that start with the directions of their inputs in samples; recipes use add_lora.",
        [
          Parameter("list", .rows(Self.adapterFields), "one table for each module"),
          Parameter("samples", .object("Samples"), "what goes through the model"),
          Parameter("options", .options(Self.evaFields), "the options below"), Self.setName,
        ], returns: "integer",
        errors: "when the directions do not settle, or a batch has fewer trained tokens than a module's largest rank"
      ) { call in
        let options = call.options("options")
        let adapters = try call.table("list").elements.map { value in
          guard let (name, method) = try self.lora(value, call) as? (String, LoRA) else {
            throw call.invalid("init = \"eva\" goes with method = \"lora\"")
          }
          return (module: name, method: method)
        }
        guard case .object(let object) = call["samples"], let samples = object as? Samples, samples.count > 0 else {
          throw call.invalid("eva needs samples")
        }
        let size = options.int("batch") ?? 4
        let batches = try stride(from: 0, to: samples.count, by: size).map { start in
          try (start..<min(start + size, samples.count)).map {
            (ids: try samples.ids($0), labels: try samples.labels($0))
          }
        }
        let how = EVA(
          rho: options.double("rho") ?? 2, tau: options.double("tau") ?? 0.99,
          usesLabels: options.bool("trained_only") ?? true, whitens: options.bool("whiten") ?? false,
          adjustsScaling: options.bool("adjust_scaling") ?? true, batchLimit: options.int("batches") ?? 1000)
        let model = try self.model(call)
        model.seed = self.seed
        return [.integer(try model.attach(adapters, how, batches: batches, set: Self.setName(call["name"])))]
      },
    ]
  }

  /// How the start of EVA is searched for; the names in brackets are PEFT's.
  static let evaFields = [
    Parameter("batch", .count, default: "4", "samples that go through the model together"),
    Parameter("rho", .real(.finite), default: "2", "largest rank of a module, as a multiple of rank; 1 moves no ranks"),
    Parameter(
      "tau", .real(.finite), default: "0.99", "cosine to the direction before the last batch from which it is found"),
    Parameter("trained_only", .boolean, default: "true", "trained tokens count alone (use_label_mask)"),
    Parameter("whiten", .boolean, default: "false", "divide by the root of the singular values"),
    Parameter(
      "adjust_scaling", .boolean, default: "true", "alpha follows the rank of a module (adjust_scaling_factors)"),
    Parameter("batches", .count, default: "1000", "most batches before it is an error that directions still turn"),
  ]
}
