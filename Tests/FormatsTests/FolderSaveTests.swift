import Foundation
import Tensors
import Testing

@testable import Formats

/// A thing of two files, `key.json` and `part-*`; `old.bin` beside it would be read in its place.
private let format = FolderFormat(
  key: "key.json", kindField: "kind", owns: { $0 == "key.json" || $0.hasPrefix("part-") },
  conflicts: { $0 == "old.bin" })

private func save(_ path: String, _ text: String, parts: [String] = ["part-1"]) throws {
  let target = try FolderSave(path: path, format: format)
  for name in parts { try AtomicFile.write("\(target.stage)/\(name)", text) }
  try AtomicFile.write("\(target.stage)/key.json", text)
  try target.commit()
}

private func text(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

private func link(_ path: String, to target: String) throws {
  try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: target)
}

@Suite struct FolderSaveTests {
  @Test func otherThingsInTheFolderStay() throws {
    try Fixture.withFolder { folder in
      let project = folder + "/project"
      try FileSystem.makeDirectory(project + "/data")
      try AtomicFile.write(project + "/data/more.jsonl", "{}\n")
      try AtomicFile.write(project + "/train.jsonl", "{}\n")
      for round in ["first", "second"] {
        try save(project, round)
        #expect(try FileSystem.list(project) == ["data", "key.json", "part-1", "train.jsonl"])
        #expect(try text(project + "/key.json") == round && text(project + "/part-1") == round)
        #expect(try text(project + "/data/more.jsonl") == "{}\n")
      }
      #expect(try FileSystem.list(folder) == ["project"])
    }
  }

  @Test(arguments: [false, true]) func partsOfAnOlderSaveGo(isShared: Bool) throws {
    try Fixture.withFolder { folder in
      let path = folder + "/out"
      try save(path, "old", parts: ["part-1", "part-2"])
      if isShared { try AtomicFile.write(path + "/notes", "mine") }
      try save(path, "new")
      #expect(try FileSystem.list(path) == ["key.json"] + (isShared ? ["notes"] : []) + ["part-1"])
      #expect(try text(path + "/part-1") == "new")
    }
  }

  @Test func linksAreFollowedAndStay() throws {
    try Fixture.withFolder { folder in
      try FileSystem.makeDirectory(folder + "/disk")
      try link(folder + "/out", to: "disk")
      try link(folder + "/later", to: "disk/not-yet")
      for path in [folder + "/out", folder + "/out/", folder + "/later"] { try save(path, "x") }
      #expect(FileSystem.isLink(folder + "/out") && FileSystem.isLink(folder + "/later"))
      #expect(try FileSystem.list(folder + "/disk") == ["key.json", "not-yet", "part-1"])
      #expect(try text(folder + "/disk/not-yet/key.json") == "x")
      // A part that is a link: its target is replaced.
      try AtomicFile.write(folder + "/weights", "old")
      try FileSystem.remove(folder + "/disk/part-1")
      try link(folder + "/disk/part-1", to: folder + "/weights")
      try save(folder + "/out", "y")
      #expect(try text(folder + "/weights") == "y" && FileSystem.isLink(folder + "/disk/part-1"))
    }
  }

