import Formats
import Foundation
import Testing

@testable import Tokenizers

/// Folders of make_transformers.py: a small tokenizer, files beside it, and what transformers makes of them.
struct Folder {
  struct Chat {
    let parts: [(text: String, isTrained: Bool)]
    let ids: [Int32]
    let mask: [Bool]
  }
  let name: String
  let source: String
  let files: JSONObject
  let json: JSON

  static let all: [Folder] = {
    let path = Golden.folder + "transformers.golden.json"
    return ((try? JSON.read(path: path))?.array ?? []).map {
      Folder(name: $0["name"]!.string!, source: $0["source"]!.string!, files: $0["files"]!.object!, json: $0)
    }
  }()

  var chats: [Chat] {
    json["chats"]!.array!.map { chat in
      Chat(
        parts: chat["parts"]!.array!.map { ($0[0]!.string!, $0[1]!.bool!) },
        ids: chat["ids"]!.array!.map { Int32($0.int!) }, mask: chat["mask"]!.array!.map { $0.int! == 1 })
    }
  }

  func write(to folder: String, changes: [String: JSON] = [:]) throws {
    let target = source.hasSuffix("json") ? "/tokenizer.json" : "/tokenizer.model"
    try FileManager.default.copyItem(atPath: Golden.folder + source, toPath: folder + target)
    for (file, value) in files { try AtomicFile.write(folder + "/" + file, (changes[file] ?? value).text()) }
    for (file, value) in changes where files[file] == nil { try AtomicFile.write(folder + "/" + file, value.text()) }
  }

  func tokenizer(changes: [String: JSON] = [:]) throws -> Tokenizer {
    try withFolder { folder in
      try write(to: folder, changes: changes)
      return try Tokenizer(directory: folder)
    }
  }

  static func named(_ name: String) throws -> Folder { try #require(all.first { $0.name == name }) }
}

@Suite struct SideFileTests {
  @Test func thereAreFolders() { #expect(Folder.all.count == 12) }

  @Test(arguments: Folder.all.map(\.name))
  func filesBesideATokenizerCountAsInTransformers(name: String) throws {
    let folder = try Folder.named(name)
    try withFolder { path in
      try folder.write(to: path)
      let tokenizer = try Tokenizer(directory: path)
      try tokenizer.save(directory: path + "/saved")
      for (what, tokenizer) in [("read", tokenizer), ("saved", try Tokenizer(directory: path + "/saved"))] {
        for test in folder.json["cases"]!.array! {
          let text = test["text"]!.string!
          func stored(_ key: String) -> [Int32] { test[key]!.array!.map { Int32($0.int!) } }
          let place = "\(name), \(what): \(text.debugDescription)"
          #expect(try tokenizer.encode(text, special: false) == stored("bare"), "\(place)")
          #expect(
            try tokenizer.encode(text) == withoutSecondBOS(stored("ids"), bare: stored("bare")), "\(place)")
        }
        let roles = folder.json["roles"]!
        #expect(
          tokenizer.bos.map { Int($0) } == roles["bos_token"]?.int
            && tokenizer.eos.map { Int($0) } == roles["eos_token"]?.int)
        #expect(tokenizer.pad.map { Int($0) } == roles["pad_token"]?.int)
      }
    }
  }

