import Testing

@testable import Formats

@Suite struct RecordsTests {
  private func read(_ text: String, _ ending: String) throws -> [JSON] {
    try Fixture.withFolder { folder in
      try Fixture.write(folder + "/data." + ending, Array(text.utf8))
      return try Records.read(path: folder + "/data." + ending).map(\.value)
    }
  }

  @Test func jsonAndLines() throws {
    let expected: [JSON] = [["a": 1], ["a": "x"]]
    #expect(try read(#" [{"a":1},{"a":"x"}]"#, "json") == expected)
    #expect(try read("{\"a\":1}\r\n\n{\"a\":\"x\"}", "jsonl") == expected)
    #expect(try read("{\"a\":1}\n{\"a\":\"x\"}\n", "json") == expected)
    #expect(try read("{\n\"a\": 1}\n", "json") == [["a": 1]])
    #expect(try read("\u{FEFF}{\"a\":1}", "jsonl") == [["a": 1]])
    #expect(throws: FormatError.self) { try read("[1]", "json") }
    let error = #expect(throws: FormatError.self) { try read("[{}]", "parquet") }
    guard case .unsupportedFile(_, "parquet", ["json", "jsonl", "ndjson", "csv", "tsv", "txt"]) = error else {
      Issue.record("wrong error \(String(describing: error))")
      return
    }
  }

  @Test func errorsNameTheLine() throws {
    let error = #expect(throws: FormatError.self) { try read("{}\n\n{\"a\":}\n", "jsonl") }
    guard case .json(_, let line, let offset, _) = error else {
      Issue.record("wrong error \(String(describing: error))")
      return
    }
    #expect(line == 3 && offset == 9)
    let short = #expect(throws: FormatError.self) { try read("a,b\n\"1\n2\",3\n4\n", "csv") }
    guard case .record(_, line: 4, _) = short else {
      Issue.record("wrong error \(String(describing: short))")
      return
    }
  }

  private func lines(_ text: String, _ ending: String) throws -> [Int] {
    try Fixture.withFolder { folder in
      try Fixture.write(folder + "/data." + ending, Array(text.utf8))
      return try Records.read(path: folder + "/data." + ending).map(\.line)
    }
  }

  @Test func eachRecordKnowsItsLine() throws {
    #expect(try lines("\n{}\r\n\n{}", "jsonl") == [2, 4])
    #expect(try lines("\u{FEFF}\n[ {},\n\n{}, {}\n]", "json") == [2, 4, 4])
    #expect(try lines("{\n\"a\": 1}\n", "json") == [1])
    #expect(try lines("a,b\n\"1\n2\",3\n\n4,5\n", "csv") == [2, 5])
    #expect(try lines("a\nb", "txt") == [1])
  }

  /// The file's text, its ending, the line and a part of the problem in words.
  private static let losses: [(text: [UInt8], ending: String, line: Int, problem: String)] = [
    (Array("{}\n{\"a\":1,\"a\":2}".utf8), "jsonl", 2, "the key \"a\" occurs twice"),
    (Array("[{},\n{\"m\":[{\"a\":1,\n\"a\":2}]}]".utf8), "json", 3, "the key \"a\" occurs twice"),
    (Array("{\n\"a\":1,\n\"a\":2}".utf8), "json", 3, "the key \"a\" occurs twice"),
    (Array("{}\n{\"a\":9223372036854775808}".utf8), "jsonl", 2, "beyond 64 bits"),
    (Array("{}\n{\"a\":1e999}".utf8), "jsonl", 2, "too large"),
    (Array("{}\n{\"a\":NaN}".utf8), "jsonl", 2, "unexpected character 'N'"),
    (Array("{}\n{\"a\":\"\\ud800\"}".utf8), "jsonl", 2, "surrogate"),
    (Array("{}\n{} x".utf8), "jsonl", 2, "after the end"),
    (Array("[{}]\n]".utf8), "json", 2, "after the end"),
    (Array("[{},\n1]".utf8), "json", 2, "not a JSON object"),
    (Array("{}\n{\"a\":\"".utf8) + [0xFF] + Array("\"}".utf8), "jsonl", 2, "UTF-8"),
    (Array("a\nb\n\"c".utf8) + [0xC3] + Array("\"".utf8), "csv", 3, "UTF-8"),
    (Array("a\nb\nc".utf8) + [0xC3] + Array("\nd".utf8), "txt", 3, "UTF-8"),
    ([0xFF, 0xFE, 0x7B, 0x00], "jsonl", 1, "UTF-16"), ([0xFE, 0xFF, 0x00, 0x7B], "csv", 1, "UTF-16"),
    (Array((String(repeating: "[", count: 600)).utf8), "json", 1, "512 levels"),
  ]

  @Test(arguments: losses.indices) func whatWouldBeLostIsRefusedWithItsLine(index: Int) throws {
    let (text, ending, line, problem) = Self.losses[index]
    let error = #expect(throws: FormatError.self) {
      try Fixture.withFolder { folder in
        try Fixture.write(folder + "/data." + ending, text)
        return try Records.read(path: folder + "/data." + ending).count
      }
    }
    let words = error?.description ?? ""
    #expect(words.contains("data.\(ending): line \(line)") && words.contains(problem), "\(words)")
  }

  @Test func integersAndTextsStayExact() throws {
    let text = #"{"a":9007199254740993,"b":-9223372036854775808,"c":" x\r\n\u0000é "}"#
    #expect(
      try read(text + "\r\n", "jsonl") == [
        ["a": .int(9_007_199_254_740_993), "b": .int(.min), "c": .string(" x\r\n\0é ")]
      ])
    #expect(try read("\u{FEFF}one\r\ntwo\r\n", "txt") == [["text": "one\r\ntwo\r\n"]])
    #expect(try read("\u{FEFF}a\r\n\" x\r\ny \"\r\n", "csv") == [["a": " x\r\ny "]])
  }

  @Test func tables() throws {
    #expect(
      try read("a,b\r\n\"x, \"\"y\"\"\nz\",\r\n\n1,2", "csv") == [
        ["a": "x, \"y\"\nz", "b": ""], ["a": "1", "b": "2"],
      ])
    #expect(try read("a\tb\n1,5\t\"q\"\n", "tsv") == [["a": "1,5", "b": "q"]])
    #expect(try read("a,b\n,\n", "csv") == [["a": "", "b": ""]])
    for bad in ["a,a\n1,2", "a\n\"x", "a\n\"x\"y", "a,b\n1"] {
      #expect(throws: FormatError.self) { try read(bad, "csv") }
    }
    #expect(try read("one\ntwo", "txt") == [["text": "one\ntwo"]])
  }
}
