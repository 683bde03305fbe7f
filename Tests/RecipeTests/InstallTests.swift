import Foundation
import Testing

/// `make install-files` and `make uninstall` in a place that has other things too.
@Suite struct InstallTests {
  private func make(_ command: String, home: URL) throws -> Program.Outcome {
    try Program.run(
      ["-c", command + " RUN='\(Program.executable.path)'"], in: Program.root, environment: ["HOME": home.path],
      program: "/bin/sh")
  }

  private func files(_ folder: URL) -> [String] {
    let all = FileManager.default.enumerator(atPath: folder.path)?.allObjects.compactMap { $0 as? String } ?? []
    var isFolder: ObjCBool = false
    return all.filter {
      FileManager.default.fileExists(atPath: folder.path + "/" + $0, isDirectory: &isFolder) && !isFolder.boolValue
    }
  }

  @Test func whatIsInstalledIsReadByAllAndWhatIsNotStays() throws {
    let home = try Program.temporaryDirectory()
    defer { try? FileManager.default.removeItem(at: home) }
    // Written as it is, since not every shell writes it out.
    let prefix = "PREFIX='~/a place'", place = home.appendingPathComponent("a place")
    let install = try make("umask 077; make install-files \(prefix)", home: home)
    #expect(install.code == 0, "\(install.errors)")
    let installed = files(place)
    #expect(installed.contains("bin/qlora-run") && installed.contains("share/man/man1/qlora-run.1"))
    for file in installed where file != "bin/qlora-run" {
      let mode = try FileManager.default.attributesOfItem(atPath: place.path + "/" + file)[.posixPermissions] as? Int
      #expect((mode ?? 0) & 0o044 == 0o044, "\(file)")
    }
    // An older version's, and somebody else's.
    let (old, other) = ("share/qlora/stdlib/qlora/old.lua", "share/qlora/mine.lua")
    for file in [old, other] { try Data().write(to: place.appendingPathComponent(file)) }
    #expect(try make("make install-files \(prefix)", home: home).code == 0)
    #expect(Set(files(place)) == Set(installed + [other]))
    #expect(try make("make uninstall \(prefix)", home: home).code == 0)
    #expect(files(place) == [other])
  }
}
