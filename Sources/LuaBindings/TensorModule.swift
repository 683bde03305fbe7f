import Formats
import Glibc
import LuaRuntime
import Tensors

extension Engine {
  /// Creation of tensors and settings of the engine.
  var tensorModule: NativeModule {
    let sizes = Parameter("sizes", .oneOf([.integer, .table]), "sizes, as numbers or a table")
    func maker(_ name: String, _ doc: String, _ fill: @escaping (Tensor) throws -> Void) -> NativeFunction {
      NativeFunction(name, doc, [sizes], returns: "Tensor", example: "qlora.\(name)(2, 3)") { call in
        let tensor = try Tensor(empty: try self.shape(call), on: self.backend)
        try fill(tensor)
        return [self.value(tensor, call.state)]
      }
    }
    return NativeModule(
      "Tensors.",
      [
        NativeFunction(
          "tensor", "A tensor from nested tables of numbers.",
          [
            Parameter("values", .oneOf([.table, .element]), "numbers, or tables of equal length"),
            Parameter(
              "options",
              .options([
                Parameter(
                  "dtype", .string, default: "\"f32\"", choices: DType.allCases.map(\.name),
                  "element type of the result")
              ]), optional: true, "the options below"),
          ], returns: "Tensor", example: "qlora.tensor{ {1, 2}, {3, 4} }"
        ) { call in [self.value(try self.tensor(call), call.state)] },
        maker("zeros", "All zeros, f32.") { try self.backend.fill($0, 0) },
        maker("ones", "All ones, f32.") { try self.backend.fill($0, 1) },
        maker("rand", "Uniform in [0, 1), from the seed.") { tensor in
          try self.backend.fillUniform(tensor, low: 0, high: 1, stream: self.nextStream("rand"))
        },
        maker("randn", "Normal, from the seed.") { tensor in
          try self.backend.fillNormal(tensor, mean: 0, deviation: 1, stream: self.nextStream("randn"))
        },
        NativeFunction(
          "full", "All one value, f32.",
          [Parameter("sizes", .table, "list of sizes"), Parameter("value", .element, "the value")],
          returns: "Tensor", example: "qlora.full({2, 2}, 7)"
        ) { call in
          let tensor = try Tensor(empty: try self.shape(call), on: self.backend)
          try self.backend.fill(tensor, try call.double("value"))
          return [self.value(tensor, call.state)]
        },
        NativeFunction(
          "arange", "0, 1, ... below the end, or from start by step, f32.",
          [
            Parameter("start", .number, "the end when it is the only argument"),
            Parameter("stop", .number, optional: true, "first value not included"),
            Parameter("step", .number, default: "1", "distance of two elements"),
          ], returns: "Tensor", example: "qlora.arange(5)"
        ) { call in
          let single = call["stop"].isNil
          let start = single ? 0 : try call.double("start")
          let stop = single ? try call.double("start") : try call.double("stop")
          let step = call["step"].asDouble ?? 1
          return [self.value(try Tensor(from: start, to: stop, by: step, on: self.backend), call.state)]
        },
        NativeFunction(
          "eye", "The unit matrix, f32.", [Parameter("size", .whole(0...32768), "number of rows")], returns: "Tensor",
          example: "qlora.eye(3)"
        ) { call in
          [self.value(try Tensor(identity: try call.int("size"), on: self.backend), call.state)]
        },
        NativeFunction(
          "cat", "Joins tensors along a dimension.",
          [
            Parameter("tensors", .table, "list of tensors"),
            Parameter("dimension", .integer, default: "1", "the dimension, counted from 1"),
          ],
          returns: "Tensor", example: "qlora.cat({ qlora.ones(1, 2), qlora.zeros(1, 2) }, 1)"
        ) { call in [self.value(try self.join(call, stacks: false), call.state)] },
        NativeFunction(
          "stack", "Joins tensors along a new dimension.",
          [
            Parameter("tensors", .table, "list of tensors"),
            Parameter("dimension", .integer, default: "1", "the dimension, counted from 1"),
          ],
          returns: "Tensor", example: "qlora.stack{ qlora.ones(2), qlora.zeros(2) }"
        ) { call in [self.value(try self.join(call, stacks: true), call.state)] },
        NativeFunction(
          "load_tensors", "The tensors of a safetensors file by name.",
          [Parameter("path", .string, "a .safetensors file")],
          returns: "table<string, Tensor>"
        ) {
          call in
          let file = try SafetensorsFile(path: try self.placeToRead(try call.string("path")))
          let table = call.state.newTable()
          for entry in file.entries {
            guard let dtype = entry.type.dtype else {
              throw FormatError.unsupportedType(
                path: file.path, tensor: entry.name, type: entry.type.rawValue, supported: DType.allCases.map(\.name))
            }
            let tensor = try Tensor(empty: entry.shape, dtype: dtype, on: self.backend)
            let bytes = try file.bytes(of: entry.name)
            try withExtendedLifetime(file) { try tensor.write(bytes) }
            table[entry.name] = self.value(tensor, call.state)
          }
          return [.table(table)]
        },
        NativeFunction(
          "save_tensors", "Writes tensors as a safetensors file, whole or not at all.",
          [Parameter("path", .string, "file to write"), Parameter("tensors", .table, "tensors by name")]
        ) { call in
          let items = try call.table("tensors").pairs.map { key, value -> SafetensorsWriter.Item in
            guard let name = key.asString, case .object(let object) = value, let tensor = object as? Tensor else {
              throw call.invalid("a table of names and tensors expected")
            }
            return SafetensorsWriter.Item(name: name, dtype: tensor.dtype, shape: tensor.shape) { sink in
              try tensor.contiguous().withHostBytes { try sink($0) }
            }
          }
          let path = try self.placeToSave(try call.string("path"))
          try self.byFirst(call) { try SafetensorsWriter.write(path: path, items) }
          return []
        },
        NativeFunction(
          "seed", "Sets the seed of random tensors, adapters and dropout.", [Parameter("seed", .integer, "any integer")]
        ) {
          call in
          self.seed = UInt64(bitPattern: Int64(try call.int("seed")))
          self.randomDraws = 0
          return []
        },
        NativeFunction(
          "threads", "Number of worker threads; sets it first when given.",
          [Parameter("count", .whole(1...1024), optional: true, "the new number")], returns: "integer"
        ) { call in
          if let count = call["count"].asInt {
            try self.backend.setThreadCount(count)
          }
          return [.integer(self.backend.threadCount)]
        },
        NativeFunction("memory", "Bytes in use, by category, and of the process.", returns: "table") { call in
          [self.memoryTable(call.state)]
        },
        cpuFunction,
      ] + tensorFunctions)
  }

