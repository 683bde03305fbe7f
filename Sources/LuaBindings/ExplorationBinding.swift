import Adapters
import Autograd
import LuaRuntime
import Models
import Tensors

extension ForwardHook: LuaObject {
  package static var luaClassName: String { "Hook" }
}

/// Looking into a loaded model: hooks, losses by token, attention, adapters, quantization.
extension Engine {
  var hookClass: NativeClass {
    NativeClass(
      "Hook", "A function on a module, from model:hook. It stays until removed, or until the end of a `<close>` scope.",
      methods: [
        NativeFunction("remove", "Takes the hook off; a second call does nothing.") { call in
          try call.receiver(as: ForwardHook.self).remove()
          return []
        }
      ],
      metamethods: [
        NativeFunction("__close", "The same as remove.") { call in
          if case .object(let object) = call.arguments.first ?? .nil { (object as? ForwardHook)?.remove() }
          return []
        }
      ])
  }

  var explorationMethods: [NativeFunction] {
    let input = Parameter("input", .oneOf([.string, .table]), "text or token ids")
    return [
      NativeFunction(
        "hook",
        "Calls a function after every forward pass of a module with (module, output, input). Returning a tensor of the "
          + "output's shape replaces the output, returning nothing leaves it. Without a hook the forward costs nothing "
          + "more. A function that uses its model keeps it in memory until the hook is removed.",
        [
          Parameter("name", .string, "full dotted name; the input of input_layernorm is the residual stream"),
          Parameter("fn", .function, "fn(module, output, input)"),
        ], returns: "Hook"
      ) { call in
        let model = try call.receiver(as: LanguageModel.self)
        let module = try self.module(try call.string("name"), of: model)
        if !model.holds(module) { try model.requireWhole("hook on \(module.name), which another rank holds") }
        let body = try call.closure("fn")
        let state = call.state
        let hook = module.addHook { [unowned module, unowned self] input, output in
          let result = try body.call([.object(module), self.value(output, state), .object(input)]).first ?? .nil
          if result.isNil { return nil }
          guard case .object(let object) = result, let tensor = object as? Tensor else {
            throw BindingError.invalid(
              function: "hook on \(module.name)",
              message: "fn returned a \(result.typeName), expected a Tensor or nothing")
          }
          return tensor
        }
        return [.object(hook)]
      },
      NativeFunction(
        "token_losses", "-log p of each token after the first, given those before it, f32 [T - 1].", [input],
        returns: "Tensor"
      ) { call in
        let model = try call.receiver(as: LanguageModel.self)
        return [self.value(try model.tokenLosses(try self.ids(call, "input", special: true)), call.state)]
      },
      NativeFunction(
        "attention", "Attention weights of a layer, f32 [heads, T, T], row = query; quadratic in T.",
        [input, Parameter("layer", .amount, "number in the tensor names, from 0")], returns: "Tensor"
      ) { call in
        let model = try call.receiver(as: LanguageModel.self)
        let ids = try self.ids(call, "input", special: true)
        return [self.value(try model.attentionMaps(ids, layer: try call.int("layer")), call.state)]
      },
      NativeFunction(
        "quantization_error",
        "Distance of quantized matrices from the weights in the file: a list of { name, rmse, max, relative, "
          + "bits_per_param }.",
        [Parameter("names", .table, optional: true, "modules; all quantized ones when left out")], returns: "table[]"
      ) { call in
        let model = try call.receiver(as: LanguageModel.self)
        let names = try call["names"].asTable.map { try self.names($0, of: model, call) }
        let rows = try model.quantizationReports(of: names).map { report -> LuaValue in
          let row = call.state.newTable()
          row["name"] = .string(report.module)
          row["rmse"] = .number(report.rmse)
          row["max"] = .number(report.maximum)
          row["relative"] = .number(report.relative)
          row["bits_per_param"] = .number(report.bitsPerParameter)
          return .table(row)
        }
        return [.table(call.state.list(rows))]
      },
      NativeFunction(
        "adapter_norms",
        "Frobenius norm of what each adapter adds to its weight, by module name; without those that "
          + "no weight stands for.",
        returns: "table<string, number>"
      ) { call in
        let (table, model) = (call.state.newTable(), try call.receiver(as: LanguageModel.self))
        let own = try model.heldModules.compactMap { module in try module.adapterNorm().map { (module.name, $0) } }
        for (name, norm) in try self.all(own, of: model) { table[name] = .number(norm) }
        return [.table(table)]
      },
      NativeFunction(
        "adapter_spectrum",
        "What the adapter of a module adds to its weight: { norm }, or nothing where no weight stands for it, and, for "
          + "a low-rank branch, { singular_values, spectral_norm, effective_rank, norm_a, norm_b, rank }.",
        [Parameter("name", .string, "full dotted name")], returns: "table"
      ) { call in
        let model = try call.receiver(as: LanguageModel.self)
        let module = try self.module(try call.string("name"), of: model)
        guard let adapter = module.adapter else {
          throw call.invalid("\(module.name) has no adapter; model:add_lora or model:add_adapter makes one")
        }
        let table = call.state.newTable()
        guard let branch = adapter.lowRank else {
          table["norm"] = try module.adapterNorm().map { .number($0) } ?? .nil
          return [.table(table)]
        }
        let spectrum = try branch.spectrum()
        table["singular_values"] = .table(call.state.list(spectrum.singularValues.map { .number($0) }))
        table["norm"] = .number(spectrum.norm)
        table["spectral_norm"] = .number(spectrum.spectralNorm)
        table["effective_rank"] = .number(spectrum.effectiveRank)
        table["norm_a"] = .number(spectrum.normA)
        table["norm_b"] = .number(spectrum.normB)
        table["rank"] = .integer(branch.rank)
        return [.table(table)]
      },
    ]
  }

