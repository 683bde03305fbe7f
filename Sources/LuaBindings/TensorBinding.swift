import Autograd
import Formats
import LuaRuntime
import Quantization
import Tensors

extension Tensor: LuaObject {
  package static var luaClassName: String { "Tensor" }
}

/// Tensors as PyTorch names them, with indices and dimensions counted from 1 as in Torch7.
extension Engine {
  var tensorClass: NativeClass {
    NativeClass(
      "Tensor",
      "An array of numbers with a shape and a dtype. Operations return new tensors; a trailing _ changes in place. "
        + "backward is refused where it needs what such a change, an assignment of elements or a step has overwritten.",
      properties: [
        NativeProperty("dtype", "string", "f32, bf16, f16, i64, i32 or u8") { _, object in
          .string((object as? Tensor)?.dtype.name ?? "")
        },
        NativeProperty(
          "requires_grad", "boolean", "whether backward brings a gradient to this tensor, which is one of floats",
          set: { _, object, value in
            guard let tensor = object as? Tensor, let flag = value.asBool else {
              throw BindingError.badField(
                className: "Tensor", field: "requires_grad", expected: "boolean", got: value.typeName)
            }
            guard tensor.producer == nil else { throw TensorError.inPlaceOnGraph(operation: "requires_grad") }
            guard !flag || tensor.dtype.isFloat else {
              throw TensorError.badDType(
                operation: "requires_grad", got: tensor.dtype, expected: DType.allCases.filter(\.isFloat))
            }
            tensor.requiresGradient = flag
          }
        ) { _, object in .bool((object as? Tensor)?.requiresGradient ?? false) },
        NativeProperty(
          "grad", "Tensor|nil",
          "sum of the gradients that backward brought, f32; nil may be assigned, which forgets it",
          set: { _, object, value in
            guard value.isNil else {
              throw BindingError.badField(
                className: "Tensor", field: "grad", expected: "nil, which forgets the gradient", got: value.typeName)
            }
            (object as? Tensor)?.gradient = nil
          }
        ) { state, object in ((object as? Tensor)?.gradient).map { self.value($0, state) } ?? .nil },
      ],
      methods: shapeMethods + arithmeticMethods + reductionMethods + choiceMethods + spreadMethods
        + decompositionMethods + inPlaceMethods + summaryMethods,
      metamethods: operators,
      index: { call in
        let tensor = try call.receiver(as: Tensor.self)
        return [self.value(try self.indexed(tensor, call.arguments.first ?? .nil, call), call.state)]
      },
      assign: { call in
        let tensor = try call.receiver(as: Tensor.self)
        let target = try self.indexed(tensor, call.arguments.first ?? .nil, call)
        try self.beginChange(tensor, "index assignment")
        let value = call.arguments.count > 1 ? call.arguments[1] : .nil
        if value.asDouble != nil {
          try self.fill(target, value, "index assignment")
        } else if case .object(let object) = value, let source = object as? Tensor {
          try self.backend.copy(try source.broadcasted(to: target.shape), into: target)
        } else {
          throw call.invalid("number or Tensor expected, got \(value.typeName)")
        }
        return []
      })
  }

  /// Checks that a tensor may be changed in place, and notes that it is.
  func beginChange(_ tensor: Tensor, _ operation: String) throws {
    guard tensor.storage.isWritable else {
      throw BindingError.invalid(function: operation, message: "this tensor is a read-only view of a model file")
    }
    guard tensor.producer == nil else { throw TensorError.inPlaceOnGraph(operation: operation) }
    if let script, script.constant.contains(ObjectIdentifier(tensor.storage)) {
      throw BindingError.invalid(
        function: operation, message: "a scripted adapter leaves x, base and p as they are; use the form without _")
    }
    tensor.noteChange()
  }

  /// Sets all elements to a Lua number, exactly where the tensor holds integers.
  func fill(_ target: Tensor, _ value: LuaValue, _ operation: String) throws {
    guard let range = target.dtype.integers else { return try backend.fill(target, value.asDouble ?? 0) }
    let number = try integer(value, in: range, of: target.dtype, operation)
    try backend.copy(try Tensor(integers: [number], shape: [], on: backend).broadcasted(to: target.shape), into: target)
  }

  /// A number that a tensor of integers can hold.
  func integer(_ value: LuaValue, in range: ClosedRange<Int>, of dtype: DType, _ operation: String) throws -> Int {
    guard let number = value.asInt, range.contains(number) else {
      throw BindingError.invalid(
        function: operation,
        message: "\(value.shown) is no \(dtype.name); a whole number from \(range.lowerBound) to \(range.upperBound) "
          + "expected")
    }
    return number
  }

  // MARK: Indexing

