import CSQLite

/// A value of a column or of a placeholder.
package enum SQLValue: Equatable, Sendable {
  case null
  case integer(Int)
  case real(Double)
  case text(String)
}

/// One connection to a SQLite database. Values reach statements as bound parameters only.
package final class Database {
  package enum Access: Sendable {
    case read
    /// Of a file that must exist.
    case write
    case create
  }

  package typealias Row = [(column: String, value: SQLValue)]

  package let path: String
  private var handle: OpaquePointer?
  private let allows: (_ path: String, _ writes: Bool) -> Bool
  private let isStopping: () -> Bool
  private let files: GatedFiles?

  /// Bytes of a value beside its text, with its column's name; memory is asked for in portions.
  private static let valueByteCount = 64
  private static let askedByteCount = 1 << 20
  /// Waits this long for other programs, in milliseconds.
  private static let patience: Int32 = 2000

  /// - Parameters:
  ///   - path: a file, or `:memory:`; never a URI.
  ///   - access: what statements may do.
  ///   - allows: whether a file may be read or written: this one, and those that statements attach.
  ///   - isStopping: asked while a statement runs; true ends it.
  /// - Throws: `cannotOpen`, `damaged`, `locked`.
  package init(
    path: String, access: Access, allows: @escaping (_ path: String, _ writes: Bool) -> Bool = { _, _ in true },
    isStopping: @escaping () -> Bool = { false }
  ) throws {
    guard !path.isEmpty, !path.utf8.contains(0) else {
      throw DatabaseError.cannotOpen(path: path, reason: "not a file name")
    }
    self.path = path
    self.allows = allows
    self.isStopping = isStopping
    files = GatedFiles(allows: allows)
    let isFile = path != ":memory:"
    guard !isFile || allows(path, access != .read) else {
      throw DatabaseError.cannotOpen(path: path, reason: "this sandbox does not allow it")
    }
    let flags: Int32 =
      switch access {
      case .read: SQLITE_OPEN_READONLY
      case .write: SQLITE_OPEN_READWRITE
      case .create: SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
      }
    let code = sqlite3_open_v2(isFile && !path.hasPrefix("/") ? "./" + path : path, &handle, flags, files?.name)
    guard code == SQLITE_OK, handle != nil else {
      defer { close() }
      throw DatabaseError.cannotOpen(path: path, reason: message(code))
    }
    sqlite3_busy_timeout(handle, Database.patience)
    watch()
    do {
      // SQLite opens lazily; a damaged file shows at the first read.
      try query("PRAGMA schema_version")
    } catch {
      close()
      throw error
    }
  }

  deinit { close() }

  /// Makes SQLite ask before it attaches a file, and while it works.
  private func watch() {
    let context = Unmanaged.passUnretained(self).toOpaque()
    sqlite3_set_authorizer(
      handle,
      { context, action, first, second, _, _ in
        guard let context else { return SQLITE_DENY }
        let database = Unmanaged<Database>.fromOpaque(context).takeUnretainedValue()
        let name = action == SQLITE_FUNCTION ? second : first
        return database.permits(action, name.map { String(cString: $0) }) ? SQLITE_OK : SQLITE_DENY
      }, context)
    sqlite3_progress_handler(
      handle, 10_000,
      { context in
        guard let context else { return 0 }
        return Unmanaged<Database>.fromOpaque(context).takeUnretainedValue().isStopping() ? 1 : 0
      }, context)
  }

  /// Whether a statement may do what it asks for; `first` is the file that it attaches, or the name of a
  /// pragma or function.
  private func permits(_ action: Int32, _ first: String?) -> Bool {
    switch action {
    case SQLITE_ATTACH:
      // Nil is an expression, whose value nobody knows yet; VACUUM attaches a file without a name.
      guard let first else { return false }
      return first.isEmpty || first == ":memory:" || !first.hasPrefix("file:") && allows(first, true)
    case SQLITE_PRAGMA:
      // They say where files of the whole process go.
      return !["temp_store_directory", "data_store_directory"].contains(first?.lowercased() ?? "")
    case SQLITE_FUNCTION:
      // It takes an address of code as a value, and gives one.
      return first?.lowercased() != "fts3_tokenizer"
    default: return true
    }
  }

  package func close() {
    sqlite3_close_v2(handle)
    handle = nil
  }

  /// The most bytes that SQLite itself may hold, in all connections of the process; beyond, a statement ends in an
  /// error.
  package static func limitMemory(_ byteCount: Int) { sqlite3_hard_heap_limit64(Int64(byteCount)) }

  /// Runs one statement with `values` for its placeholders (`?`), in order. Before it takes memory for more rows it
  /// calls `require` with their bytes.
  /// - Throws: `statement` with SQLite's own words, `severalStatements`, `valueCount`, `locked`, `damaged`, and what
  ///   `require` throws.
  @discardableResult
  package func query(
    _ sql: String, _ values: [SQLValue] = [], require: (_ byteCount: Int) throws -> Void = { _ in }
  ) throws -> [Row] {
    guard handle != nil else { throw DatabaseError.closed }
    guard !sql.utf8.contains(0) else {
      throw DatabaseError.statement(path: path, reason: "the statement holds a zero byte")
    }
    let statement = try prepare(sql)
    defer { sqlite3_finalize(statement) }
    let expected = Int(sqlite3_bind_parameter_count(statement))
    guard expected == values.count else { throw DatabaseError.valueCount(expected: expected, got: values.count) }
    for (index, value) in values.enumerated() { try bind(value, to: statement, at: Int32(index + 1)) }
    var rows: [Row] = []
    var unasked = 0
    while true {
      let code = sqlite3_step(statement)
      if code == SQLITE_DONE { return rows }
      guard code == SQLITE_ROW else { throw failure(code) }
      let columns = 0..<sqlite3_column_count(statement)
      unasked += columns.reduce(0) { $0 + Self.valueByteCount + Self.byteCount(statement, $1) }
      if unasked >= Self.askedByteCount {
        try require(unasked)
        unasked = 0
      }
      rows.append(columns.map { (columnName(statement, $0), read(statement, $0)) })
    }
  }

  // MARK: Statements

  private func prepare(_ sql: String) throws -> OpaquePointer? {
    var statement: OpaquePointer?
    let rest = try sql.withCString { text -> String in
      var tail: UnsafePointer<CChar>?
      let code = sqlite3_prepare_v2(handle, text, -1, &statement, &tail)
      guard code == SQLITE_OK else { throw failure(code) }
      return tail.map { String(cString: $0) } ?? ""
    }
    guard statement != nil else { throw DatabaseError.statement(path: path, reason: "the statement is empty") }
    guard rest.allSatisfy({ $0.isWhitespace || $0 == ";" }) else {
      sqlite3_finalize(statement)
      throw DatabaseError.severalStatements(rest: rest)
    }
    return statement
  }

  /// A value that SQLite does not take, such as a text beyond its limits, would stay NULL.
  private func bind(_ value: SQLValue, to statement: OpaquePointer?, at index: Int32) throws {
    let code: Int32
    switch value {
    case .null: code = sqlite3_bind_null(statement, index)
    case .integer(let number): code = sqlite3_bind_int64(statement, index, Int64(number))
    case .real(let number): code = sqlite3_bind_double(statement, index, number)
    case .text(let text):
      // SQLITE_TRANSIENT, which C spells as a cast: SQLite copies the bytes.
      let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
      let byteCount = sqlite3_uint64(text.utf8.count)
      code = text.withCString {
        sqlite3_bind_text64(statement, index, $0, byteCount, transient, UInt8(SQLITE_UTF8))
      }
    }
    guard code == SQLITE_OK else { throw failure(code) }
  }

  private func columnName(_ statement: OpaquePointer?, _ column: Int32) -> String {
    sqlite3_column_name(statement, column).map { String(cString: $0) } ?? ""
  }

  /// Bytes of a text or blob. SQLite would turn a number into text to count it, and its type be undefined then.
  private static func byteCount(_ statement: OpaquePointer?, _ column: Int32) -> Int {
    switch sqlite3_column_type(statement, column) {
    case SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_NULL: 0
    default: Int(sqlite3_column_bytes(statement, column))
    }
  }

  private func read(_ statement: OpaquePointer?, _ column: Int32) -> SQLValue {
    switch sqlite3_column_type(statement, column) {
    case SQLITE_INTEGER: return .integer(Int(sqlite3_column_int64(statement, column)))
    case SQLITE_FLOAT: return .real(sqlite3_column_double(statement, column))
    case SQLITE_NULL: return .null
    default:
      let count = Int(sqlite3_column_bytes(statement, column))
      guard let bytes = sqlite3_column_blob(statement, column) else { return .text("") }
      return .text(String(decoding: UnsafeRawBufferPointer(start: bytes, count: count), as: UTF8.self))
    }
  }

  // MARK: Errors

  private func message(_ code: Int32) -> String {
    String(cString: handle == nil ? sqlite3_errstr(code) : sqlite3_errmsg(handle))
  }

  private func failure(_ code: Int32) -> DatabaseError {
    switch code & 0xff {
    case SQLITE_BUSY, SQLITE_LOCKED: .locked(path: path)
    case SQLITE_CORRUPT, SQLITE_NOTADB: .damaged(path: path)
    case SQLITE_READONLY: .readOnly(path: path)
    case SQLITE_CANTOPEN: .cannotOpen(path: path, reason: message(code))
    default: .statement(path: path, reason: message(code))
    }
  }
}
