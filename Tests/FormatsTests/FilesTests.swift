import Foundation
import Testing

@testable import Formats

@Suite struct FilesTests {
  @Test func mappingChecksRanges() throws {
    let file = try MappedFile(path: Fixture.path("config.json"))
    #expect(file.byteCount == 717)
    #expect(try file.slice(716, 1, what: "x").count == 1)
    #expect(throws: FormatError.self) { try file.slice(717, 1, what: "x") }
    #expect(throws: FormatError.self) { try file.slice(.max, 2, what: "x") }
    file.advise(.willNeed, 5..<100_000)
    file.advise(.dontNeed)
    #expect(file.bytes[0] == 0x7B)
    #expect(throws: FormatError.system(path: "/nowhere", operation: "open", code: ENOENT)) {
      try MappedFile(path: "/nowhere")
    }
    #expect(throws: FormatError.system(path: "/", operation: "open", code: EISDIR)) { try MappedFile(path: "/") }
  }

  @Test func filesAppearWhole() throws {
    try Fixture.withFolder { folder in
      let path = folder + "/a.txt"
      try AtomicFile.write(path, "old")
      do {
        let file = try AtomicFile(path: path)
        try file.append(Array("half".utf8))
      }
      #expect(try String(contentsOfFile: path, encoding: .utf8) == "old")
      try AtomicFile.write(path, "new")
      #expect(try String(contentsOfFile: path, encoding: .utf8) == "new")
      let names = try FileSystem.list(folder)
      #expect(names == ["a.txt"])
    }
  }

  @Test func foldersAppearWhole() throws {
    try Fixture.withFolder { folder in
      let path = folder + "/deep/checkpoint"
      func make(_ text: String, commit: Bool, replacing: Bool = false) throws {
        let directory = try AtomicDirectory(path: path)
        try AtomicFile.write(directory.stage + "/x", text)
        if commit { try directory.commit(replacing: replacing) }
      }
      try make("0", commit: false)
      #expect(!FileSystem.exists(path))
      try make("1", commit: true)
      #expect(throws: FormatError.alreadyExists(path: try FileSystem.resolve(path))) {
        try make("2", commit: true)
      }
      #expect(try String(contentsOfFile: path + "/x", encoding: .utf8) == "1")
      try make("3", commit: true, replacing: true)
      #expect(try String(contentsOfFile: path + "/x", encoding: .utf8) == "3")
      // A name that ends in a slash is the same folder.
      let again = try AtomicDirectory(path: path + "/")
      try AtomicFile.write(again.stage + "/x", "4")
      try again.commit(replacing: true)
      #expect(try String(contentsOfFile: path + "/x", encoding: .utf8) == "4")
      let names = try FileSystem.list(folder + "/deep")
      #expect(names == ["checkpoint"])
    }
  }

  @Test func hubCacheFollowsTheReference() throws {
    try Fixture.withFolder { folder in
      let model = folder + "/hub/models--org--name"
      try FileSystem.makeDirectory(model + "/snapshots/abc123")
      try FileSystem.makeDirectory(model + "/refs")
      try AtomicFile.write(model + "/refs/main", "abc123\n")
      let home = { (name: String) in name == "HF_HOME" ? folder : nil }
      #expect(try HubCache.resolve("org/name", environment: home) == model + "/snapshots/abc123")
      let cache = { (name: String) in name == "HF_HUB_CACHE" ? folder + "/hub" : "/nowhere" }
      #expect(try HubCache.resolve("org/name", environment: cache) == model + "/snapshots/abc123")
      #expect(throws: FormatError.notCached(name: "org/other", looked: [folder + "/hub/models--org--other"])) {
        try HubCache.resolve("org/other", environment: home)
      }
      for bad in ["../x", "a/b/c", "/x", "", "a/.."] {
        #expect(throws: FormatError.self) { try HubCache.resolve(bad, environment: home) }
      }
    }
  }
}
