import Foundation
import Testing

@testable import Formats

/// A thing of `key.json`, `part` and texts in a folder of its own.
private let format = FolderFormat(
  key: "key.json", kindField: "kind", folders: ["inner"],
  owns: { $0 == "key.json" || $0 == "part" || $0.hasPrefix("inner/") && $0.hasSuffix(".txt") },
  conflicts: { $0.hasSuffix(".bin") })

private func text(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

private func write(_ files: [String], _ text: String, to folder: String) throws {
  for name in files {
    try FileSystem.makeDirectory(FileSystem.directoryName("\(folder)/\(name)"))
    try AtomicFile.write("\(folder)/\(name)", text)
  }
}

private func save(_ files: [String], _ text: String, to path: String) throws {
  let target = try FolderSave(path: path, format: format)
  try write(files, text, to: target.stage)
  try target.commit()
}

@Suite struct InterruptedSaveTests {
  /// The new files may be the only copy: they stay where the key file says, in the folder or beside it.
  @Test(arguments: [true, false]) func theNewFilesStayWhereTheKeyFileSays(isAlone: Bool) throws {
    try Fixture.withFolder { folder in
      let path = folder + "/out"
      try save(["key.json", "part"], "old", to: path)
      if !isAlone { try write(["notes"], "mine", to: path) }
      var target: FolderSave? = try FolderSave(path: path, format: format)
      let stage = try #require(target).stage
      try write(["key.json"], "new", to: stage)
      // Others come in the meantime, so the folder is not exchanged; and a folder cannot be renamed over a file.
      try write(["notes"], "mine", to: path)
      try FileSystem.makeDirectory(stage + "/part")
      #expect(throws: FormatError.self) { try target?.commit() }
      target = nil
      let said = try #require(try JSON.read(path: path + "/key.json")["kind"]?.string)
      #expect(said.hasPrefix("INTERRUPTED") && said.hasSuffix("the new files are in \(stage)"))
      #expect(try text(stage + "/key.json") == "new")
    }
  }

  /// A save after one that was killed half-way may be killed as well.
  @Test func whatAKilledSaveLeftStaysUntilTheNextIsWhole() throws {
    try Fixture.withFolder { folder in
      let path = folder + "/out"
      let left = path + "/.saving.qlora-tmp-99999999"  // no process has such a number
      try save(["key.json"], "old", to: path)
      try write(["notes"], "mine", to: path)
      try write(["key.json"], "new", to: left)
      try AtomicFile.write(path + "/key.json", format.interrupted(left))
      do {
        let target = try FolderSave(path: path, format: format)
        try write(["key.json"], "newer", to: target.stage)
      }
      #expect(try text(left + "/key.json") == "new")
      try save(["key.json"], "newest", to: path)
      #expect(try text(path + "/key.json") == "newest")
      #expect(try FileSystem.list(path) == ["key.json", "notes"])
    }
  }

  @Test(arguments: [true, false]) func foldersOfTheFormatAreSavedToo(isAlone: Bool) throws {
    try Fixture.withFolder { folder in
      let path = folder + "/out"
      try save(["key.json", "inner/a.txt", "inner/b.txt"], "old", to: path)
      if !isAlone { try write(["inner/mine.md"], "mine", to: path) }
      try save(["key.json", "inner/b.txt", "inner/c.txt"], "new", to: path)
      let own = ["b.txt", "c.txt"] + (isAlone ? [] : ["mine.md"])
      #expect(try FileSystem.list(path) == ["inner", "key.json"])
      #expect(try FileSystem.list(path + "/inner") == own)
      #expect(try text(path + "/inner/b.txt") == "new")
    }
  }

  @Test func aFolderOfTheFormatThatIsALinkStaysOne() throws {
    try Fixture.withFolder { folder in
      let path = folder + "/out"
      try write(["texts/a.txt"], "old", to: folder)
      try save(["key.json"], "old", to: path)
      try FileManager.default.createSymbolicLink(atPath: path + "/inner", withDestinationPath: "../texts")
      try save(["key.json", "inner/b.txt"], "new", to: path)
      #expect(FileSystem.isLink(path + "/inner"))
      #expect(try FileSystem.list(folder + "/texts") == ["b.txt"])
    }
  }

  /// Found before anything is written.
  @Test func allThatIsInTheWayIsNamed() throws {
    try Fixture.withFolder { folder in
      let path = folder + "/out"
      try save(["key.json", "part"], "old", to: path)
      try write(["x.bin", "y.bin"], "mine", to: path)
      #expect { try save(["key.json"], "new", to: path) } throws: {
        "\($0)".contains("holds x.bin, y.bin, which") && "\($0)".contains("remove them")
      }
      try FileSystem.remove(path + "/x.bin")
      try FileSystem.remove(path + "/y.bin")
      try write(["inner"], "a file", to: path)
      #expect(throws: FormatError.wrongKind(path: path + "/inner", found: .file, wanted: .folder)) {
        try save(["key.json", "inner/a.txt"], "new", to: path)
      }
      #expect(try text(path + "/key.json") == "old" && text(path + "/inner") == "a file")
    }
  }
}
