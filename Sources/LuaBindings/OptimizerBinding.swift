import Autograd
import LuaRuntime
import Optimizers
import Tensors

/// An optimizer as Lua sees it; state is allocated at the first step, so that planning needs none.
package final class OptimizerObject: LuaObject {
  package static var luaClassName: String { "Optimizer" }
  let parameters: [OptimizedParameter]
  private(set) var options: OptimizerOptions
  private var made: Optimizer?
  /// Asked when the optimizer is made and its options name no directory.
  private let spillDirectory: (() -> String)?

  init(_ parameters: [OptimizedParameter], _ options: OptimizerOptions, spillDirectory: (() -> String)? = nil) {
    self.parameters = parameters
    self.options = options
    self.spillDirectory = spillDirectory
  }

  /// The optimizer itself, made on first use.
  func optimizer() throws -> Optimizer {
    if let made { return made }
    if let spillDirectory { options.spillDirectory = spillDirectory() }
    let optimizer = try Optimizer(parameters, options)
    made = optimizer
    return optimizer
  }

  /// "adamw, 32-bit state, beta1 0.9, …", without the learning rate, which changes.
  func text() throws -> String {
    let numbers = try options.rule.values(options.values).filter { $0.key != Hyperparameter.learningRate.name }
    let texts = numbers.sorted { $0.key < $1.key }.map { name, values in
      name + " " + values.map { "\($0)" }.joined(separator: " ")
    }
    return (["\(options.rule.name), \(options.bits)-bit state"] + texts).joined(separator: ", ")
  }

  /// The rate of steps that name none.
  /// - Throws: `BindingError.invalid` for what is no rate.
  func setLearningRate(_ rate: Double) throws {
    let range = Hyperparameter.learningRate.range
    guard range.contains(Double(Float(rate))) else {
      throw BindingError.invalid(
        function: "Optimizer.lr",
        message: "\(rate) is no learning rate; a \(range.expected(insteadOf: Double(Float(rate)))) expected")
    }
    options.learningRate = Float(rate)
  }

  /// Forgets all gradients.
  /// - Throws: `OptimizerError.unfinishedStep`.
  func zeroGradients() throws {
    if let made { return try made.zeroGradients() }
    for parameter in parameters { parameter.tensor.gradient = nil }
  }

  var statistics: PageStatistics? { made?.statistics }
}

