import LuaRuntime
import Tokenizers

extension Tokenizer: LuaObject {
  package static var luaClassName: String { "Tokenizer" }
}

extension Engine {
  var tokenizerClass: NativeClass {
    func id(_ name: String, _ doc: String, _ get: @escaping (Tokenizer) -> Int32?) -> NativeProperty {
      NativeProperty(name, "integer|nil", doc) { _, object in
        (object as? Tokenizer).flatMap(get).map { .integer(Int($0)) } ?? .nil
      }
    }
    func text(_ name: String, _ doc: String, _ get: @escaping (Tokenizer) -> String?) -> NativeProperty {
      NativeProperty(name, "string|nil", doc) { _, object in
        (object as? Tokenizer).flatMap(get).map { .string($0) } ?? .nil
      }
    }
    return NativeClass(
      "Tokenizer", "Text to token ids and back.",
      properties: [
        NativeProperty("vocab_size", "integer", "number of tokens") { _, object in
          .integer((object as? Tokenizer)?.vocabularySize ?? 0)
        },
        id("bos", "id of the token that opens a text") { $0.bos },
        id("eos", "id of the token that ends a text") { $0.eos },
        id("pad", "id of the padding token") { $0.pad },
        text("bos_token", "its text") { tokenizer in tokenizer.bos.flatMap { tokenizer.token($0) } },
        text("eos_token", "its text") { tokenizer in tokenizer.eos.flatMap { tokenizer.token($0) } },
        text("chat_template", "Jinja source of the chat template") { $0.chatTemplate },
      ],
      methods: [
        NativeFunction(
          "encode", "The ids of a text.",
          [
            Parameter("text", .string, "any text"),
            Parameter(
              "options",
              .options([
                Parameter("special", .boolean, optional: true, "add BOS and EOS as the model does; default true"),
                Parameter("literal", .boolean, optional: true, "do not recognise special tokens in the text"),
                Parameter(
                  "continues", .boolean, optional: true, "the text goes on after earlier text: no leading space added"),
              ]), optional: true, "the options below"),
          ], returns: "integer[]"
        ) { call in
          let options = call.options("options")
          let ids = try call.receiver(as: Tokenizer.self).encode(
            try call.string("text"), special: options.bool("special") ?? true,
            literal: options.bool("literal") ?? false,
            continues: options.bool("continues") ?? false)
          return [.table(call.state.list(ids.map { .integer(Int($0)) }))]
        },
        NativeFunction("decode", "The text of ids.", [Parameter("ids", .table, "token ids")], returns: "string") {
          call in
          let tokenizer = try call.receiver(as: Tokenizer.self)
          guard let list = try call.table("ids").integers() else { throw call.invalid("ids must be integers") }
          return [.string(try tokenizer.decode(try self.tokenIDs(list, tokenizer.vocabularySize)))]
        },
      ])
  }
}
