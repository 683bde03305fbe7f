import Formats
import LuaRuntime
import Tensors

// The bound API is data: each native function is declared once, and argument checks, help texts, the reference and the
// annotations for editors are made from that declaration.

/// One parameter of a function, or one field of an options table.
package struct Parameter: Sendable {
  package let name: String
  package let type: ParameterType
  package let isOptional: Bool
  /// The value that stands in for a missing one, as Lua text; nil where there is none or the sentence says it.
  package let initial: String?
  /// The words a text may be; empty for any.
  package let choices: [String]
  /// One phrase of at least two words.
  package let doc: String

  /// A parameter with a default is optional.
  package init(
    _ name: String, _ type: ParameterType, optional: Bool = false, default initial: String? = nil,
    choices: [String] = [], _ doc: String
  ) {
    self.name = name
    self.type = type
    self.isOptional = optional || initial != nil
    self.initial = initial
    self.choices = choices
    self.doc = doc
  }
}

/// A declared function, method or metamethod.
package struct NativeFunction {
  package let name: String
  package let doc: String
  package let parameters: [Parameter]
  /// What it returns, in LuaLS notation; empty for nothing.
  package let returns: String
  /// What a user can do to make it throw; empty where nothing but wrong types does.
  package let errors: String
  /// A line of Lua that the tests run; nil where stdlib/qlora/reference/examples.lua holds it.
  package let example: String?
  package let body: (Call) throws -> [LuaValue]

  package init(
    _ name: String, _ doc: String, _ parameters: [Parameter] = [], returns: String = "", errors: String = "",
    example: String? = nil, _ body: @escaping (Call) throws -> [LuaValue]
  ) {
    self.name = name
    self.doc = doc
    self.parameters = parameters
    self.returns = returns
    self.errors = errors
    self.example = example
    self.body = body
  }
}

/// A field of a bound class that is computed on reading.
package struct NativeProperty {
  package let name: String
  package let type: String
  package let doc: String
  package let get: (LuaState, any LuaObject) throws -> LuaValue
  /// Nil for read-only fields.
  package let set: ((LuaState, any LuaObject, LuaValue) throws -> Void)?

  package init(
    _ name: String, _ type: String, _ doc: String, set: ((LuaState, any LuaObject, LuaValue) throws -> Void)? = nil,
    _ get: @escaping (LuaState, any LuaObject) throws -> LuaValue
  ) {
    self.name = name
    self.type = type
    self.doc = doc
    self.get = get
    self.set = set
  }
}

/// A bound class: Lua sees fields and methods of a Swift object.
package struct NativeClass {
  package let name: String
  package let doc: String
  package let properties: [NativeProperty]
  package let methods: [NativeFunction]
  /// `__add`, `__len`, `__tostring` and so on; the first argument is checked to be of the class where Lua ensures it.
  package let metamethods: [NativeFunction]
  /// `object[key]` for keys that are no strings.
  package let index: ((Call) throws -> [LuaValue])?
  /// `object[key] = value` for keys that are no strings.
  package let assign: ((Call) throws -> [LuaValue])?

  package init(
    _ name: String, _ doc: String, properties: [NativeProperty] = [], methods: [NativeFunction],
    metamethods: [NativeFunction] = [], index: ((Call) throws -> [LuaValue])? = nil,
    assign: ((Call) throws -> [LuaValue])? = nil
  ) {
    self.name = name
    self.doc = doc
    self.properties = properties
    self.methods = methods
    self.metamethods = metamethods
    self.index = index
    self.assign = assign
  }
}

/// A table of functions; names may be dotted (`optim.adamw`).
package struct NativeModule {
  package let doc: String
  package let functions: [NativeFunction]

  package init(_ doc: String, _ functions: [NativeFunction]) {
    self.doc = doc
    self.functions = functions
  }
}