extension Engine {
  var optimizerClass: NativeClass {
    func optimizer(_ call: Call) throws -> OptimizerObject { try call.receiver(as: OptimizerObject.self) }
    return NativeClass(
      "Optimizer", "\(OptimizerRule.all.map(\.title).joined(separator: ", ")) over trained tensors.",
      properties: [
        NativeProperty(
          "lr", "number", "base learning rate; may be assigned",
          set: { _, object, value in
            guard let rate = value.asDouble else {
              throw BindingError.badField(
                className: "Optimizer", field: "lr", expected: "number", got: value.typeName)
            }
            try (object as? OptimizerObject)?.setLearningRate(rate)
          }
        ) { _, object in
          .number(Double((object as? OptimizerObject)?.options.learningRate ?? 0))
        },
        NativeProperty("settings", "string", "its rule, the width of its state and its numbers, without lr") {
          _, object in .string((try? (object as? OptimizerObject)?.text()) ?? "")
        },
      ],
      methods: [
        NativeFunction(
          "step", "One update of every parameter that has a gradient.",
          [
            Parameter(
              "options",
              .options([
                Parameter("lr", .real(.amount), optional: true, "learning rate of this step"),
                Parameter(
                  "grad_scale", .real(.amount), default: "1", "multiplies the gradients, as gradient_norm gives it"),
              ]), optional: true, "the options below")
          ]
        ) { call in
          let object = try optimizer(call)
          let rate = call.options("options").double("lr") ?? Double(object.options.learningRate)
          let scale = call.options("options").double("grad_scale") ?? 1
          try object.optimizer().step(learningRate: rate, gradientScale: Float(scale))
          return []
        },
        NativeFunction(
          "zero_grad", "Forgets all gradients.", errors: "when the last step stopped midway, as on a full disk"
        ) { call in
          try optimizer(call).zeroGradients()
          return []
        },
        NativeFunction("state_bytes", "Bytes of state, in memory and spilled.", returns: "integer") { call in
          [.integer(try optimizer(call).optimizer().stateByteCount)]
        },
        NativeFunction("pages", "Counters of paged state; nil when all of it stays in memory.", returns: "table|nil") {
          call in
          guard let pages = try optimizer(call).statistics else { return [.nil] }
          let table = call.state.newTable()
          for (name, value) in [
            ("pages", pages.pageCount), ("resident", pages.residentPages), ("resident_bytes", pages.residentBytes),
            ("budget", pages.budget), ("evicted", pages.evictions), ("faults", pages.faults),
            ("prefetched", pages.prefetched), ("bytes_written", pages.bytesWritten), ("bytes_read", pages.bytesRead),
          ] {
            table[name] = .integer(value)
          }
          return [.table(table)]
        },
        NativeFunction(
          "state", "Copies: { step =, tensors = { [\"<parameter>.<array>\"] = tensor } }.", returns: "table"
        ) { call in
          let optimizer = try optimizer(call).optimizer()
          let (table, tensors) = (call.state.newTable(), call.state.newTable())
          for (name, tensor) in try optimizer.stateTensors() { tensors[name] = self.value(tensor, call.state) }
          table["step"] = .integer(optimizer.stepCount)
          table["tensors"] = .table(tensors)
          return [.table(table)]
        },
        NativeFunction(
          "load_state", "Takes over what `state` gave; nothing changes when an array is missing or of another size.",
          [Parameter("state", .table, "{ step =, tensors = }")]
        ) { call in
          let table = try call.table("state")
          guard let step = table["step"].asInt, step >= 0, let stored = table["tensors"].asTable else {
            throw call.invalid("state must be what optimizer:state() returns")
          }
          var tensors: [String: Tensor] = [:]
          for (key, value) in stored.pairs {
            guard let name = key.asString, case .object(let object) = value, let tensor = object as? Tensor else {
              throw call.invalid("state.tensors must map names to tensors")
            }
            tensors[name] = tensor
          }
          try optimizer(call).optimizer().restore(from: tensors, stepCount: step)
          return []
        },
      ])
  }

  var optimizerModule: NativeModule {
    let parameters = Parameter("parameters", .table, "list of tensors, from model:trainable()")
    let trained = Parameter("parameters", .table, "list of f32 tensors with requires_grad, from model:trainable()")
    let limit = Parameter("max", .real(.limit), "largest norm; math.huge only measures")
    return NativeModule(
      "Optimizers.",
      OptimizerRule.all.map { rule in
        NativeFunction(
          "optim.\(rule.name)", rule.summary,
          [trained, Parameter("options", .options(rule.luaOptions), "the options below")], returns: "Optimizer",
          errors: "when a tensor is not f32, gets no gradient, is the result of operations or comes twice"
        ) { call in [.object(try self.makeOptimizer(call, rule))] }
      } + [
        NativeFunction(
          "clip_grad_norm", "Norm of all gradients together; they are scaled down to `max` when it is larger.",
          [parameters, limit], returns: "number"
        ) { call in
          let (tensors, limit) = (try self.tensors(call), try call.double("max"))
          _ = try Gradients.scale(norm: 0, limit: limit)
          let norm = try Gradients.norm(of: tensors, over: self.stages(of: tensors))
          try Gradients.clip(tensors, norm: norm, to: limit)
          return [.number(norm)]
        },
        NativeFunction(
          "gradient_norm",
          "Norm of all gradients together, and the factor that brings it down to `max`, 1 when it is not larger. "
            + "`optimizer:step { grad_scale = factor }` applies it, which saves a pass over the gradients.",
          [parameters, limit],
          returns: "number, number"
        ) { call in
          let tensors = try self.tensors(call)
          let norm = try Gradients.norm(of: tensors, over: self.stages(of: tensors))
          return [.number(norm), .number(Double(try Gradients.scale(norm: norm, limit: try call.double("max"))))]
        },
      ])
  }

