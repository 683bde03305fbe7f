import Formats
import LuaRuntime
import Testing

@testable import LuaBindings

/// JSON is read in Swift (`JSON.parse`) and in Lua (stdlib/qlora/json.lua): both take the same texts, for the same
/// values.
@Suite struct JSONReaderTests {
  private static func nested(_ count: Int) -> String {
    String(repeating: "[", count: count) + String(repeating: "]", count: count)
  }

  private static let plain: [String] = [
    "", " ", "{", "}", "[]", "{}", "[1,]", #"{"a":1,}"#, #"{"a":1}"#, #"{"a":1,"a":2}"#, "{a:1}", #"{"a" 1}"#,
    "[1 2]", "[1] 2", "\u{FEFF}[1]", "\u{FEFF}", "[1]\u{FEFF}", "[null]", "[1,null]", "[null,2]", "null", "nul",
    "nullx", "truex", "[true,false]", "True", "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e308", "1e-999",
    "-0", "-0.0", "0", "00", "01", "-01", "1.", ".5", "+1", "1e", "1e+", "1E5", "1e+5", "1e-5", "1.5e", "-", "--1",
    "0x10", "1_000", "1+2", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "-9223372036854775809", #""""#, #"""#, #""a""#, "'a'", #""\u00e9\/\b""#, #""\x""#, #""\u12""#,
    #""\ud83d\ude00""#, #""\ud800""#, #""\udc00""#, #""\ud800\u0041""#, "\"\n\"", "\"\u{7f}\"", "\"\u{0}\"",
    "[1]\u{0}", "[1]\u{b}", "\t[\r1\n]\n",
  ]

  private static var texts: [String] {
    var all = plain
    all.append(String(repeating: "9", count: 400))
    all.append("0." + String(repeating: "1", count: 400))
    for count in [1, 100, 101, JSON.depthLimit, JSON.depthLimit + 1, JSON.depthLimit + 2] {
      all.append(nested(count))
      all.append("[" + nested(count) + ",1]")
      all.append(String(repeating: "[", count: count) + "1" + String(repeating: "]", count: count))
    }
    return all
  }

  @Test func bothTakeTheSameTexts() throws {
    let (state, _) = try makeState()
    let chunk = try state.load(
      Array(
        """
        local json = require "qlora.json"
        return function(text)
          local ok, value = pcall(json.decode, text)
          return ok, ok and json.encode(value)
        end, json.encode
        """.utf8), chunkName: "=json")
    let made = try chunk.call()
    let (decode, encode) = (try #require(made[0].asFunction), try #require(made[1].asFunction))
    for text in Self.texts {
      let read = try? JSON.parse(text)
      let results = try decode.call([.string(text)])
      #expect(results[0].asBool == (read != nil), "\(text.prefix(80))")
      // What the engine's reader hands to Lua.
      guard let read, results[0].asBool == true else { continue }
      let expected = try encode.call([state.value(read)]).first?.asString
      #expect(results[1].asString == expected, "\(text.prefix(80))")
    }
    state.close()
  }
}