  @Test func whatIsNoFolderIsRefused() throws {
    try Fixture.withFolder { folder in
      try AtomicFile.write(folder + "/file", "mine")
      mkfifo(folder + "/pipe", 0o600)
      try link(folder + "/link", to: "file")
      for (name, kind) in [("file", FileKind.file), ("pipe", .pipe), ("link", .file)] {
        let path = folder + "/" + name
        #expect(throws: FormatError.wrongKind(path: path, found: kind, wanted: .folder)) { try save(path, "x") }
      }
      #expect(throws: FormatError.wrongKind(path: "/dev/null", found: .device, wanted: .folder)) {
        try save("/dev/null", "x")
      }
      // A folder in the place of a part.
      try FileSystem.makeDirectory(folder + "/out/part-1")
      try AtomicFile.write(folder + "/out/part-1/mine", "mine")
      let part = folder + "/out/part-1"
      #expect(throws: FormatError.wrongKind(path: part, found: .folder, wanted: .file)) {
        try save(folder + "/out", "x")
      }
      #expect(try text(folder + "/file") == "mine" && text(part + "/mine") == "mine")
      #expect(try FileSystem.list(folder) == ["file", "link", "out", "pipe"])
    }
  }

  @Test func whatWouldBeReadInsteadIsNamed() throws {
    try Fixture.withFolder { folder in
      try AtomicFile.write(folder + "/old.bin", "weights")
      #expect(throws: FormatError.conflict(path: try FileSystem.resolve(folder), names: ["old.bin"])) {
        try save(folder, "x")
      }
      #expect(try FileSystem.list(folder) == ["old.bin"])
    }
  }

  /// A file that comes while a folder is being written is found when the folder is to be replaced.
  @Test func whatComesInTheMeantimeStays() throws {
    try Fixture.withFolder { folder in
      let path = folder + "/out"
      try save(path, "old")
      let target = try FolderSave(path: path, format: format)
      try AtomicFile.write(target.stage + "/key.json", "new")
      try AtomicFile.write(path + "/notes", "mine")
      try target.commit()
      #expect(try FileSystem.list(path) == ["key.json", "notes"])
      #expect(try FileSystem.list(folder) == ["out"])
    }
  }

  @Test func aFolderThatHoldsOthersIsNotReplacedAsAWhole() throws {
    try Fixture.withFolder { folder in
      let path = try FileSystem.resolve(folder) + "/checkpoint"
      func make(_ text: String) throws {
        let target = try AtomicDirectory(path: path, owns: { $0 == "state" })
        try AtomicFile.write(target.stage + "/state", text)
        try target.commit(replacing: true)
      }
      try make("1")
      try make("2")
      #expect(try text(path + "/state") == "2")
      try AtomicFile.write(path + "/mine", "mine")
      #expect(throws: FormatError.foreign(path: path, name: "mine")) { try make("3") }
      #expect(try text(path + "/state") == "2" && FileSystem.list(folder) == ["checkpoint"])
    }
  }

  /// The new folder is in place by then.
  @Test func anOldFolderThatCannotBeRemovedIsNoFailure() throws {
    try Fixture.withFolder { folder in
      let path = try FileSystem.resolve(folder) + "/out"
      try save(path, "old")
      try FileSystem.makeDirectory(path + "/deep")
      // Deeper than a path may be long.
      let name = String(repeating: "d", count: 250)
      var folders = [open(path + "/deep", O_RDONLY | O_DIRECTORY)]
      for _ in 0..<17 {
        #expect(mkdirat(folders[folders.count - 1], name, 0o700) == 0)
        folders.append(openat(folders[folders.count - 1], name, O_RDONLY | O_DIRECTORY))
      }
      let target = try AtomicDirectory(path: path)
      try AtomicFile.write(target.stage + "/key.json", "new")
      try target.commit(replacing: true)
      #expect(try FileSystem.list(path) == ["key.json"] && text(path + "/key.json") == "new")
      #expect(throws: FormatError.self) { try FileSystem.remove(target.stage) }
      for (number, folder) in folders.enumerated().reversed() {
        if number + 1 < folders.count { unlinkat(folder, name, AT_REMOVEDIR) }
        close(folder)
      }
    }
  }
}

@Suite struct AtomicFileTests {
  @Test func linksAreFollowedAndPermissionsStay() throws {
    try Fixture.withFolder { folder in
      try AtomicFile.write(folder + "/file", "old")
      chmod(folder + "/file", 0o600)
      try link(folder + "/link", to: "file")
      try link(folder + "/chain", to: "link")
      try link(folder + "/dangling", to: "fresh")
      try AtomicFile.write(folder + "/chain", "new")
      try AtomicFile.write(folder + "/dangling", "made")
      #expect(try text(folder + "/file") == "new" && text(folder + "/fresh") == "made")
      for name in ["link", "chain", "dangling"] { #expect(FileSystem.isLink(folder + "/" + name)) }
      var info = stat()
      stat(folder + "/file", &info)
      #expect(info.st_mode & 0o777 == 0o600)
      #expect(try FileSystem.list(folder).count == 5)
    }
  }

  @Test func whatIsNoFileIsRefused() throws {
    try Fixture.withFolder { folder in
      mkfifo(folder + "/pipe", 0o600)
      try link(folder + "/to-pipe", to: "pipe")
      try link(folder + "/circle", to: "circle")
      for (path, kind) in [
        (folder + "/pipe", FileKind.pipe), (folder + "/to-pipe", .pipe), ("/dev/null", .device), (folder, .folder),
        (folder + "/absent/", .folder),
      ] {
        #expect(throws: FormatError.wrongKind(path: path, found: kind, wanted: .file)) {
          try AtomicFile.write(path, "x")
        }
      }
      for path in ["", "a\0b", folder + "/circle"] {
        #expect(throws: FormatError.self) { try AtomicFile.write(path, "x") }
      }
      #expect(FileSystem.kind(folder + "/pipe") == .pipe)
      #expect(try FileSystem.list(folder) == ["circle", "pipe", "to-pipe"])
    }
  }
}

