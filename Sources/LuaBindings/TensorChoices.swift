import Autograd
import LuaRuntime
import Tensors

/// Methods of Tensor that choose, order and sum up along a dimension, and sums of products by name.
extension Engine {
  private static let optionalDimension = Parameter(
    "dimension", .integer, optional: true, "counted from 1; all elements when omitted")

  var choiceMethods: [NativeFunction] {
    let dimension = Parameter("dimension", .integer, "counted from 1, or from the end when negative")
    let index = Parameter(
      "index", .object("Tensor"), "integers from 1, of the tensor's number of dimensions, such as sort returns")
    func axis(_ call: Call, _ tensor: Tensor) throws -> Int {
      try self.axis(call["dimension"], tensor.rank, call.function)
    }
    func positions(_ call: Call) throws -> Tensor { try call.object("index", as: Tensor.self).shifted(by: -1) }
    let puts: [(name: String, adds: Bool, doc: String)] = [
      (
        "scatter", false,
        "A copy with the elements of a source put where an index names; of several for one place the last."
      ),
      ("scatter_add", true, "A copy with the elements of a source added where an index names."),
    ]
    return [
      NativeFunction(
        "gather",
        "The elements that an index names along a dimension, in its shape, f32: along 1 y[i][j] = x[index[i][j]][j].",
        [dimension, index], returns: "Tensor"
      ) { call in
        let x = try call.receiver(as: Tensor.self)
        return [self.value(try gather(x, axis: try axis(call, x), index: try positions(call)), call.state)]
      },
      NativeFunction("cumsum", "The sum of the elements up to each, f32.", [dimension], returns: "Tensor") { call in
        let x = try call.receiver(as: Tensor.self)
        return [self.value(try cumulativeSum(x, axis: try axis(call, x)), call.state)]
      },
      NativeFunction(
        "sort",
        "The elements along a dimension in order, f32, and their positions from 1, i64. Equal ones stay "
          + "in theirs, NaN is largest.",
        [
          Parameter("dimension", .integer, default: "-1", "counted from 1, or from the end when negative"),
          Parameter("descending", .boolean, default: "false", "the largest first"),
        ], returns: "Tensor, Tensor"
      ) { call in
        let x = try call.receiver(as: Tensor.self)
        let place = call["dimension"].isNil ? LuaValue.integer(-1) : call["dimension"]
        let (values, positions) = try sort(
          x, axis: try self.axis(place, x.rank, "sort"), descending: call["descending"].asBool ?? false)
        return [self.value(values, call.state), self.value(try positions.shifted(by: 1), call.state)]
      },
    ]
      + puts.map { name, adds, doc in
        NativeFunction(
          name, doc + " f32.", [dimension, index, Parameter("source", .object("Tensor"), "of the index's shape")],
          returns: "Tensor"
        ) { call in
          let x = try call.receiver(as: Tensor.self)
          let source = try call.object("source", as: Tensor.self)
          return [
            self.value(
              try scatter(x, axis: try axis(call, x), index: try positions(call), source, adds: adds), call.state)
          ]
        }
      }
  }

  var spreadMethods: [NativeFunction] {
    let spreads: [(name: String, isDeviation: Bool, doc: String)] = [
      ("var", false, "Mean square of the distance from the mean, f32."),
      ("std", true, "Standard deviation, f32. Its gradient where it is 0 is 0."),
    ]
    return spreads.map { name, isDeviation, doc in
      NativeFunction(
        name, doc,
        [
          Self.optionalDimension,
          Parameter("correction", .amount, default: "1", "what the number of elements is lessened by as a divisor"),
        ], returns: "Tensor"
      ) { call in
        let x = try call.receiver(as: Tensor.self)
        let axis = try call["dimension"].isNil ? nil : self.axis(call["dimension"], x.rank, name)
        return [
          self.value(
            try variance(x, axis: axis, correction: call["correction"].asInt ?? 1, isDeviation: isDeviation), call.state
          )
        ]
      }
    } + [
      NativeFunction(
        "norm",
        "Square root of the sum of squares of all elements, as a number. With a dimension a "
          + "tensor, with gradients: the p-th root of the sum of p-th powers along it, or the "
          + "largest size for math.huge.",
        [
          Parameter("dimension", .integer, optional: true, "counted from 1, or from the end when negative"),
          Parameter("p", .element, default: "2", "above 0"),
        ], returns: "number|Tensor"
      ) { call in
        let x = try call.receiver(as: Tensor.self)
        guard !call["dimension"].isNil else {
          guard call["p"].isNil else { throw call.invalid("p needs a dimension; view(-1):norm(1, p) is that of all") }
          return [.number(try self.backend.sumOfSquares([x.contiguous()]).squareRoot())]
        }
        let axis = try self.axis(call["dimension"], x.rank, "norm")
        return [self.value(try norm(x, axis: axis, p: call["p"].asDouble ?? 2), call.state)]
      }
    ]
  }

  var decompositionMethods: [NativeFunction] {
    [
      NativeFunction(
        "qr",
        "q with orthonormal columns and an upper triangular r of positive diagonal, x = q r, of a matrix "
          + "with at least as many rows as columns; f32.", returns: "Tensor, Tensor"
      ) { call in
        let (q, r) = try orthogonalFactors(try call.receiver(as: Tensor.self))
        return [self.value(q, call.state), self.value(r, call.state)]
      },
      NativeFunction(
        "svd",
        "u, s and v of a matrix, x = u diag(s) v^T with s descending, f32. The signs of vectors are free; their "
          + "gradients are not finite where two values are equal.", returns: "Tensor, Tensor, Tensor"
      ) { call in
        let (u, s, v) = try singularValues(try call.receiver(as: Tensor.self))
        return [self.value(u, call.state), self.value(s, call.state), self.value(v, call.state)]
      },
    ]
  }

  /// Functions of several tensors.
  var tensorFunctions: [NativeFunction] {
    let operand = ParameterType.oneOf([.object("Tensor"), .element])
    return [
      NativeFunction(
        "where", "Elements of `a` where the condition is not 0, else of `b`, with broadcasting, f32.",
        [
          Parameter("condition", .object("Tensor"), "such as x:gt(0)"), Parameter("a", operand, "a tensor or a number"),
          Parameter("b", operand, "a tensor or a number"),
        ], returns: "Tensor", example: "qlora.where(qlora.tensor{1, 0}, qlora.ones(2), -1)"
      ) { call in
        let condition = try call.object("condition", as: Tensor.self)
        let y = try choose(condition, try self.operand("a", of: call), try self.operand("b", of: call))
        return [self.value(y, call.state)]
      },
      NativeFunction(
        "einsum",
        "A sum of products by names of dimensions, f32: what the result does not name is summed over. Operands are "
          + "contracted from left to right.",
        [
          Parameter("equation", .string, "such as \"ti,ri->tr\"; each name once in an operand"),
          Parameter("tensors", .table, "list of tensors"),
        ], returns: "Tensor", example: "qlora.einsum(\"ij,kj->ik\", { qlora.ones(2, 3), qlora.ones(4, 3) })"
      ) { call in
        let tensors = try call.table("tensors").elements.map { value -> Tensor in
          guard case .object(let object) = value, let tensor = object as? Tensor else {
            throw call.invalid("a list of tensors expected, got \(value.typeName)")
          }
          return tensor
        }
        return [self.value(try einsum(try call.string("equation"), tensors), call.state)]
      },
    ]
  }
}
