import LuaRuntime
import Tensors
import Tokenizers

extension Tokenizer: LuaObject {
  package static var luaClassName: String { "Tokenizer" }
}

extension Engine {
  /// Asks for memory to encode a text in, where what helps training does not help.
  func reserveForText(_ byteCount: Int) throws {
    do { try backend.memory.require(byteCount) } catch let error as TensorError {
      throw BindingError.noMemoryForText(error)
    }
  }

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
    func texts(_ name: String, _ doc: String, _ get: @escaping (Tokenizer) -> [String: String]) -> NativeProperty {
      NativeProperty(name, "table", doc) { state, object in
        let table = state.newTable()
        let found = (object as? Tokenizer).map(get) ?? [:]
        for (key, text) in found { table[key] = .string(text) }
        return .table(table)
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
        texts("named_chat_templates", "Jinja sources beside it, by name, such as tool_use") { $0.namedChatTemplates },
        texts("special_tokens", "texts of the special tokens by role: bos_token, eos_token") { $0.specialTexts },
      ],
      methods: [
        NativeFunction(
          "encode", "The ids of a text.",
          [
            Parameter("text", .string, "any text"),
            Parameter(
              "options",
              .options([
                Parameter(
                  "special", .boolean, optional: true,
                  "add BOS and EOS as the model does, but no second BOS to a text that begins with one; default true"),
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
            continues: options.bool("continues") ?? false, reserve: self.reserveForText)
          return [.table(call.state.list(ids.map { .integer(Int($0)) }))]
        },
        NativeFunction(
          "encode_parts",
          "The ids of texts that follow one another, which are those of the whole text, and for each "
            + "part the places of its first and last id, { n + 1, n } for none. An id across a border "
            + "belongs to both sides.",
          [
            Parameter("parts", .table, "list of texts"),
            Parameter(
              "options",
              .options([
                Parameter(
                  "literal", .table, optional: true, "list of flags: special tokens that this part spells stay text")
              ]), optional: true, "the options below"),
          ], returns: "integer[], integer[][]"
        ) { call in
          let parts = try call.strings(try call.table("parts"), "parts")
          let flags = call.options("options")["literal"].asTable?.elements.map { $0.asBool ?? false }
          let (ids, ranges) = try call.receiver(as: Tokenizer.self).encode(
            parts: parts, isLiteral: flags ?? [], reserve: self.reserveForText)
          let list = ranges.map { range in
            LuaValue.table(call.state.list([.integer(range.lowerBound + 1), .integer(range.upperBound)]))
          }
          return [.table(call.state.list(ids.map { .integer(Int($0)) })), .table(call.state.list(list))]
        },
        NativeFunction(
          "decode", "The text of ids. Bytes that are no UTF-8 become U+FFFD.",
          [
            Parameter("ids", .table, "token ids"),
            Parameter(
              "options",
              .options([
                Parameter(
                  "after", .table, optional: true,
                  "ids that stand before: the text is what `ids` add to theirs, with the space between the two")
              ]), optional: true, "the options below"),
          ], returns: "string"
        ) { call in
          let tokenizer = try call.receiver(as: Tokenizer.self)
          guard let list = try call.table("ids").integers() else { throw call.invalid("ids must be integers") }
          let ids = try self.tokenIDs(list, tokenizer.vocabularySize)
          guard let after = call.options("options")["after"].asTable else {
            return [.string(try tokenizer.decode(ids))]
          }
          guard let earlier = after.integers() else { throw call.invalid("after must be token ids") }
          return [.string(try tokenizer.decode(ids, after: try self.tokenIDs(earlier, tokenizer.vocabularySize)))]
        },
      ])
  }
}