  @Test(arguments: ["bos_token", "eos_token", "pad_token", "unk_token", "mask_token", "my_token"])
  func namedTokensOutsideTheVocabularyAreErrors(role: String) throws {
    let folder = try Folder.named("json_added")
    for (file, value) in [
      ("tokenizer_config.json", JSON.string("<no such>")), ("special_tokens_map.json", ["content": "<no such>"]),
    ] {
      let error = try #require(throws: TokenizerError.self) {
        try folder.tokenizer(changes: [file: .object(JSONObject([(role, value)]))])
      }
      guard case .badField(let path, role, "\"<no such>\"", _) = error else {
        Issue.record("\(error)")
        continue
      }
      #expect(path.hasSuffix("/" + file))
    }
  }

  @Test func idsThatAreTakenOrLeaveAGapAreErrors() throws {
    let folder = try Folder.named("json_added")
    let next = try fixture("llama3").vocabularySize
    for (id, content) in [(5, "<new>"), (next + 1, "<new>"), (2, "<|eos|>"), (-1, "<new>"), (.max, "<new>")] {
      #expect(throws: TokenizerError.self, "\(id) \(content)") {
        try folder.tokenizer(changes: [
          "added_tokens.json": .object(JSONObject([(content, .int(id))])), "tokenizer_config.json": [:],
        ])
      }
    }
    let good = try folder.tokenizer(changes: ["added_tokens.json": ["<new>": .int(next)], "tokenizer_config.json": [:]])
    #expect(good.id(of: "<new>") == Int32(next))
  }

  @Test func valuesThatCannotBeHonouredAreRefusedByName() throws {
    let model = try Folder.named("legacy_false"), file = try Folder.named("json_added")
    let plain: JSON = ["add_bos_token": true, "bos_token": nil]
    for (folder, config, field) in [
      (model, ["legacy": 1], "legacy"), (model, ["add_bos_token": "yes"], "add_bos_token"),
      (file, ["do_lower_case": true], "do_lower_case"), (file, ["sp_model_kwargs": ["alpha": 1]], "sp_model_kwargs"),
      (file, ["errors": "ignore"], "errors"), (file, ["split_special_tokens": 1], "split_special_tokens"),
      (file, ["tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true], "add_prefix_space"),
      (file, ["added_tokens_decoder": ["x": ["content": "a"]]], "added_tokens_decoder"),
    ] as [(Folder, JSON, String)] {
      let error = #expect(throws: TokenizerError.self) {
        try folder.tokenizer(changes: ["tokenizer_config.json": config])
      }
      #expect("\(try #require(error))".contains(field + " "), "\(field)")
    }
    // A sentencepiece model has a BOS of its own.
    #expect(try model.tokenizer(changes: ["tokenizer_config.json": plain]).bos == 1)
  }

  @Test(
    arguments: [
      ("bos_token", 5), ("eos_token", [1]), ("pad_token", true), ("unk_token", 0.5), ("mask_token", false),
      ("additional_special_tokens", "x"), ("additional_special_tokens", 5), ("extra_special_tokens", 5),
      ("model_specific_special_tokens", ["x"]), ("legacy", "x"), ("add_bos_token", "yes"), ("add_eos_token", 1),
      ("add_prefix_space", "x"), ("tokenizer_class", 5), ("chat_template", 5), ("chat_template[0].name", ["x"]),
      ("chat_template[0].name", [["template": "x"]]), ("chat_template[0].template", [["name": "x", "template": 5]]),
      ("chat_template.default", ["default": 5]),
    ] as [(String, JSON)])
  func valuesOfOtherTypesAreErrors(field: String, value: JSON) throws {
    let folder = try Folder.named("json_added")
    let key = String(field.prefix { $0 != "[" && $0 != "." })
    let error = #expect(throws: TokenizerError.self) {
      try folder.tokenizer(changes: ["tokenizer_config.json": .object(JSONObject([(key, value)]))])
    }
    #expect("\(try #require(error))".contains("tokenizer_config.json: \(field) is "), "\(String(describing: error))")
  }

  @Test func filesThatAreNoObjectOrNoTextAreErrors() throws {
    let folder = try Folder.named("json_added")
    for file in ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"] {
      for value in [[], nil, "x"] as [JSON] {
        let error = #expect(throws: TokenizerError.self) {
          try folder.tokenizer(changes: ["tokenizer_config.json": [:]].merging([file: value]) { $1 })
        }
        #expect("\(try #require(error))".contains("\(file): the file is \(value.text()), expected an object"))
      }
    }
    try withFolder { path in
      try folder.write(to: path)
      try AtomicFile.write(path + "/chat_template.jinja", [0x61, 0xFF])
      let error = #expect(throws: TokenizerError.self) { try Tokenizer(directory: path) }
      #expect("\(try #require(error))".contains("chat_template.jinja: the file is bytes, expected text in UTF-8"))
    }
  }

  @Test func templatesHaveNamesOnce() throws {
    let folder = try Folder.named("json_added")
    func read(_ templates: JSON) throws -> Tokenizer {
      var config = try #require(folder.files["tokenizer_config.json"]?.object)
      config["chat_template"] = templates
      return try folder.tokenizer(changes: ["tokenizer_config.json": .object(config)])
    }
    let named = try read(["default": "D", "tools": "T"])
    #expect(named.chatTemplate == "D" && named.namedChatTemplates == ["tools": "T"])
    #expect(throws: FormatError.self) {
      try read([["name": "default", "template": "a"], ["name": "default", "template": "b"]])
    }
  }

  @Test func keysThatNobodyKnowsAreRefusedInTokenizerFiles() throws {
    let parts = [
      "": "", "model": "model.", "normalizer": "normalizer.", "decoder": "decoder.", "pre_tokenizer": "pre_tokenizer.",
    ]
    for (part, place) in parts {
      var root = try #require(try JSON.read(path: Golden.folder + "metaspace_always.json").object)
      if part.isEmpty {
        root["novel"] = 1
      } else {
        var object = try #require(root[part]?.object)
        object["novel"] = 1
        root[part] = .object(object)
      }
      let error = #expect(throws: TokenizerError.self) {
        try Tokenizer(description: .object(root), settings: TokenizerSettings(), file: "f")
      }
      #expect("\(try #require(error))".hasPrefix("f: \(place)novel 1 is not supported"))
    }
  }
}
