import Formats
import Models
import Tensors

extension PEFTExperts {
  /// What `target_parameters` of a configuration means; nothing where it is absent.
  /// - Throws: `AdapterError.badField`, `.unsupported` for a parameter that is neither of experts nor the weight of a
  ///   linear module.
  init(_ configuration: JSON, _ model: LanguageModel, path: String) throws {
    let field = "target_parameters"
    let value = configuration[field]?.unlessNull
    let names = try (value?.array ?? (value == nil ? [] : [.null])).map { name in
      guard let name = name.string else {
        throw AdapterError.badField(path: path, field: field, expected: "a list of names")
      }
      return name
    }
    func matches(_ parameter: String, _ name: String) -> Bool { parameter == name || parameter.hasSuffix("." + name) }
    self.init(model) { parameter, _ in names.contains { matches(parameter, $0) } }
    for name in names where !parameters.contains(where: { matches($0, name) }) {
      throw AdapterError.unsupported(path: path, field: field, value: "\"\(name)\"")
    }
    guard names.isEmpty || configuration["peft_type"] == .string(LoRA.peftType) else {
      throw AdapterError.unsupported(path: path, field: field, value: "beside another method than LoRA")
    }
  }

  /// The keys of the file that belong to these, without PEFT's prefix.
  var keys: Set<String> {
    Set((stacks.map(\.key) + matrices.map(\.key)).flatMap { ["\($0).\(LoRA.nameOfA)", "\($0).\(LoRA.nameOfB)"] })
  }

  /// Adapters for all modules of these.
  /// - Parameters:
  ///   - configuration: adapter_config.json; dropout in it is an error, as in PEFT.
  ///   - path: of the configuration.
  ///   - read: a tensor of the file, with this shape.
  /// - Returns: each module with the settings and the tensors of its adapter.
  /// - Throws: `AdapterError.unsupported`, `.badField`; what `read` throws; `TensorError.outOfMemory`.
  func adapters(
    _ configuration: JSON, path: String, read: (_ key: String, _ shape: [Int]) throws -> Tensor
  ) throws -> [(Module, LoRA, [Tensor])] {
    guard !isEmpty else { return [] }
    let (usual, _, method) = try LoRA.settings(configuration, path: path)
    var made: [(Module, LoRA, [Tensor])] = []
    func settings(_ parameter: String) throws -> LoRA {
      let own = try method([parameter])
      guard own.dropout == 0 else {
        throw AdapterError.unsupported(
          path: path, field: "lora_dropout", value: "\(own.dropout) beside target_parameters")
      }
      return own
    }
    for matrix in matrices {
      let own = try settings(matrix.parameter), module = matrix.module
      let a = try read("\(matrix.key).\(LoRA.nameOfA)", [own.rank, module.inFeatures])
      made.append((module, own, [a, try read("\(matrix.key).\(LoRA.nameOfB)", [module.outFeatures, own.rank])]))
    }
    for stack in stacks {
      let own = try settings(stack.parameter), count = stack.experts.count
      let a = try read("\(stack.key).\(LoRA.nameOfA)", [own.rank * count, stack.width])
      let b = try read("\(stack.key).\(LoRA.nameOfB)", [stack.height, own.rank * count])
      made += try stack.parts(own, usualRank: usual, a, b)
    }
    return made
  }
}

extension PEFTExperts.Stack {
  /// The pair of each module. Where gate and up are modules of their own, both have all rows of A: or, if B is zero
  /// outside of two blocks, each its half, which is how it was made. Where a block is zero too, as in an adapter that
  /// was not trained, the rank must be twice the usual one.
  fileprivate func parts(
    _ whole: LoRA, usualRank: Int, _ a: Tensor, _ b: Tensor
  ) throws -> [(Module, LoRA, [Tensor])] {
    let (rank, count, parts, backend) = (whole.rank, experts.count, experts[0].count, a.backend)
    let (rowsOfA, rowsOfB) = (try a.floats(), try b.floats())
    func element(_ expert: Int, _ row: Int, _ column: Int) -> Float { rowsOfB[(row * rank + column) * count + expert] }
    func isZero(_ rows: Range<Int>, _ columns: Range<Int>) -> Bool {
      rows.allSatisfy { row in
        columns.allSatisfy { column in (0..<count).allSatisfy { element($0, row, column) == 0 } }
      }
    }
    let half = rank / 2, gate = experts[0][0].outFeatures
    let isSplit =
      parts == 2 && rank.isMultiple(of: 2) && isZero(0..<gate, half..<rank) && isZero(gate..<height, 0..<half)
      && (rank == 2 * usualRank || !isZero(0..<gate, 0..<half) && !isZero(gate..<height, half..<rank))
    var own = whole
    if isSplit {
      own.rank = half
      own.alpha = whole.rankStabilised ? whole.scaling * Double(half).squareRoot() : whole.alpha / 2
    }
    func tensor(_ values: [Float], _ shape: [Int]) throws -> Tensor {
      let tensor = try Tensor(empty: shape, category: .adapters, on: backend)
      try values.withUnsafeBytes { bytes in try tensor.withMutableHostBytes { $0.copyMemory(from: bytes) } }
      return tensor
    }
    return try experts.enumerated().flatMap { expert, modules in
      var firstRow = 0
      return try modules.enumerated().map { part, module in
        let first = isSplit ? part * half : 0
        let rows = firstRow..<firstRow + module.outFeatures
        firstRow = rows.upperBound
        let start = (expert * rank + first) * width
        let a = try tensor(Array(rowsOfA[start..<start + own.rank * width]), [own.rank, width])
        let values = rows.flatMap { row in (first..<first + own.rank).map { element(expert, row, $0) } }
        return (module, own, [a, try tensor(values, [module.outFeatures, own.rank])])
      }
    }
  }
}
