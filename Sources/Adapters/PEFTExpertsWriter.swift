import Formats
import Models
import Tensors

extension PEFTExperts {
  /// What of a model's adapters PEFT states so: LoRA on experts, on routers, and on modules whose names PEFT takes for
  /// those of the experts' matrices. nil where there is none; other methods have no such form.
  init?(stating model: LanguageModel) {
    let roles = Set(model.modules.filter(\.isExpert).map(\.role))
    self.init(model) { _, modules in
      modules.contains { module in
        module.adapter?.method is LoRA && (module.isExpert || module.isRouter || roles.contains(module.role))
      }
    }
    if isEmpty { return nil }
  }

  /// The settings by the names that PEFT's patterns match. PEFT has no dropout there, and refuses a file with any.
  var methods: [(module: String, method: LoRA)] {
    stacks.compactMap { stack in stack.method.map { (stack.parameter, $0) } }
      + matrices.compactMap { matrix in
        matrix.module.stated.map { method in
          var own = method
          own.dropout = 0
          return (matrix.parameter, own)
        }
      }
  }

  /// `target_parameters`: the end of a name where all that end so are meant, else whole names.
  func targets(_ model: LanguageModel) -> [String] {
    let all = PEFTExperts(model) { _, _ in true }
    var counts: [String: Int] = [:]
    func short(_ name: String) -> String {
      name.firstRange(of: ".mlp.").map { "mlp." + name[$0.upperBound...] } ?? name
    }
    for name in all.parameters { counts[short(name), default: 0] += 1 }
    for name in parameters { counts[short(name), default: 0] -= 1 }
    return Set(parameters.map { counts[short($0)] == 0 ? short($0) : $0 }).sorted()
  }
}

extension PEFTExperts.Matrix {
  /// A and B by PEFT's names.
  func tensors(_ model: LanguageModel) throws -> [(name: String, tensor: Tensor)] {
    guard let adapter = try module.adapter.map({ try LoRA.ofOriginalBase($0, model) }) else { return [] }
    return zip([LoRA.nameOfA, LoRA.nameOfB], adapter.tensors).map { ("\(key).\($0)", $1) }
  }
}

extension PEFTExperts.Stack {
  /// That of all modules together: the largest rank for each part with an adapter, and the largest scaling.
  var method: LoRA? {
    let own = modules.compactMap(\.stated)
    guard var method = own.max(by: { abs($0.scaling) < abs($1.scaling) }) else { return nil }
    let (scaling, rank) = (method.scaling, own.map(\.rank).max() ?? 1), count = parts.count
    // Twice an alpha is exact; the quotient may not be.
    let isExact = method.rank == rank && !method.rankStabilised
    method.rank = rank * count
    method.alpha =
      isExact
      ? method.alpha * Double(count)
      : scaling * (method.rankStabilised ? Double(method.rank).squareRoot() : Double(method.rank))
    method.dropout = 0
    return method
  }

  /// Which modules of an expert have an adapter in any expert.
  private var parts: [Int] {
    experts[0].indices.filter { part in experts.contains { $0[part].adapter != nil } }
  }

  /// A and B by PEFT's names.
  func tensors(_ model: LanguageModel) throws -> [(name: String, shape: [Int], make: () throws -> [Float])] {
    guard let method else { return [] }
    let (rank, count) = (method.rank, experts.count)
    return [
      ("\(key).\(LoRA.nameOfA)", [rank * count, width], { try self.inputs(rank, model) }),
      ("\(key).\(LoRA.nameOfB)", [height, rank * count], { try self.outputs(method, model) }),
    ]
  }

  private func inputs(_ rank: Int, _ model: LanguageModel) throws -> [Float] {
    try experts.flatMap { modules in
      try parts.flatMap { part in
        let rows = try modules[part].statedAdapter(model)?.tensors[0].floats() ?? []
        return rows + [Float](repeating: 0, count: rank / parts.count * width - rows.count)
      }
    }
  }

  private func outputs(_ method: LoRA, _ model: LanguageModel) throws -> [Float] {
    let (rank, count, block) = (method.rank, experts.count, method.rank / parts.count)
    var values = [Float](repeating: 0, count: height * rank * count)
    for (expert, modules) in experts.enumerated() {
      var firstRow = 0
      for (part, module) in modules.enumerated() {
        defer { firstRow += module.outFeatures }
        guard let place = parts.firstIndex(of: part), let adapter = try module.statedAdapter(model),
          let own = adapter.method as? LoRA
        else { continue }
        let b = try adapter.tensors[1].floats()
        let factor = own.scaling == method.scaling ? 1 : own.scaling / method.scaling
        for row in 0..<module.outFeatures {
          for column in 0..<own.rank {
            values[((firstRow + row) * rank + place * block + column) * count + expert] =
              Float(Double(b[row * own.rank + column]) * factor)
          }
        }
      }
    }
    return values
  }
}

extension Module {
  /// Settings of its LoRA as an adapter of the unchanged base; nil without one.
  fileprivate var stated: LoRA? { adapter.flatMap(LoRA.methodOfOriginalBase) }

  fileprivate func statedAdapter(_ model: LanguageModel) throws -> Adapter? {
    try adapter.map { try LoRA.ofOriginalBase($0, model) }
  }
}
