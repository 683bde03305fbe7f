import Testing

@testable import Formats

@Suite struct RecordsTests {
  private func read(_ text: String, _ ending: String) throws -> [JSON] {
    try Fixture.withFolder { folder in
      try Fixture.write(folder + "/data." + ending, Array(text.utf8))
      return try Records.read(path: folder + "/data." + ending)
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