  private func shape(_ call: Call) throws -> [Int] {
    if let list = call["sizes"].asTable?.integers() { return list }
    let numbers = call.arguments.map(\.asInt)
    guard numbers.allSatisfy({ $0 != nil }) else { throw call.invalid("sizes must be integers") }
    return numbers.compactMap { $0 }
  }

  private func tensor(_ call: Call) throws -> Tensor {
    let dtype = call.options("options").string("dtype").flatMap { DType(name: $0) } ?? .f32
    var (shape, floats, integers): ([Int], [Float], [Int]) = ([], [], [])
    func add(_ value: LuaValue, _ number: Double) throws {
      if let range = dtype.integers {
        integers.append(try integer(value, in: range, of: dtype, call.function))
      } else {
        floats.append(Float(number))
      }
    }
    func visit(_ value: LuaValue, _ depth: Int) throws {
      if let number = value.asDouble {
        guard depth == shape.count else { throw call.invalid("rows have different depths") }
        return try add(value, number)
      }
      guard let list = value.asTable, depth < 8 else {
        throw call.invalid("a table of numbers expected, got \(value.typeName)")
      }
      let elements = list.elements
      if depth == shape.count {
        guard floats.isEmpty, integers.isEmpty else { throw call.invalid("rows have different depths") }
        shape.append(elements.count)
      }
      guard shape[depth] == elements.count else {
        throw call.invalid("rows have different lengths: \(shape[depth]) and \(elements.count)")
      }
      for element in elements { try visit(element, depth + 1) }
      guard list.isList else {
        throw call.invalid(
          "a list has no keys but 1 to \(elements.count); options such as dtype stand in a second table")
      }
    }
    try visit(call["values"], 0)
    let wanted = shape.isEmpty ? [1] : shape
    let wide =
      try dtype.isFloat
      ? Tensor(floats, shape: wanted, on: backend) : Tensor(integers: integers, shape: wanted, on: backend)
    return dtype == wide.dtype ? wide : try wide.converted(to: dtype)
  }

  private func join(_ call: Call, stacks: Bool) throws -> Tensor {
    let parts = try call.table("tensors").elements.map { value -> Tensor in
      guard case .object(let object) = value, let tensor = object as? Tensor else {
        throw call.invalid("a list of tensors expected, got \(value.typeName)")
      }
      return tensor
    }
    let rank = (parts.first?.rank ?? 0) + (stacks ? 1 : 0)
    let axis = try axis(call["dimension"].isNil ? .integer(1) : call["dimension"], max(1, rank), call.function)
    return try joined(parts, axis: axis, stacks: stacks)
  }
}
