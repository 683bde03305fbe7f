import Autograd
import LuaRuntime
import Quantization
import Tensors

// The methods of Tensor, one table per subject.

extension Engine {
  private func method(
    _ name: String, _ doc: String, _ parameters: [Parameter] = [], returns: String = "Tensor", example: String? = nil,
    _ body: @escaping (Tensor, Call) throws -> Tensor
  ) -> NativeFunction {
    NativeFunction(name, doc, parameters, returns: returns, example: example) { call in
      [self.value(try body(try call.receiver(as: Tensor.self), call), call.state)]
    }
  }

  private func integers(_ call: Call, _ name: String) throws -> [Int] {
    if let one = call[name].asInt {
      // view(2, 3) as well as view{2, 3}
      let rest = call.arguments.dropFirst().map(\.asInt)
      guard rest.allSatisfy({ $0 != nil }) else { throw call.invalid("\(name) must be integers") }
      return [one] + rest.compactMap { $0 }
    }
    guard let list = call[name].asTable?.integers() else { throw call.invalid("\(name) must be integers") }
    return list
  }

  var shapeMethods: [NativeFunction] {
    let dimension = Parameter("dimension", .integer, "counted from 1, or from the end when negative")
    let sizes = Parameter("sizes", .oneOf([.integer, .table]), "sizes, as numbers or a table; one may be -1")
    return [
      NativeFunction(
        "shape", "The sizes of all dimensions.", returns: "integer[]", example: "qlora.zeros(2, 3):shape()"
      ) {
        call in
        let shape = try call.receiver(as: Tensor.self).shape
        return [.table(call.state.list(shape.map { .integer($0) }))]
      },
      NativeFunction("size", "The size of one dimension.", [dimension], returns: "integer") { call in
        let tensor = try call.receiver(as: Tensor.self)
        return [.integer(tensor.shape[try self.axis(call["dimension"], tensor.rank, "size")])]
      },
      NativeFunction("numel", "The number of elements.", returns: "integer") { call in
        [.integer(try call.receiver(as: Tensor.self).elementCount)]
      },
      NativeFunction("item", "The only element as a number.", returns: "number", example: "qlora.tensor{3}:item()") {
        call in
        let tensor = try call.receiver(as: Tensor.self)
        if tensor.dtype.isFloat { return [.number(try tensor.item())] }
        guard tensor.elementCount == 1 else { throw TensorError.notScalar(operation: "item", shape: tensor.shape) }
        return [.integer(try tensor.integers()[0])]
      },
      NativeFunction("totable", "Nested tables of the elements.", returns: "table") { call in
        let tensor = try call.receiver(as: Tensor.self)
        guard tensor.elementCount <= 1 << 24 else { throw call.invalid("too many elements for a table") }
        // A Swift value and a slot of Lua's table for each.
        try call.state.require(tensor.elementCount * (MemoryLayout<LuaValue>.stride + 16))
        return [try self.nested(tensor, call.state)]
      },
      method(
        "to",
        "A copy in another dtype. What an integer type does not hold becomes its nearest value, "
          + "NaN becomes 0, fractions are cut off.",
        [Parameter("dtype", .string, "f32, bf16, f16, i64, i32 or u8")]
      ) {
        tensor, call in
        let name = try call.string("dtype")
        guard let dtype = DType(name: name) else { throw call.invalid("unknown dtype '\(name)'") }
        return try convert(tensor, to: dtype)
      },
      method("view", "The same elements under another shape.", [sizes], example: "qlora.arange(6):view(2, 3)") {
        tensor, call in
        try reshape(tensor, try self.integers(call, "sizes"))
      },
      method("t", "The transposed matrix.") { tensor, call in
        guard tensor.rank == 2 else { throw call.invalid("a matrix is needed, the shape is \(tensor.shape)") }
        return try transpose(tensor, 0, 1)
      },
      method("transpose", "Exchanges two dimensions.", [dimension, Parameter("other", .integer, "the other one")]) {
        tensor, call in
        try transpose(
          tensor, try self.axis(call["dimension"], tensor.rank, "transpose"),
          try self.axis(call["other"], tensor.rank, "transpose"))
      },
      method("contiguous", "A packed copy, or itself when packed.") { tensor, _ in
        try tensor.isContiguous ? tensor : packed(tensor)
      },
      method("clone", "A copy with memory of its own.") { tensor, _ in try packed(tensor) },
      method("detach", "The same elements without a place in the gradient graph.") { tensor, _ in tensor.detached() },
      method(
        "narrow", "Elements first..first+length-1 of a dimension.",
        [
          dimension, Parameter("first", .whole(1 ... .max), "from 1"),
          Parameter("length", .whole(0 ... .max), "how many"),
        ]
      ) { tensor, call in
        let axis = try self.axis(call["dimension"], tensor.rank, "narrow")
        let (first, length) = (try call.int("first"), try call.int("length"))
        guard first <= tensor.shape[axis] else {
          throw BindingError.badIndex(operation: "narrow", index: first, count: tensor.shape[axis])
        }
        let most = tensor.shape[axis] - first + 1
        guard length <= most else {
          throw call.invalid("length is \(length), expected 0 to \(most) from element \(first) on")
        }
        return try narrow(tensor, axis, first - 1..<first - 1 + length)
      },
    ]
  }