/// Errors of the Lua surface, worded as Lua words its own.
package enum BindingError: Error, CustomStringConvertible {
  /// `hint` says where such an argument comes from; empty when the type says enough.
  case badArgument(number: Int, function: String, expected: String, got: String, hint: String = "")
  case tooManyArguments(function: String, taken: [String], number: Int)
  /// Operands are counted from 1, from the left.
  case badOperand(number: Int, symbol: String, expected: String, got: String)
  case badSelf(method: String, className: String, got: String)
  case unknownOption(function: String, option: String, nearest: String?, known: [String] = [])
  case badOption(function: String, option: String, expected: String, got: String)
  case badChoice(function: String, option: String, choices: [String], got: String, nearest: String?)
  case missingOption(function: String, option: String)
  case unknownField(className: String, field: String, nearest: String?)
  case readOnly(className: String, field: String)
  /// A value that a field does not take.
  case badField(className: String, field: String, expected: String, got: String)
  /// An index outside 1...count, as the program gave it.
  case badIndex(operation: String, index: Int, count: Int)
  /// A dimension that a tensor of `rank` dimensions does not have, as the program gave it.
  case badDimension(operation: String, dimension: Int, rank: Int)
  case invalid(function: String, message: String)
  /// The memory that encoding a long text takes.
  case noMemoryForText(TensorError)

  package var description: String {
    switch self {
    case .badArgument(let number, let function, let expected, let got, let hint):
      "bad argument #\(number) to '\(function)' (\(expected) expected, got \(got))\(hint.isEmpty ? "" : ": " + hint)"
    case .tooManyArguments(let function, let taken, let number):
      "\(function): nobody reads the table given as argument \(number); it takes "
        + (taken.isEmpty ? "no arguments" : taken.joined(separator: ", "))
    case .badOperand(let number, let symbol, let expected, let got):
      "bad operand #\(number) of '\(symbol)' (\(expected) expected, got \(got))"
    case .badSelf(let method, let className, let got):
      "calling '\(method)' on bad self (\(className) expected, got \(got)); use a colon: object:\(method)()"
    case .unknownOption(_, _, let nearest, let known):
      (unknown?.head ?? "")
        + (nearest == nil ? "; valid: \(known.sorted().joined(separator: ", "))" : didYouMean(nearest))
    case .badOption(let function, let option, let expected, let got):
      "\(function): option '\(option)' must be \(withArticle(expected)), got \(got)"
    case .badChoice(let function, let option, let choices, let got, let nearest):
      "\(function): option '\(option)' has no choice \"\(got)\""
        + didYouMean(nearest) + "; choices: \(choices.joined(separator: ", "))"
    case .missingOption(let function, let option):
      "\(function): option '\(option)' is missing"
    case .unknownField(_, _, let nearest):
      (unknown?.head ?? "") + didYouMean(nearest)
    case .readOnly(let className, let field):
      "\(className).\(field) cannot be assigned"
    case .badField(let className, let field, let expected, let got):
      "\(className).\(field) must be \(withArticle(expected)), got \(got)"
    case .badIndex(let operation, let index, let count):
      "\(operation): index \(index) is outside 1..\(count)\(index == 0 ? "; tensors count from 1, as Lua does" : "")"
    case .badDimension(let operation, let dimension, let rank):
      "\(operation): dimension \(dimension) does not exist, the tensor has \(rank)"
    case .invalid(let function, let message):
      "\(function): \(message)"
    case .noMemoryForText(let error):
      "\(error) (--memory, or the machine's); encode a long text in parts, or drop what is not needed"
    }
  }

  /// Of an error about an unknown name: the name, what is said of it before what to write instead, and the names that
  /// an error about an option lists.
  var unknown: (name: String, head: String, known: [String])? {
    switch self {
    case .unknownOption(let function, let option, _, let known):
      (option, "\(function): unknown option '\(option)'", known)
    case .unknownField(let className, let field, _): (field, "\(className) has no field '\(field)'", [])
    default: nil
    }
  }

  /// "a number", "an integer"; nil has no article.
  private func withArticle(_ noun: String) -> String {
    if noun.hasPrefix("nil") { return noun }
    return ("aeiou".contains(noun.prefix(1)) ? "an " : "a ") + noun
  }
}
