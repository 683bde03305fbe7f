import Foundation
import Glibc
import Testing

@testable import Database

@Suite struct GatedFilesTests {
  /// A journal can name a file that SQLite removes once it has rolled back. A program can write such a journal.
  @Test func whatAJournalNamesIsRemovedOnlyWhereTheGateAllows() throws {
    var template = Array((FileManager.default.temporaryDirectory.path + "/gated-XXXXXX").utf8CString)
    let folder = String(cString: try #require(mkdtemp(&template)))
    let (path, other) = (folder + "/x.db", folder + "/other.txt")
    let first = try Database(path: path, access: .create)
    try first.query("PRAGMA page_size=512")
    try first.query("CREATE TABLE t(a)")
    first.close()
    let bytes = try #require(contents(path))
    func big(_ number: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - 8 * $0)) } }
    let sign: [UInt8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]
    let page = Array(bytes[..<512])
    let header = sign + big(1) + big(0) + big(bytes.count / 512) + big(512) + big(512)
    let sum = Int(page[312]) + Int(page[112])
    let name = Array(other.utf8)
    let journal =
      header + [UInt8](repeating: 0, count: 512 - header.count) + big(1) + page + big(sum)
      + big(0x4000_0000 / 512 + 1) + name + big(name.count) + big(name.reduce(0) { $0 + Int($1) }) + sign
    for isAllowed in [false, true] {
      write(other, Array("important".utf8))
      write(path + "-journal", journal)
      let database = try? Database(path: path, access: .write) { place, _ in
        isAllowed || place.hasSuffix("/x.db") || place.hasSuffix("/x.db-journal")
      }
      _ = try? database?.query("SELECT * FROM t")
      database?.close()
      #expect((contents(other) == nil) == isAllowed)
    }
  }

  /// Its value is an address that is called.
  @Test func tokenizersAreNotSetByAddress() throws {
    let database = try Database(path: ":memory:", access: .create)
    #expect(throws: DatabaseError.self) {
      try database.query("SELECT fts3_tokenizer('simple', ?)", [.text("AAAAAAAA")])
    }
    #expect(throws: DatabaseError.self) { try database.query("SELECT FTS3_Tokenizer('simple')") }
  }

  private func contents(_ path: String) -> [UInt8]? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    return Array(bytes[..<fread(&bytes, 1, bytes.count, file)])
  }

  private func write(_ path: String, _ bytes: [UInt8]) {
    guard let file = fopen(path, "w") else { return }
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
  }
}
