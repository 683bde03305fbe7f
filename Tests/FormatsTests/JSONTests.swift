import Testing

@testable import Formats

@Suite struct JSONTests {
  @Test func valuesRead() throws {
    let json = try JSON.parse(
      #" {"i": -9223372036854775808, "big": 9223372036854775808, "d": 1e3, "#
        + #""s": "a\u00e9\ud83d\ude00\/", "l": [null, true, {}]} "#)
    #expect(json["i"]?.int == Int.min)
    #expect(json["big"]?.int == nil && json["big"]?.double == 9223372036854775808)
    #expect(json["d"]?.int == 1000 && json["s"]?.string == "aé😀/")
    #expect(json["l"]?.array?.count == 3 && json["l"]?[0]?.isNull == true && json["absent"] == nil)
    #expect(json.object?.keys == ["i", "big", "d", "s", "l"])
  }

  @Test(arguments: [
    "", "{", "[1,]", "{\"a\":1,}", "01", "1.", ".5", "+1", "1e", "nul", "\"\n\"", "\"\\x\"", "\"\\ud800\"",
    "\"\\udc00\"", "[1] 2", "NaN", "Infinity", "1e999", "'a'", "{a:1}", "\"", "-", "[1 2]", "{\"a\" 1}",
  ]) func malformedTextIsRefused(text: String) {
    #expect(throws: FormatError.self) { try JSON.parse(text) }
  }

  @Test func errorsNameThePlace() {
    #expect(throws: FormatError.json(path: nil, line: 3, offset: 9, problem: .unexpectedByte(0x78))) {
      try JSON.parse("{\n\"a\":\n  x}")
    }
    #expect(throws: FormatError.json(path: nil, line: 1, offset: 2, problem: .badUTF8)) {
      try JSON.parse([0x22, 0xFF, 0x22])
    }
  }

  @Test func depthIsLimited() throws {
    func nested(_ n: Int) -> String { String(repeating: "[", count: n) + String(repeating: "]", count: n) }
    _ = try JSON.parse(nested(JSON.depthLimit))
    let tooDeep = FormatError.json(
      path: nil, line: 1, offset: JSON.depthLimit + 1, problem: .tooDeep(limit: JSON.depthLimit))
    for text in [nested(JSON.depthLimit + 2), String(repeating: "[", count: 1_000_000)] {
      #expect(throws: tooDeep) { try JSON.parse(text) }
    }
  }

  @Test func doublesAreSpeltAsInPython() {
    // repr() of CPython 3.11
    let cases: [(Double, String)] = [
      (1e-5, "1e-05"), (0.0001, "0.0001"), (0.00012, "0.00012"), (1.25e-7, "1.25e-07"), (1e16, "1e+16"),
      (1e15, "1000000000000000.0"), (123456789012345680, "1.2345678901234568e+17"), (10000, "10000.0"),
      (0.1, "0.1"), (-0.0, "-0.0"), (1.5e300, "1.5e+300"), (Double.leastNonzeroMagnitude, "5e-324"), (-2.5, "-2.5"),
      (9007199254740992, "9007199254740992.0"), (1.7976931348623157e308, "1.7976931348623157e+308"),
      (500000, "500000.0"), (0.02, "0.02"), (1234567.891, "1234567.891"), (9999999999999998, "9999999999999998.0"),
    ]
    for (value, text) in cases { #expect(JSON.pythonSpelling(value) == text) }
  }

  @Test func pythonStyleMatches() throws {
    let json: JSON = [
      "b": [1, 2.0, []], "a": ["z": nil, "é": "\u{1F600}\u{7F}\u{1}\"\\"], "B": [:],
    ]
    // json.dumps({"b":[1,2.0,[]],"a":{"z":None,"é":"😀\x7f\x01\"\\"},"B":{}}, indent=2, sort_keys=True)
    #expect(
      json.text(.python) == """
        {
          "B": {},
          "a": {
            "z": null,
            "\\u00e9": "\\ud83d\\ude00\u{7F}\\u0001\\"\\\\"
          },
          "b": [
            1,
            2.0,
            []
          ]
        }
        """)
    #expect(json.text() == "{\"b\":[1,2.0,[]],\"a\":{\"z\":null,\"é\":\"\u{1F600}\u{7F}\\u0001\\\"\\\\\"},\"B\":{}}")
    #expect(try JSON.parse(json.text(.python)) == json)
  }

  @Test func configRoundTripsByteForByte() throws {
    let bytes = try Fixture.bytes("config.json")
    #expect(Array((try JSON.parse(bytes).text(.python) + "\n").utf8) == bytes)
  }

  @Test func canonicallyEquivalentKeysStayApart() throws {
    let json = try JSON.parse("{\"\u{212b}\": 1, \"\u{c5}\": 2, \"A\u{30a}\": 3}")
    #expect(json.object?.count == 3 && json.object?.repeatedKey == nil)
    #expect(json["\u{c5}"]?.int == 2)
    let many = JSONObject((0..<100).map { ("k\($0)", JSON.int($0)) } + [("k5", .int(7))])
    #expect(many["k5"]?.int == 7 && many["k99"]?.int == 99 && many.repeatedKey == "k5" && many.count == 100)
  }
}