  func tensors(_ call: Call) throws -> [Tensor] {
    try call.table("parameters").elements.map { value in
      guard case .object(let object) = value, let tensor = object as? Tensor else {
        throw call.invalid("parameters must be tensors, got \(value.typeName)")
      }
      return tensor
    }
  }

  private func makeOptimizer(_ call: Call, _ rule: OptimizerRule) throws -> OptimizerObject {
    let options = call.options("options")
    var values: [String: [Float]] = [:]
    for hyperparameter in rule.hyperparameters where !options[hyperparameter.name].isNil {
      values[hyperparameter.name] = try numbers(options[hyperparameter.name], of: hyperparameter, call)
    }
    var settings = OptimizerOptions(
      rule, learningRate: Float(options.double("lr") ?? 0), bits: options.shared("bits").asInt, values,
      isPaged: options.bool("paged") ?? false)
    let spill = options.string("spill")
    if let spill { settings.spillDirectory = spill }
    if let text = options.string("budget") {
      guard let bytes = parseByteCount(text) else {
        throw call.invalid("budget '\(text)' is no size; write \"256MiB\"")
      }
      settings.budget = bytes
    } else if let bytes = options.int("budget") {
      settings.budget = bytes
    }
    try settings.check()
    let names = parameterNames
    let list = try tensors(call).enumerated().map { index, tensor in
      if tensor.producer != nil || !tensor.requiresGradient {
        throw call.invalid(
          "no step would change parameter \(index + 1): "
            + (tensor.producer != nil ? "it is the result of operations" : "its requires_grad is false"))
      }
      let known = names[ObjectIdentifier(tensor)]
      return OptimizedParameter(
        name: known?.name ?? "parameter.\(index)", tensor: tensor, learningRateFactor: known?.factor ?? 1)
    }
    try Optimizer.check(list)
    return OptimizerObject(list, settings, spillDirectory: spill == nil ? { self.spillDirectory } : nil)
  }

  private func numbers(_ value: LuaValue, of hyperparameter: Hyperparameter, _ call: Call) throws -> [Float] {
    if hyperparameter.count == 1, let number = value.asDouble { return [Float(number)] }
    let elements = value.asTable?.elements ?? []
    let numbers = elements.compactMap(\.asDouble)
    guard hyperparameter.count > 1, elements.count == hyperparameter.count, numbers.count == elements.count else {
      throw call.invalid("\(hyperparameter.name) must be a list of \(hyperparameter.count) numbers")
    }
    return numbers.map { Float($0) }
  }

  /// Names and learning rate factors of the trained tensors of every loaded model.
  var parameterNames: [ObjectIdentifier: (name: String, factor: Double)] {
    var names: [ObjectIdentifier: (name: String, factor: Double)] = [:]
    for model in models.compactMap(\.model) {
      for parameter in model.optimizedParameters {
        names[ObjectIdentifier(parameter.tensor)] = (parameter.name, parameter.learningRateFactor)
      }
    }
    return names
  }
}

/// "256MiB", "12GB", "1024" as bytes; decimal and binary units.
package func parseByteCount(_ text: String) -> Int? {
  let digits = text.prefix { $0.isNumber || $0 == "." }
  guard let value = Double(digits), value >= 0 else { return nil }
  let units: [String: Double] = [
    "": 1, "b": 1, "k": 1e3, "kb": 1e3, "kib": 1024, "m": 1e6, "mb": 1e6, "mib": 1_048_576, "g": 1e9, "gb": 1e9,
    "gib": 1_073_741_824, "t": 1e12, "tb": 1e12, "tib": 1_099_511_627_776,
  ]
  let unit = text.dropFirst(digits.count).drop { $0 == " " }.lowercased()
  guard let factor = units[unit], value * factor < 9e18 else { return nil }
  return Int(value * factor)
}