  private func nested(_ tensor: Tensor, _ state: LuaState) throws -> LuaValue {
    let isFloat = tensor.dtype.isFloat
    guard tensor.rank > 1 else {
      if isFloat { return .table(state.list(try tensor.floats().map { .number(Double($0)) })) }
      return .table(state.list(try tensor.integers().map { .integer($0) }))
    }
    return .table(state.list(try (0..<tensor.shape[0]).map { try nested(try tensor.selected(0, $0), state) }))
  }

  var arithmeticMethods: [NativeFunction] {
    let other = Parameter("other", .oneOf([.object("Tensor"), .element]), "a tensor that broadcasts, or a number")
    let named: [(String, BinaryOperation)] = [
      ("add", .add), ("sub", .subtract), ("mul", .multiply), ("div", .divide), ("pow", .power), ("maximum", .maximum),
      ("minimum", .minimum), ("eq", .equal), ("ne", .notEqual), ("lt", .less), ("le", .lessEqual), ("gt", .greater),
      ("ge", .greaterEqual),
    ]
    let unaries: [(String, UnaryOperation)] = [
      ("neg", .negate), ("abs", .abs), ("exp", .exp), ("log", .log), ("sqrt", .sqrt), ("rsqrt", .rsqrt), ("sin", .sin),
      ("cos", .cos), ("tanh", .tanh), ("sigmoid", .sigmoid), ("silu", .silu), ("relu", .relu), ("erf", .erf),
      ("square", .square), ("reciprocal", .reciprocal), ("sign", .sign), ("floor", .floor), ("ceil", .ceil),
      ("round", .round),
    ]
    return named.map { name, operation in
      method(name, "Element by element \(name), with broadcasting, f32.", [other]) { tensor, call in
        try binary(operation, tensor, try self.operand("other", of: call))
      }
    }
      + unaries.map { name, operation in
        method(name, "Element by element \(name), f32.") { tensor, _ in try unary(operation, tensor) }
      } + [
        method("matmul", "Matrix product in f32.", [Parameter("other", .object("Tensor"), "right factor")]) {
          tensor, call in
          try matmul(tensor, try call.object("other", as: Tensor.self))
        },
        method(
          "gelu",
          "Element by element GELU, f32: the tanh form 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 "
            + "x^3))), as the models compute it, or x (1 + erf(x / sqrt(2))) / 2 for \"none\", "
            + "which is PyTorch's default.",
          [
            Parameter(
              "approximate", .string, default: "\"tanh\"", choices: ["tanh", "none"], "how it is approximated")
          ]
        ) { tensor, call in
          call["approximate"].asString == "none" ? try exactGELU(tensor) : try unary(.gelu, tensor)
        },
      ]
  }

  var reductionMethods: [NativeFunction] {
    let dimension = Parameter("dimension", .integer, optional: true, "counted from 1; all elements when omitted")
    let ties = " Of equal elements the first along a dimension gets the gradient, of all elements each its part."
    let reductions: [(name: String, operation: Reduction, result: String)] = [
      ("sum", .sum, "f32, of integers i64 and exact."), ("mean", .mean, "f32."),
      ("max", .maximum, "f32, of integers their dtype." + ties),
      ("min", .minimum, "f32, of integers their dtype." + ties),
    ]
    return reductions.map { name, operation, result in
      method(name, "\(name) over a dimension or over all elements, \(result)", [dimension]) { tensor, call in
        let axis = try call["dimension"].isNil ? nil : self.axis(call["dimension"], tensor.rank, name)
        return try reduce(operation, tensor, axis: axis)
      }
    } + [
      method("argmax", "Position of the largest element, counted from 1, i64.", [dimension]) { tensor, call in
        let axis = try call["dimension"].isNil ? nil : self.axis(call["dimension"], tensor.rank, "argmax")
        return try reduce(.argmax, tensor, axis: axis).shifted(by: 1)  // Lua counts from 1
      },
      method("softmax", "Softmax over the last dimension.") { tensor, _ in try softmax(tensor) },
      method("log_softmax", "Logarithm of the softmax over the last dimension.") { tensor, _ in
        try softmax(tensor, logarithm: true)
      },
      NativeFunction(
        "backward", "Brings gradients to every tensor with requires_grad that this one was computed from.",
        [Parameter("seed", .object("Tensor"), optional: true, "gradient of this tensor; 1 when it has one element")]
      ) { call in
        let tensor = try call.receiver(as: Tensor.self)
        try tensor.backward(seed: call["seed"].isNil ? nil : try call.object("seed", as: Tensor.self))
        return []
      },
      NativeFunction(
        "quantize",
        "Blockwise 4-bit quantization with the bytes of bitsandbytes; with `double` each scale gets "
          + "the nearest code, which its CPU kernel misses now and then.",
        [
          Parameter(
            "options",
            .options([
              Parameter(
                "type", .string, default: "\"nf4\"", choices: FourBitKind.allCases.map(\.rawValue), "4-bit type"),
              Parameter("block", .whole(32...4096), default: "64", "elements that share a scale, a power of two"),
              Parameter("double", .boolean, default: "true", "quantize the scales too"),
            ]), optional: true, "the options below")
        ], returns: "QuantizedTensor", example: "qlora.randn(64, 64):quantize{ type = \"nf4\" }"
      ) { call in
        let options = call.options("options")
        let kind = options.string("type").flatMap(FourBitKind.init) ?? .nf4
        let operand = try FourBit.quantize(
          try call.receiver(as: Tensor.self).contiguous(), kind: kind, blockSize: options.int("block") ?? 64,
          double: options.bool("double") ?? true, name: "tensor", category: .activations)
        return [.object(QuantizedTensor(operand))]
      },
    ]
  }

