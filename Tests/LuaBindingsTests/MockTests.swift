import Formats
import Foundation
import LuaRuntime
import Models
import Serving
import Tensors
import Testing

@testable import LuaBindings

/// Most Lua tests run on Tests/LuaTests/mock_native.lua. What it offers must be what the engine offers, or they would
/// stay green on a function that is gone.
@Suite struct MockTests {
  /// What the tests themselves use.
  private static let own: Set<String> = ["byte_tokenizer", "mock_model"]

  private func mock() throws -> (native: LuaTable, classes: LuaTable, Engine, LuaState) {
    let (state, engine) = try makeState()
    let path = "\(packageRoot)/Tests/LuaTests/mock_native.lua"
    let chunk = try state.load(Array(try Data(contentsOf: URL(fileURLWithPath: path))), chunkName: "@mock_native.lua")
    let results = try chunk.call()
    return (try #require(results.first?.asTable), try #require(results.last?.asTable), engine, state)
  }

  private func functions(_ table: LuaTable) -> [String] {
    table.pairs.compactMap { key, value in value.asFunction == nil ? nil : key.asString }.filter { !$0.hasPrefix("__") }
  }

  @Test func everyFunctionIsDeclared() throws {
    let (native, _, engine, state) = try mock()
    let declared = Set(engine.modules.flatMap { $0.functions.map(\.name) })
    var names = functions(native).filter { !Self.own.contains($0) }
    for inner in ["optim", "tokenizer"] {
      names += functions(try #require(native[inner].asTable)).map { "\(inner).\($0)" }
    }
    #expect(names.count > 30, "only \(names.count) names were found")
    for name in names { #expect(declared.contains(name), "the engine has no native.\(name)") }
    state.close()
  }

  /// The mock finds near names by the engine's rule.
  @Test(arguments: [
    "bacth", "learning_rat", "RANK", "rnk", "x", "", "lrr", "proj", "gradient_accumulation", "zzzzzz", "embed",
    "tensro",
  ])
  func nearNamesAreTheEngines(word: String) throws {
    let (native, _, _, state) = try mock()
    let names = [
      "batch", "learning_rate", "lr", "rank", "Rank", "ranks", "q_proj", "model.layers.0.self_attn.q_proj", "proj_in",
      "accumulation", "gradient_accumulations", "embed_tokens", "tensor", "Tensor", "y",
    ]
    let ask = try #require(native["nearest_names"].asFunction)
    let list = state.list(names.map { .string($0) })
    let found = try ask.call([.string(word), .table(list), .integer(4)]).first?.asTable
    #expect(found?.elements.compactMap(\.asString) == nearestNames(to: word, among: names, count: 4))
    state.close()
  }

  /// The mock formats with C's printf, the engine by hand.
  @Test func byteTextsAreTheEngines() throws {
    let (native, _, _, state) = try mock()
    let ask = try #require(native["byte_text"].asFunction)
    let counts: [Double] = [
      0, 1, 511.5, 512.5, 1023, 1024, 1536, 10_239, 10_240, 102_399, 1_047_552, 1_048_575, 1_179_648, 1_441_792,
      1_703_936, 1_966_080, 11_010_048, 1_072_668_082_176, 5_497_558_138_880, 1_152_921_504_606_846_976, -5,
    ]
    for count in counts {
      let text = try ask.call([.number(count)]).first?.asString
      #expect(text == byteText(count), "\(count)")
    }
    #expect(byteText(Double.infinity) == "inf B" && byteText(Double.nan) == "nan B")
    state.close()
  }

  @Test func endingsOfDataFilesAreTheEngines() throws {
    let (native, _, _, state) = try mock()
    let endings = try #require(native["record_endings"].asFunction).call().first?.asTable
    #expect(endings?.elements.compactMap(\.asString) == Records.endings)
    state.close()
  }

  /// What the library of `serve` asks of the server.
  @Test func limitsOfTheServerAreFields() throws {
    let (state, engine) = try makeState()
    let server = try #require(engine.classes.first { $0.name == "HTTPServer" })
    for (name, limit) in [("waiting_limit", HTTPServer.waitingLimit), ("body_limit", HTTPServer.bodyLimit)] {
      let property = try #require(server.properties.first { $0.name == name })
      #expect(property.set == nil)
      #expect(try property.get(state, Stub()).asInt == limit)
    }
    state.close()
  }

  private final class Stub: LuaObject { static var luaClassName: String { "Stub" } }

  @Test func untrainedLabelsAreTheEngines() throws {
    let (native, _, _, state) = try mock()
    #expect(native["untrained"].asInt == Int(NextToken.untrained))
    let library = state.globals["package"].asTable?["loaded"].asTable?["qlora.native"].asTable
    #expect(library?["untrained"].asInt == Int(NextToken.untrained))
    state.close()
  }

  @Test(arguments: ["Model", "Samples", "Optimizer", "Tokenizer"])
  func everyMethodIsDeclared(name: String) throws {
    let (_, classes, engine, state) = try mock()
    let declared = try #require(engine.classes.first { $0.name == name })
    let methods = functions(try #require(classes[name].asTable))
    #expect(methods.count > 1)
    for method in methods {
      #expect(declared.methods.contains { $0.name == method }, "\(name) has no method \(method)")
    }
    state.close()
  }
}