  /// The module of a name, or an error with the names that are like it.
  func module(_ name: String, of model: LanguageModel) throws -> Module {
    if let module = model.module(name) { return module }
    throw ModelError.unknownModule(name: name, nearest: model.nearestModules(to: name))
  }

  private func names(_ table: LuaTable, of model: LanguageModel, _ call: Call) throws -> [String] {
    try table.elements.map { value in
      guard let name = value.asString else { throw call.invalid("names are texts, got \(value.typeName)") }
      return try module(name, of: model).name
    }
  }

  // MARK: Tensors

  var summaryMethods: [NativeFunction] {
    [
      NativeFunction(
        "topk",
        "The k largest elements of the last dimension, f32, descending, NaN first, and their positions from 1, i64.",
        [Parameter("k", .count, "how many")], returns: "Tensor, Tensor", example: "qlora.tensor{3, 1, 2}:topk(2)"
      ) { call in
        let x = try call.receiver(as: Tensor.self)
        let (values, positions) = try x.largest(try call.int("k"))
        let places = try Tensor(integers: positions, shape: values.shape, on: self.backend)
        // Gathered, they bring their gradient back.
        let taken = x.requiresGradient ? try gather(x, axis: x.rank - 1, index: places) : values
        return [self.value(taken, call.state), self.value(try places.shifted(by: 1), call.state)]
      },
      NativeFunction(
        "histogram", "Counts of the elements in equal bins: { low, high, counts, outside }.",
        [
          Parameter(
            "options",
            .options([
              Parameter("bins", .whole(1...4096), default: "20", "how many"),
              Parameter("low", .number, optional: true, "lower border; default the smallest element"),
              Parameter("high", .number, optional: true, "upper border; default the largest element"),
            ]), optional: true, "the options below")
        ], returns: "table", example: "qlora.randn(100):histogram{ bins = 5 }"
      ) { call in
        let options = call.options("options")
        let (low, high) = (options.double("low"), options.double("high"))
        let bins = options.int("bins") ?? 20
        if let low, let high, low >= high { throw call.invalid("low is \(low), expected a number below high, \(high)") }
        let histogram = try call.receiver(as: Tensor.self).histogram(bins: bins, low: low, high: high)
        let table = call.state.newTable()
        table["low"] = .number(histogram.low)
        table["high"] = .number(histogram.high)
        table["counts"] = .table(call.state.list(histogram.counts.map { .integer($0) }))
        table["outside"] = .integer(histogram.outside)
        return [.table(table)]
      },
      NativeFunction(
        "pooled", "A matrix as means over at most rows x columns cells, f32; for drawing large ones.",
        [Parameter("rows", .count, "at most"), Parameter("columns", .count, "at most")], returns: "Tensor",
        example: "qlora.randn(100, 50):pooled(10, 10)"
      ) { call in
        let tensor = try call.receiver(as: Tensor.self)
        return [self.value(try tensor.pooled(rows: try call.int("rows"), columns: try call.int("columns")), call.state)]
      },
    ]
  }
}
