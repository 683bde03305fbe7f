import LuaRuntime
import Tensors

/// What an argument or an option may be. Every number has a range: it is checked, documented and named in messages from
/// here, in one place for all functions.
package indirect enum ParameterType: Sendable {
  /// A number in a range.
  case real(NumberRange)
  /// A number without fraction in a range.
  case whole(ClosedRange<Int>)
  /// A number as an element of a tensor: NaN and the infinities too.
  case element
  /// A text, in UTF-8.
  case string
  /// A string of any bytes.
  case bytes
  case boolean
  case table
  case function
  case any
  /// An object of a bound class.
  case object(String)
  /// A table with named fields; any other key is an error.
  case options([Parameter])
  /// A list of tables with these fields, which the function checks as it reads them.
  case rows([Parameter])
  case oneOf([ParameterType])

  /// Any finite number.
  package static let number = real(.finite)
  /// Any integer.
  package static let integer = whole(.min ... .max)
  /// A number of things; see `counts`.
  package static let count = whole(counts)
  /// A number of things, or none.
  package static let amount = whole(0...counts.upperBound)
  /// A finite number above 0.
  package static let positive = real(.positive)

  /// What can be counted: the product of two of these is still an integer.
  package static let counts = 1...Int(Int32.max)

  /// The name in messages and in the reference.
  package var name: String {
    switch self {
    case .real(.finite), .element: "number"
    case .real(let range): "number \(range)"
    case .whole(let range): Self.name(of: range, counting: true)
    case .string, .bytes: "string"
    case .boolean: "boolean"
    case .table, .options, .rows: "table"
    case .function: "function"
    case .any: "any"
    case .object(let name): name
    case .oneOf(let types): types.map(\.name).joined(separator: "|")
    }
  }

  /// What is said to be expected where `value` is not accepted: a number is told what would be in range, also where
  /// that goes without saying for other values.
  func expected(insteadOf value: LuaValue) -> String {
    guard let number = value.asDouble else { return name }
    switch self {
    case .real(.finite): return "finite number"
    case .real(let range): return range.expected(insteadOf: number)
    case .whole(let range): return Self.name(of: range, counting: number <= Double(Self.counts.upperBound))
    case .oneOf(let types): return types.map { $0.expected(insteadOf: value) }.joined(separator: "|")
    default: return name
    }
  }

  /// "whole number from 1 to 4096". `counting` leaves out the upper bound of what is counted, which nobody meets.
  private static func name(of range: ClosedRange<Int>, counting: Bool) -> String {
    switch (range.lowerBound, range.upperBound) {
    case (.min, .max): "integer"
    case (let lower, .max): "whole number of at least \(lower)"
    case (let lower, counts.upperBound) where counting: "whole number of at least \(lower)"
    default: "whole number from \(range.lowerBound) to \(range.upperBound)"
    }
  }

  func accepts(_ value: LuaValue) -> Bool {
    switch (self, value) {
    case (.any, _), (.string, .string), (.bytes, .string), (.bytes, .bytes), (.boolean, .bool), (.table, .table),
      (.options, .table), (.rows, .table), (.function, .function), (.element, .integer), (.element, .number):
      true
    case (.real(let range), _): value.asDouble.map(range.contains) ?? false
    case (.whole(let range), _): value.asInt.map(range.contains) ?? false
    case (.object(let name), .object(let object)): type(of: object).luaClassName == name
    case (.oneOf(let types), _): types.contains { $0.accepts(value) }
    default: false
    }
  }
}

extension LuaValue {
  /// A number as Lua writes it, of anything else the type: what a message says it got.
  var shown: String {
    switch self {
    case .integer(let number): String(number)
    case .number(let number): number.isNaN ? "nan" : String(number)
    default: typeName
    }
  }
}
