import LuaRuntime
import Models

/// Texts of one model that grow together.
final class GeneratorObject: LuaObject {
  static var luaClassName: String { "Generator" }
  let model: LanguageModel
  let generator: Generator

  init(_ model: LanguageModel) { (self.model, generator) = (model, Generator(model)) }
}

/// One of these texts.
final class SequenceObject: LuaObject {
  static var luaClassName: String { "Sequence" }
  let sequence: Generator.Sequence
  private let isEnded: () -> Bool
  /// Whether a recipe ended it between steps.
  private var isStopped = false

  init(_ sequence: Generator.Sequence, isEnded: @escaping () -> Bool) {
    (self.sequence, self.isEnded) = (sequence, isEnded)
  }

  func stop() throws {
    isStopped = isStopped || sequence.isOpen
    try sequence.stop()
  }

  /// nil while it is open.
  var reason: String? {
    if sequence.isOpen { return nil }
    return sequence.problem != nil ? "failed" : isStopped || isEnded() ? "ended" : sequence.isFull ? "length" : "stop"
  }
}

/// Several texts at once.
extension Engine {
  var generatorMethod: NativeFunction {
    NativeFunction(
      "generator",
      "Texts that grow together: each step continues all of them in one pass over the weights, "
        + "which takes little longer than one of them alone. Texts come and go between steps.",
      returns: "Generator",
      example: """
        local texts = model:generator()
        local one = texts:add("In the morning", { max_new_tokens = 4 })
        local two = texts:add("Mia", { max_new_tokens = 8 })
        while texts:step() > 0 do end
        assert(two.written <= 8 and type(one.text) == "string")
        """
    ) { call in [.object(GeneratorObject(try self.model(call)))] }
  }

  var generatorClass: NativeClass {
    NativeClass(
      "Generator", "Texts of one model that grow together, as model:generator returns it.",
      properties: [
        NativeProperty("count", "integer", "texts that are not at their end") { _, object in
          .integer((object as? GeneratorObject)?.generator.count ?? 0)
        }
      ],
      methods: [
        NativeFunction(
          "add", "Adds a text; greedy unless a temperature is given. The next step continues it.",
          [
            Self.inputParameter,
            Parameter("options", .options(Self.writingOptions), optional: true, "the options below"),
          ], returns: "Sequence",
          errors:
            "when the prompt and the new tokens are more than the model's positions, or other adapters are in use than "
            + "those of texts that are not at their end",
          example: #"assert(model:generator():add("Mia", { max_new_tokens = 2 }).read > 0)"#
        ) { call in
          let object = try call.receiver(as: GeneratorObject.self)
          let special = call.options("options").bool("special") ?? true
          let prompt = try self.ids(call, "input", special: special, of: object.model)
          var isEnded = false
          let options = try self.generation(call, prompt, of: object.model) { isEnded = true }
          return [.object(SequenceObject(try object.generator.add(prompt, options)) { isEnded })]
        },
        NativeFunction(
          "step", "Continues each text by a token, in one pass; returns how many are not at their end.",
          returns: "integer",
          errors: "when other adapters are in use than at the first `add`, or on_text raises an error",
          example: "assert(model:generator():step() == 0)"
        ) { call in
          let generator = try call.receiver(as: GeneratorObject.self).generator
          try generator.step()
          return [.integer(generator.count)]
        },
      ])
  }

  var sequenceClass: NativeClass {
    func property(
      _ name: String, _ type: String, _ doc: String, _ value: @escaping (SequenceObject) -> LuaValue
    ) -> NativeProperty {
      NativeProperty(name, type, doc) { _, object in (object as? SequenceObject).map(value) ?? .nil }
    }
    return NativeClass(
      "Sequence", "One of the texts of a Generator.",
      properties: [
        property("text", "string|nil", "the text without the prompt, once it is at its end") {
          $0.sequence.text.map { .string($0) } ?? .nil
        },
        property(
          "reason", "string|nil", "why it ended: \"stop\", \"length\", \"ended\" or \"failed\"; nil before"
        ) { $0.reason.map { .string($0) } ?? .nil },
        property("problem", "string|nil", "what failed") {
          $0.sequence.problem.map { .string(String(describing: $0)) } ?? .nil
        },
        property("read", "integer", "tokens of the prompt") { .integer($0.sequence.readCount) },
        property("written", "integer", "tokens of the text so far") { .integer($0.sequence.writtenCount) },
      ],
      methods: [
        NativeFunction(
          "stop", "Ends the text as it is; its place is free at once.",
          example: """
            local one = model:generator():add "Mia"
            one:stop()
            assert(one.text == "")
            """
        ) { call in
          try call.receiver(as: SequenceObject.self).stop()
          return []
        }
      ])
  }
}
