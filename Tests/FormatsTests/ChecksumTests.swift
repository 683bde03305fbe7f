import Foundation
import Testing

@testable import Formats

private func folder() throws -> String {
  let path = FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString)").path
  try FileManager.default.createDirectory(atPath: path + "/inner", withIntermediateDirectories: true)
  return path
}

@Suite struct SHA256Tests {
  /// FIPS 180-4 and NIST's examples.
  @Test(arguments: [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    (
      String(repeating: "a", count: 1_000_000), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    ),
  ])
  func knownHashes(text: String, expected: String) {
    #expect(SHA256.hash(of: text) == expected)
  }

  @Test func piecesOfAnySizeGiveTheHashOfTheWhole() {
    let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 7) }
    let whole = bytes.withUnsafeBytes { SHA256.hash($0) }
    for size in [1, 3, 55, 56, 63, 64, 65, 127, 999] {
      var hash = SHA256()
      for start in stride(from: 0, to: bytes.count, by: size) {
        Array(bytes[start..<min(start + size, bytes.count)]).withUnsafeBytes { hash.update($0) }
      }
      #expect(hash.finish() == whole, "pieces of \(size)")
    }
  }
}

@Suite struct ChecksumTests {
  private func write(_ text: String, _ path: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
  }

  @Test func everyFlippedBitOfFilesAndListIsNoticed() throws {
    let folder = try folder()
    try write("some bytes", folder + "/a.bin")
    try write("", folder + "/empty")
    try write("more", folder + "/inner/b.bin")
    try Checksums.write(folder)
    try Checksums.verify(folder)
    for name in ["a.bin", "inner/b.bin", Checksums.listName] {
      let url = URL(fileURLWithPath: "\(folder)/\(name)")
      let whole = try Data(contentsOf: url)
      for index in whole.indices {
        for bit in 0..<8 {
          var damaged = whole
          damaged[index] ^= 1 << UInt8(bit)
          try damaged.write(to: url)
          let error = #expect(throws: FormatError.self) { try Checksums.verify(folder) }
          if name != Checksums.listName {
            #expect(error == .checksum(path: url.path, list: Checksums.listName))
          }
        }
      }
      try whole.write(to: url)
    }
    try Checksums.verify(folder)
    try FileManager.default.removeItem(atPath: folder)
  }

  @Test func filesThatLackOrCameLaterAreNamed() throws {
    let folder = try folder()
    #expect(throws: FormatError.missingFile(path: folder, looked: ["SHA256SUMS"])) { try Checksums.verify(folder) }
    try write("some bytes", folder + "/a.bin")
    try Checksums.write(folder)
    try write("later", folder + "/inner/c")
    #expect(throws: FormatError.unlisted(path: folder + "/inner/c", list: "SHA256SUMS")) {
      try Checksums.verify(folder)
    }
    try FileManager.default.removeItem(atPath: folder + "/inner/c")
    try Checksums.verify(folder)
    try FileManager.default.removeItem(atPath: folder + "/a.bin")
    #expect(throws: FormatError.missingFile(path: folder, looked: ["a.bin"])) { try Checksums.verify(folder) }
    try FileManager.default.removeItem(atPath: folder)
  }
}

@Suite struct FileLockTests {
  @Test func oneHolderAtATimeAndItsNameIsTold() throws {
    let path = try folder() + "/lock"
    var first: FileLock? = try FileLock(path: path)
    #expect(first?.place(path) == .here)
    let error = #expect(throws: FormatError.self) { try FileLock(path: path) }
    guard case .locked(path, let owner)? = error else {
      Issue.record("\(error as Any)")
      return
    }
    #expect(owner.hasPrefix("process \(getpid()) on "))
    first = nil
    _ = try FileLock(path: path)
  }

  @Test func aLockKnowsWhereItsFolderIs() throws {
    let folder = try folder()
    let lock = try FileLock(path: folder + "/lock")
    try FileManager.default.moveItem(atPath: folder, toPath: folder + "-moved")
    guard case .moved(let place) = lock.place(folder + "/lock") else {
      Issue.record("not noticed")
      return
    }
    #expect(place.hasSuffix("-moved/lock") && FileManager.default.fileExists(atPath: place))
    // Another file of that name is not it.
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let other = try FileLock(path: folder + "/lock")
    #expect(lock.place(folder + "/lock") == .moved(place) && other.place(folder + "/lock") == .here)
    try FileManager.default.removeItem(atPath: folder + "-moved")
    #expect(lock.place(folder + "/lock") == .removed)
    try FileManager.default.removeItem(atPath: folder)
  }
}