@Suite struct LeftoversTests {
  /// The number of a process that has ended.
  private func deadProcess() throws -> pid_t {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/true")
    try process.run()
    process.waitUntilExit()
    return process.processIdentifier
  }

  @Test func whatDeadWritersLeftIsRemovedOrPutBack() throws {
    try Fixture.withFolder { folder in
      let dead = try deadProcess()
      // Process 1 lives. Names that only look like ours stay.
      let kept = [
        "out.old-20240101", "out.tmp-20240101", "other.qlora-tmp-\(dead)", "out.qlora-tmp-1", "out.qlora-tmp-",
        "out.qlora-tmp-\(dead)x", "out.qlora-tmp-\(dead)-1-2", "out.qlora-tmp-0",
      ]
      for name in kept + ["out.qlora-tmp-\(dead)", "out.qlora-tmp-\(dead)-77"] {
        try FileSystem.makeDirectory("\(folder)/\(name)/inside")
      }
      try FileSystem.makeDirectory("\(folder)/out.qlora-old-\(dead)")
      try AtomicFile.write("\(folder)/out.qlora-old-\(dead)/key.json", "old")
      Leftovers.remove(of: folder + "/out")
      #expect(try FileSystem.list(folder) == (kept + ["out"]).sorted())
      #expect(try text(folder + "/out/key.json") == "old")
      // Where the new folder is there, the old one was on its way out.
      try FileSystem.makeDirectory("\(folder)/out.qlora-old-\(dead)")
      try save(folder + "/out", "new")
      #expect(try FileSystem.list(folder) == (kept + ["out"]).sorted())
    }
  }

  /// Their processes may live, whatever has the number here.
  @Test func whatOtherMachinesAndContainersWriteStays() throws {
    try Fixture.withFolder { folder in
      let (dead, path) = (try deadProcess(), folder + "/out")
      let own = try #require(StageName.stage(of: "out").wholeMatch(of: /out\.qlora-tmp-([0-9a-f]{8})-\d+-\d+/))
      let mark = own.output.1
      let other = mark == "00000000" ? "00000001" : "00000000"
      let strange = ["tmp-\(other)-\(dead)-7", "old-\(other)-\(dead)-7", "tmp-\(other)-\(getpid())-7"]
        .map { "out.qlora-\($0)" }
      for name in strange + ["out.qlora-tmp-\(mark)-\(dead)-7"] {
        try FileSystem.makeDirectory("\(folder)/\(name)/inside")
      }
      try save(path, "new")
      #expect(try FileSystem.list(folder) == (["out"] + strange).sorted())
      // Where there is no new one, the old folder of another is no business of this process.
      try FileSystem.remove(path)
      try FileSystem.makeDirectory("\(folder)/out.qlora-old-\(mark)-\(dead)-7/inside")
      Leftovers.remove(of: path)
      #expect(try FileSystem.list(folder) == (["out"] + strange).sorted() && FileSystem.exists(path + "/inside"))
    }
  }

  /// Nor do two writers of one process have one name.
  @Test func aStageIsThatOfOneWriter() throws {
    try Fixture.withFolder { folder in
      let path = try FileSystem.resolve(folder) + "/out"
      let first = try AtomicDirectory(path: path)
      try AtomicFile.write(first.stage + "/key.json", "first")
      do { _ = try AtomicDirectory(path: path) }
      #expect(try text(first.stage + "/key.json") == "first")
      try first.commit()
      #expect(try text(path + "/key.json") == "first" && FileSystem.list(folder) == ["out"])
    }
  }

  @Test func temporaryNamesAreTakenApart() {
    for path in ["out", "model-00001.safetensors", "a.qlora-tmp-1"] {
      for (name, isOld) in [(StageName.stage(of: path), false), (StageName.old(of: path), true)] {
        let stage = StageName(name)
        #expect(stage?.base == path && stage?.isOld == isOld && stage?.isOwn == true && stage?.isDead == false)
      }
    }
    for name in ["out", ".qlora-tmp-1", "out.qlora-old-1-2", "out.qlora-tmp-0-1-2", "out.qlora-tmp-0000000g-1-2"] {
      #expect(StageName(name) == nil, "\(name)")
    }
  }

  @Test func prefixesFindAllThatBeginSo() throws {
    try Fixture.withFolder { folder in
      let dead = try deadProcess()
      for name in ["checkpoint-000004.qlora-tmp-\(dead)", "journal.qlora-tmp-\(dead)", "checkpoint-000002"] {
        try FileSystem.makeDirectory("\(folder)/\(name)")
      }
      Leftovers.remove(in: folder, prefix: "checkpoint-")
      #expect(try FileSystem.list(folder) == ["checkpoint-000002", "journal.qlora-tmp-\(dead)"])
    }
  }
}