  /// x[i], x[{i, j}], x[{ {2, 4}, {} }].
  private func indexed(_ tensor: Tensor, _ key: LuaValue, _ call: Call) throws -> Tensor {
    if let index = key.asInt { return try element(tensor, 0, index) }
    guard let parts = key.asTable?.elements else {
      throw call.invalid("an index is an integer or a table, got \(key.typeName)")
    }
    guard parts.count <= tensor.rank else {
      throw BindingError.badDimension(operation: "index", dimension: parts.count, rank: tensor.rank)
    }
    var result = tensor
    var axis = 0
    for part in parts {
      if let index = part.asInt {
        result = try element(result, axis, index)
        continue
      }
      guard let bounds = part.asTable?.integers(), bounds.count == 0 || bounds.count == 2 else {
        throw call.invalid("a range is {} or {first, last}")
      }
      if bounds.count == 2 {
        let first = try position(bounds[0], result.shape[axis])
        let last = try position(bounds[1], result.shape[axis])
        guard first <= last else {
          throw BindingError.badIndex(operation: "index", index: bounds[1], count: result.shape[axis])
        }
        result = try narrow(result, axis, first..<last + 1)
      }
      axis += 1
    }
    return result
  }

  private func element(_ tensor: Tensor, _ axis: Int, _ index: Int) throws -> Tensor {
    guard tensor.shape.indices.contains(axis) else {
      throw BindingError.badDimension(operation: "index", dimension: axis + 1, rank: tensor.rank)
    }
    return try select(tensor, axis, try position(index, tensor.shape[axis]))
  }

  /// 1-based, negative from the end, to 0-based.
  private func position(_ index: Int, _ count: Int) throws -> Int {
    let position = index > 0 ? index - 1 : count + index
    guard index != 0, position >= 0, position < count else {
      throw BindingError.badIndex(operation: "index", index: index, count: count)
    }
    return position
  }

  // MARK: Arguments

  /// A Lua number or a tensor; nil for anything else.
  private func operand(_ value: LuaValue) throws -> Tensor? {
    if let number = value.asDouble { return try Tensor([Float(number)], shape: [], on: backend) }
    if case .object(let object) = value { return object as? Tensor }
    return nil
  }

  /// The argument `name` of a method, a number or a tensor.
  func operand(_ name: String, of call: Call) throws -> Tensor {
    guard let tensor = try operand(call[name]) else { throw call.bad(name, "Tensor or number") }
    return tensor
  }

  /// Operand `number` of an operator, counted from 1.
  private func operand(_ number: Int, of symbol: String, _ call: Call) throws -> Tensor {
    let value = number <= call.arguments.count ? call.arguments[number - 1] : .nil
    guard let tensor = try operand(value) else {
      throw BindingError.badOperand(
        number: number, symbol: symbol, expected: "Tensor or number", got: value.typeName)
    }
    return tensor
  }

  /// A 1-based dimension, negative from the end, as 0-based.
  func axis(_ value: LuaValue, _ rank: Int, _ operation: String) throws -> Int {
    let dimension = value.asInt ?? 0
    let axis = dimension > 0 ? dimension - 1 : rank + dimension
    guard dimension != 0, axis >= 0, axis < rank else {
      throw BindingError.badDimension(operation: operation, dimension: dimension, rank: rank)
    }
    return axis
  }

  private var operators: [NativeFunction] {
    func operation(_ name: String, _ symbol: String, _ binaryOperation: BinaryOperation) -> NativeFunction {
      NativeFunction(name, "Element by element, with broadcasting.", returns: "Tensor") { call in
        let (a, b) = (try self.operand(1, of: symbol, call), try self.operand(2, of: symbol, call))
        return [self.value(try binary(binaryOperation, a, b), call.state)]
      }
    }
    func tensor(_ call: Call) throws -> Tensor {
      let value = call.arguments.first ?? .nil
      guard case .object(let object) = value, let tensor = object as? Tensor else {
        throw BindingError.badSelf(method: call.function, className: "Tensor", got: value.typeName)
      }
      return tensor
    }
    return [
      operation("__add", "+", .add), operation("__sub", "-", .subtract), operation("__mul", "*", .multiply),
      operation("__div", "/", .divide), operation("__pow", "^", .power),
      NativeFunction("__unm", "Negation.", returns: "Tensor") { call in
        [self.value(try unary(.negate, try self.operand(1, of: "-", call)), call.state)]
      },
      NativeFunction("__len", "Size of the first dimension.", returns: "integer") { call in
        [.integer(try tensor(call).shape.first ?? 0)]
      },
      NativeFunction("__tostring", "Columns, summarised when large, and a footer.", returns: "string") { call in
        [.string(try TensorText.describe(try tensor(call)))]
      },
    ]
  }
}
