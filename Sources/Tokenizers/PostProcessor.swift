/// The ids put before and after the ids of a single text.
struct PostProcessor: Sendable {
  private(set) var before: [Int32] = []
  private(set) var after: [Int32] = []
  private var isTemplate = false

  /// Most tokens around a text; sound files have one or two.
  static let longest = 1024

  static let supported = ["TemplateProcessing", "ByteLevel", "Sequence"]

  init() {}

  init(_ fields: Fields) throws {
    try fields.allow(TokenizerKeys.postProcessor)
    switch try fields.string("type") {
    case "ByteLevel": break  // changes offsets only, which are not kept
    case "TemplateProcessing": try template(fields)
    case "Sequence":
      for step in try fields.list("processors") {
        let inner = try PostProcessor(step)
        guard inner.isTemplate else { continue }
        // The library puts nothing of a second one around some texts.
        guard !isTemplate else {
          throw TokenizerError.unsupported(
            file: fields.file, field: step.place, value: "a second template", supported: ["one template"])
        }
        self = inner
      }
    default: throw fields.unsupported("type", PostProcessor.supported)
    }
  }

  private mutating func template(_ fields: Fields) throws {
    var seen = false
    for element in try fields.list("single") {
      if let sequence = try element.optional("Sequence") {
        guard try sequence.string("id") == "A", !seen else { throw sequence.bad("id", "A, once") }
        seen = true
      } else if let special = try element.optional("SpecialToken") {
        let name = try special.string("id")
        guard let token = try fields.optional("special_tokens")?.optional(name) else {
          throw TokenizerError.missingField(file: fields.file, field: "\(fields.place).special_tokens.\(name)")
        }
        let ids = try token.array("ids").map { id in
          guard let value = id.int, let id = Int32(exactly: value), id >= 0 else { throw token.bad("ids", "token ids") }
          return id
        }
        if seen { after += ids } else { before += ids }
        guard before.count + after.count <= PostProcessor.longest else {
          throw fields.bad("single", "at most \(PostProcessor.longest) tokens around a text")
        }
      } else {
        throw TokenizerError.unsupported(
          file: fields.file, field: element.place, value: element.json.text(), supported: ["Sequence", "SpecialToken"])
      }
    }
    isTemplate = true
    guard seen else { throw fields.bad("single", "a template with the sequence A") }
  }
}
