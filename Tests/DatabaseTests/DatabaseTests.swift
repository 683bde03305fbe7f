import Foundation
import Testing

@testable import Database

private func temporary() -> String {
  FileManager.default.temporaryDirectory.appendingPathComponent("qlora-\(UUID().uuidString).sqlite").path
}

@Suite struct DatabaseTests {
  @Test func valuesComeBackAsTheyWereBound() throws {
    let database = try Database(path: temporary(), access: .create)
    try database.query("CREATE TABLE t (a, b, c, d)")
    let hostile = "'); DROP TABLE t; --\u{0}é"
    try database.query("INSERT INTO t VALUES (?, ?, ?, ?)", [.integer(.max), .real(0.1), .text(hostile), .null])
    try database.query("INSERT INTO t VALUES (?, ?, ?, ?)", [.integer(0), .real(.infinity), .text(""), .null])
    let rows = try database.query("SELECT * FROM t ORDER BY a DESC")
    #expect(rows.count == 2)
    #expect(rows[0].map(\.column) == ["a", "b", "c", "d"])
    #expect(rows[0].map(\.value) == [.integer(.max), .real(0.1), .text(hostile), .null])
    #expect(rows[1].map(\.value) == [.integer(0), .real(.infinity), .text(""), .null])
  }

  @Test func oneStatementOnly() throws {
    let database = try Database(path: temporary(), access: .create)
    try database.query("CREATE TABLE t (a)")
    #expect(throws: DatabaseError.severalStatements(rest: " DROP TABLE t")) {
      try database.query("SELECT 1; DROP TABLE t")
    }
    #expect(throws: DatabaseError.valueCount(expected: 1, got: 2)) {
      try database.query("SELECT ?", [.null, .null])
    }
    #expect(throws: DatabaseError.self) { try database.query("") }
    #expect(try database.query("SELECT * FROM t; ").isEmpty)
    database.close()
    #expect(throws: DatabaseError.closed) { try database.query("SELECT 1") }
  }

  /// SQLite may be built to take them for more than a name.
  @Test func attachedFilesAreNoURIs() throws {
    let path = temporary()
    try Database(path: path, access: .create).query("CREATE TABLE t (a)")
    let database = try Database(path: ":memory:", access: .create)
    try database.query("ATTACH '\(path)' AS known")
    #expect(throws: DatabaseError.self) { try database.query("ATTACH 'file:\(path)' AS other") }
    #expect(throws: DatabaseError.self) { try database.query("ATTACH 'file:' || 'x' AS other") }
    #expect(!FileManager.default.fileExists(atPath: "file:\(path)"))
  }

  @Test func aReaderCannotWrite() throws {
    let path = temporary()
    try Database(path: path, access: .create).query("CREATE TABLE t (a)")
    let reader = try Database(path: path, access: .read)
    #expect(throws: DatabaseError.readOnly(path: path)) { try reader.query("INSERT INTO t VALUES (1)") }
    #expect(throws: DatabaseError.readOnly(path: path)) { try reader.query("DROP TABLE t") }
  }

  @Test func damagedMissingAndLockedFilesAreNamed() throws {
    let path = temporary()
    #expect(throws: DatabaseError.cannotOpen(path: path, reason: "unable to open database file")) {
      try Database(path: path, access: .read)
    }
    for bad in ["", "a\u{0}b"] {
      #expect(throws: DatabaseError.cannotOpen(path: bad, reason: "not a file name")) {
        try Database(path: bad, access: .create)
      }
    }
    try Data(repeating: 0x41, count: 8192).write(to: URL(fileURLWithPath: path))
    #expect(throws: DatabaseError.damaged(path: path)) { try Database(path: path, access: .write) }

    let other = temporary()
    let holder = try Database(path: other, access: .create)
    try holder.query("CREATE TABLE t (a)")
    try holder.query("BEGIN EXCLUSIVE")
    #expect(throws: DatabaseError.locked(path: other)) { try Database(path: other, access: .write) }
  }

  @Test func memoryIsAskedForBeforeRowsAreTaken() throws {
    struct Refused: Error {}
    let database = try Database(path: ":memory:", access: .create)
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i FROM n"
    var asked = 0
    #expect(throws: Refused.self) {
      try database.query(many) {
        asked += $0
        if asked > 3 << 20 { throw Refused() }
      }
    }
    #expect(try database.query("SELECT 1").count == 1)
    #expect(try database.query(many).count == 100_000)
  }

  @Test func aStatementThatNeedsTooMuchMemoryEndsInAnError() throws {
    let database = try Database(path: ":memory:", access: .create)
    Database.limitMemory(16 << 20)
    defer { Database.limitMemory(0) }
    #expect(throws: DatabaseError.statement(path: ":memory:", reason: "out of memory")) {
      try database.query("SELECT length(hex(zeroblob(50000000)))")
    }
    // A placeholder without its value would be NULL.
    #expect(throws: DatabaseError.statement(path: ":memory:", reason: "out of memory")) {
      try database.query("SELECT length(?)", [.text(String(repeating: "x", count: 50_000_000))])
    }
    #expect(try database.query("SELECT 1").count == 1)
  }

  @Test func aZeroByteIsRefused() throws {
    let database = try Database(path: ":memory:", access: .create)
    #expect(throws: DatabaseError.statement(path: ":memory:", reason: "the statement holds a zero byte")) {
      try database.query("SELECT 1\u{0} junk")
    }
  }
}
