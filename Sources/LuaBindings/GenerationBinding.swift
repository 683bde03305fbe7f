import LuaRuntime
import Models
import Tensors

/// A kept key-value cache of one model.
final class CacheObject: LuaObject {
  static var luaClassName: String { "Cache" }
  let model: LanguageModel
  let cache = KeptCache()

  init(model: LanguageModel) { self.model = model }
}

/// Text that a model writes.
extension Engine {
  static let inputParameter = Parameter("input", .oneOf([.string, .table]), "text or token ids")

  /// How a text is written, in `generate` and `Generator:add`.
  static let writingOptions = [
    Parameter(
      "max_new_tokens", .amount, default: "128",
      "most tokens to write; by default no more than the model has positions "
        + "for"),
    Parameter(
      "temperature", .real(SamplingOptions.temperatures), default: "0",
      "divides the logits; 0 takes the likeliest token"),
    Parameter("top_k", .amount, default: "0", "keep the k likeliest tokens; 0 keeps all"),
    Parameter(
      "top_p", .real(SamplingOptions.probabilities), default: "1", "keep the likeliest tokens of this probability"),
    Parameter("seed", .integer, default: "0", "seed of the draws"),
    Parameter("stop", .oneOf([.string, .table]), optional: true, "text or texts that end it"),
    Parameter("special", .boolean, default: "true", "add BOS as the model does"),
    Parameter(
      "on_text", .function, optional: true,
      "called with each new piece of text, in whole characters; false ends the text"),
  ]

  var cacheClass: NativeClass {
    NativeClass(
      "Cache", "Keys and values that calls of generate share, as model:cache returns it.",
      properties: [
        NativeProperty("length", "integer", "tokens that it holds") { _, object in
          .integer((object as? CacheObject)?.cache.length ?? 0)
        }
      ], methods: [])
  }

  var cacheMethod: NativeFunction {
    NativeFunction(
      "cache",
      "Keeps keys and values between calls of generate, so that a text which begins as the last one did is not "
        + "computed again. It forgets them when adapters change; after training, make another.",
      returns: "Cache"
    ) { call in [.object(CacheObject(model: try self.model(call)))] }
  }

  var generateMethod: NativeFunction {
    NativeFunction(
      "generate", "Continues a text; greedy unless a temperature is given.",
      [
        Self.inputParameter,
        Parameter(
          "options",
          .options(
            Self.writingOptions + [
              Parameter("echo", .boolean, default: "false", "return the prompt too"),
              Parameter("cache", .object("Cache"), optional: true, "from model:cache(): keeps what was computed"),
              Parameter(
                "counts", .boolean, default: "false",
                "also return why it ended (\"stop\", \"length\" or \"ended\"), and how many tokens "
                  + "were read and written"
              ),
            ]), optional: true, "the options below"),
      ], returns: "string, string|nil, integer|nil, integer|nil",
      errors: "when the prompt and the new tokens are more than the model's positions"
    ) { call in try self.generate(call) }
  }

  /// What `writingOptions` say of a text behind `prompt`. `ended` is called where `on_text` ends the text.
  /// - Throws: `BindingError.invalid` where prompt and new tokens are more than the model's positions.
  func generation(
    _ call: Call, _ prompt: [Int32], of model: LanguageModel, ended: @escaping () -> Void
  ) throws -> GenerationOptions {
    let options = call.options("options")
    let room = model.spec.positionLimit - prompt.count
    if let asked = options.int("max_new_tokens"), asked > max(room, 0) {
      throw call.invalid(
        "the prompt has \(prompt.count) tokens, and with max_new_tokens = \(asked) the text has more than the model's "
          + "\(model.spec.positionLimit) positions; "
          + (room > 0 ? "give max_new_tokens = \(room) at most, or a shorter prompt" : "give a shorter prompt"))
    }
    var generation = GenerationOptions(
      maxTokens: options.int("max_new_tokens") ?? max(1, min(128, room)),
      sampling: SamplingOptions(
        temperature: options.double("temperature") ?? 0, topK: options.int("top_k") ?? 0,
        topP: options.double("top_p") ?? 1, seed: UInt64(bitPattern: Int64(options.int("seed") ?? 0))))
    generation.stopTexts =
      try options["stop"].asString.map { [$0] } ?? options["stop"].asTable.map { try call.strings($0, "stop") } ?? []
    if generation.stopTexts.contains("") { throw call.invalid("stop must not be empty: every text has it") }
    if let onText = options["on_text"].asFunction {
      generation.onText = { piece in
        let goesOn = try onText.call([.string(piece)]).first?.asBool != false
        if !goesOn { ended() }
        return goesOn
      }
    }
    return generation
  }

  /// The text, why it ended, and the tokens of the prompt and of the text.
  private func generate(_ call: Call) throws -> [LuaValue] {
    let model = try model(call)
    // A plan runs recipes without weights up to their first step; what they write before it is no result.
    guard model.isLoaded else {
      if self.options.plan { return [.string("")] }
      throw ModelError.headerOnly(operation: "generate")
    }
    let options = call.options("options")
    let prompt = try ids(call, "input", special: options.bool("special") ?? true)
    var isEnded = false
    var generation = try generation(call, prompt, of: model) { isEnded = true }
    let echo = options.bool("echo") ?? false, given = call["input"].asString
    generation.echoes = echo && given == nil
    var written = 0
    let maxTokens = generation.maxTokens
    generation.onToken = { _ in
      written += 1
      return !LuaState.isStopping
    }
    if case .object(let object) = options["cache"], let cache = object as? CacheObject {
      guard cache.model === model else { throw call.invalid("this cache is of another model") }
      generation.cache = cache.cache
    }
    let text = try model.generateText(prompt, generation)
    let isFull = written >= maxTokens || prompt.count + written >= model.spec.positionLimit
    let reason = isEnded ? "ended" : isFull ? "length" : "stop"
    let whole = LuaValue.string(echo ? (given ?? "") + text : text)
    return options.bool("counts") == true
      ? [whole, .string(reason), .integer(prompt.count), .integer(written)] : [whole]
  }
}