  var inPlaceMethods: [NativeFunction] {
    let operations: [(String, BinaryOperation)] = [
      ("add_", .add), ("sub_", .subtract), ("mul_", .multiply), ("div_", .divide),
    ]
    let other = Parameter("other", .oneOf([.object("Tensor"), .element]), "a tensor that broadcasts, or a number")
    return operations.map { name, operation in
      method(name, "\(name.dropLast()) in place; returns the tensor.", [other]) { tensor, call in
        try self.beginChange(tensor, name)
        // The result is f32, which would round integers.
        guard tensor.dtype.isFloat else {
          throw TensorError.badDType(operation: name, got: tensor.dtype, expected: [.f32, .bf16, .f16])
        }
        let result = try GradientMode.disabled { try binary(operation, tensor, try self.operand("other", of: call)) }
        guard result.shape == tensor.shape else {
          throw TensorError.shapeMismatch(operation: name, lhs: tensor.shape, rhs: result.shape)
        }
        try self.backend.copy(result, into: tensor)
        return tensor
      }
    } + [
      method("fill_", "Sets every element; returns the tensor.", [Parameter("value", .element, "the value")]) {
        tensor, call in
        try self.beginChange(tensor, "fill_")
        try self.fill(tensor, call["value"], "fill_")
        return tensor
      },
      method("copy_", "Copies the elements of another tensor.", [Parameter("source", .object("Tensor"), "from where")])
      {
        tensor, call in
        try self.beginChange(tensor, "copy_")
        let source = try call.object("source", as: Tensor.self)
        try self.backend.copy(try source.broadcasted(to: tensor.shape), into: tensor)
        return tensor
      },
    ]
  }
}

/// A 4-bit tensor as Lua sees it.
package final class QuantizedTensor: LuaObject {
  package static var luaClassName: String { "QuantizedTensor" }
  let operand: QuantizedOperand
  init(_ operand: QuantizedOperand) { self.operand = operand }
}

extension Engine {
  var quantizedClass: NativeClass {
    func property(_ name: String, _ type: String, _ doc: String, _ get: @escaping (QuantizedOperand) -> LuaValue)
      -> NativeProperty
    {
      NativeProperty(name, type, doc) { _, object in (object as? QuantizedTensor).map { get($0.operand) } ?? .nil }
    }
    return NativeClass(
      "QuantizedTensor", "A tensor in 4 bits with blockwise scales.",
      properties: [
        property("type", "string", "nf4, fp4 or int4") { .string($0.kind.rawValue) },
        property("block", "integer", "elements per scale") { .integer($0.blockSize) },
        property("double", "boolean", "whether the scales are quantized") { .bool($0.nested != nil) },
        property("nbytes", "integer", "bytes of codes and scales") { .integer($0.byteCount) },
        property("bits_per_param", "number", "stored bits per element") { .number($0.bitsPerParameter) },
      ],
      methods: [
        NativeFunction(
          "dequantize", "The values codebook[code] * scale.",
          [Parameter("dtype", .string, optional: true, "f32 (default), bf16 or f16")], returns: "Tensor"
        ) { call in
          let name = call["dtype"].asString ?? "f32"
          guard let dtype = DType(name: name), dtype.isFloat else {
            throw call.invalid("unknown float dtype '\(name)'")
          }
          let operand = try call.receiver(as: QuantizedTensor.self).operand
          return [self.value(try operand.dequantized(to: dtype), call.state)]
        },
        NativeFunction("codes", "The packed bytes, two codes each, the earlier in the high half.", returns: "Tensor") {
          call in
          [self.value(try call.receiver(as: QuantizedTensor.self).operand.codes.copied(), call.state)]
        },
        NativeFunction("absmax", "The scales as f32.", returns: "Tensor") { call in
          [self.value(try call.receiver(as: QuantizedTensor.self).operand.scales().copied(), call.state)]
        },
      ])
  }
}
