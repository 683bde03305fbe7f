/// What can go wrong with a database, as data.
package enum DatabaseError: Error, Equatable, Sendable {
  case cannotOpen(path: String, reason: String)
  case damaged(path: String)
  case locked(path: String)
  case readOnly(path: String)
  case statement(path: String, reason: String)
  case severalStatements(rest: String)
  case valueCount(expected: Int, got: Int)
  case closed
}

extension DatabaseError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .cannotOpen(let path, let reason): "\(path): cannot open the database: \(reason)"
    case .damaged(let path): "\(path): the file is damaged or no SQLite database"
    case .locked(let path): "\(path): another program holds the database locked"
    case .readOnly(let path): "\(path): the database cannot be written"
    case .statement(let path, let reason): "\(path): \(reason)"
    case .severalStatements(let rest): "one SQL statement expected, but more follows: \(rest)"
    case .valueCount(let expected, let got): "the statement has \(expected) placeholders and got \(got) values"
    case .closed: "the database is closed"
    }
  }
}
